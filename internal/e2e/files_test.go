package e2e_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"example.com/gatehouse/internal/gcp/bucket/buckettest"
	"example.com/gatehouse/internal/geminitest"
)

// A deployment with a bucket, from its environment to the model and back.
func TestFiles(t *testing.T) {
	t.Parallel()
	storage := buckettest.Start(t)
	storage.Put("papers/report.txt", buckettest.Object{MediaType: "text/plain", Data: []byte("A report.")})
	s, gemini := startGemini(t, "FILES_BUCKET=files", "FILE_BUCKETS=papers", "STORAGE_EMULATOR_HOST="+storage.Endpoint)
	gemini.Enqueue(geminitest.Text("A long text."))
	large := bytes.Repeat([]byte("0123456789abcde\n"), 7<<16-1)
	status, body := send(t, s, map[string]any{"query": "What is this?", "files": []any{
		map[string]any{"type": "text/plain", "data": base64.StdEncoding.EncodeToString(large)}, map[string]any{"uri": "gs://papers/report.txt"},
	}})
	if status != http.StatusOK {
		t.Fatalf("%d %.300s", status, body)
	}
	var answer struct {
		Data struct {
			SessionID string `json:"session_id"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		t.Fatal(err)
	}
	sent, _ := json.Marshal(gemini.Requests()[0].Body["contents"])
	for _, content := range [][]byte{large, []byte("A report.")} {
		if !bytes.Contains(sent, []byte(base64.StdEncoding.EncodeToString(content))) {
			t.Errorf("the model is not sent a file of %d bytes", len(content))
		}
	}
	kept := 0
	for path, o := range storage.Objects() {
		if strings.HasPrefix(path, "files/") && bytes.Equal(o.Data, large) {
			kept++
		}
	}
	if kept != 1 {
		t.Errorf("%d files are kept", kept)
	}
	status, body = send(t, s, map[string]any{"query": "q", "files": []any{map[string]any{"uri": "gs://others/report.txt"}}})
	if status != http.StatusUnprocessableEntity || !bytes.Contains(body, []byte(`"field":"files[0].uri"`)) {
		t.Errorf("somebody else's bucket: %d %s", status, body)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, s.URL+"/sessions", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if left := storage.Objects(); response.StatusCode != http.StatusNoContent || len(left) != 1 {
		t.Errorf("after deleting all: %d, %d objects", response.StatusCode, len(left))
	}
}

func send(t *testing.T, s *service, body any) (int, []byte) {
	t.Helper()
	raw, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+"/invoke", bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	got, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, got
}
