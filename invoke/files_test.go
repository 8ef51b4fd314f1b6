package invoke_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"image"
	"image/png"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/internal/files"
	"example.com/gatehouse/internal/gcp/bucket"
	"example.com/gatehouse/internal/gcp/bucket/buckettest"
	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/internal/telemetry"
	"example.com/gatehouse/invoke"
	"example.com/gatehouse/session"
	"example.com/gatehouse/tool"
)

// picture returns a PNG of one color.
func picture(t testing.TB, size int) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, size, size))); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func encoded(data []byte) string { return base64.StdEncoding.EncodeToString(data) }

// withFiles has a service accept files: up to 7 MiB, and objects of the bucket "papers".
// With storage, it keeps them in the bucket "files".
func withFiles(t testing.TB, storage *buckettest.Server, keep bool, edits ...func(*invoke.Config)) func(*invoke.Config) {
	t.Helper()
	return func(c *invoke.Config) {
		types, err := files.ParseTypes(files.Default)
		if err != nil {
			t.Fatal(err)
		}
		c.Files = invoke.Files{Types: types, MaxBytes: 7 << 20, TTL: 720 * time.Hour, Buckets: []string{"papers"}}
		if storage != nil {
			client, err := bucket.New(t.Context(), storage.Endpoint)
			if err != nil {
				t.Fatal(err)
			}
			c.Files.Read = client.Read
			if keep {
				c.Files.Store = client.Bucket("files")
			}
		}
		for _, edit := range edits {
			edit(c)
		}
	}
}

func reader() agent.Agent { return agent.Agent{Name: "reader", MaxTokens: 100} }

// partsOf returns the parts of the request's content i; negative counts from the end.
func partsOf(t testing.TB, r geminitest.Request, i int) []map[string]any {
	t.Helper()
	contents := r.Contents()
	if i < 0 {
		i += len(contents)
	}
	var parts []map[string]any
	for _, p := range contents[i]["parts"].([]any) {
		parts = append(parts, p.(map[string]any))
	}
	return parts
}

type fileAnswer struct {
	Data struct {
		Response  string
		SessionID string `json:"session_id"`
		Files     []invoke.File
		Warnings  []string
		Usage     struct {
			PromptTokens int64 `json:"prompt_tokens"`
		}
	}
	Message string
	Error   string
	Details []struct{ Field, Issue string }
}

func askFiles(t testing.TB, server *httptest.Server, path, body string, headers ...string) (int, fileAnswer, string) {
	t.Helper()
	status, text := ask(t.(*testing.T), server, path, body, headers...)
	var a fileAnswer
	if err := json.Unmarshal([]byte(text), &a); err != nil {
		t.Fatalf("%d %.300s", status, text)
	}
	return status, a, text
}

func fetch(t testing.TB, server *httptest.Server, method, path string, body ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, strings.NewReader(strings.Join(body, "")))
	if err != nil {
		t.Fatal(err)
	}
	if len(body) > 0 {
		r.Header.Set("Content-Type", "application/json")
	}
	response, err := server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	raw, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response, string(raw)
}

func TestFilesWithoutABucketServeInTheirOwnTurn(t *testing.T) {
	t.Parallel()
	gemini := geminitest.Start(t)
	server, written := serveAgent(t, newMemory(), gemini, reader(), withFiles(t, nil, false))
	gemini.Enqueue(geminitest.Text("A square."), geminitest.Text("It was grey."))
	data := picture(t, 30)
	status, a, text := askFiles(t, server, "/invoke", `{"query":"What is this?","files":[{"type":"image/png","data":"`+encoded(data)+`"},{"type":"text/csv","data":"`+encoded([]byte("a,b\n"))+`"}]}`)
	if status != 200 || a.Data.Response != "A square." {
		t.Fatalf("%d %s", status, text)
	}
	sent := partsOf(t, gemini.Requests()[0], -1)
	inline, _ := sent[1]["inlineData"].(map[string]any)
	if len(sent) != 3 || sent[0]["text"] != "What is this?" || inline["mimeType"] != "image/png" || inline["data"] != encoded(data) {
		t.Errorf("sent: %.300v", sent)
	}
	status, _, text = askFiles(t, server, "/invoke", `{"query":"Which color?","session_id":"`+a.Data.SessionID+`"}`)
	if status != 200 {
		t.Fatalf("%d %s", status, text)
	}
	later := partsOf(t, gemini.Requests()[1], 0)
	if note, _ := later[1]["text"].(string); later[0]["text"] != "What is this?" || note != fmt.Sprintf("[A file of the type image/png was here, %d bytes.]", len(data)) {
		t.Errorf("a later turn sees %v", later)
	}
	_, stored := fetch(t, server, http.MethodGet, "/sessions/"+a.Data.SessionID)
	if !strings.Contains(stored, `"query":"What is this?","files":[{"type":"image/png"},{"type":"text/csv"}]`) || strings.Contains(stored, encoded(data)) {
		t.Errorf("the session: %s", stored)
	}
	server.Close() // the log is written after the answer
	if strings.Contains(written.String(), encoded(data)[:24]) {
		t.Error("the log has the content")
	}
}

func TestFilesInABucket(t *testing.T) {
	t.Parallel()
	for name, byAddress := range map[string]bool{"a model that reads addresses": true, "a model that does not": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			gemini, storage := geminitest.Start(t), buckettest.Start(t)
			server, _ := serveAgent(t, newMemory(), gemini, reader(), withFiles(t, storage, true, func(c *invoke.Config) { c.Files.ByAddress = byAddress }))
			gemini.Enqueue(geminitest.Text("A square."), geminitest.Text("Grey."))
			data := picture(t, 30)
			body := `{"query":"What is this?","files":[{"type":"image/png","data":"` + encoded(data) + `"}]}`
			status, a, text := askFiles(t, server, "/invoke", body)
			if status != 200 {
				t.Fatalf("%d %s", status, text)
			}
			objects := storage.Objects()
			var path string
			for path = range objects {
				if o := objects[path]; o.MediaType != "image/png" || !bytes.Equal(o.Data, data) || time.Until(o.CustomTime).Round(time.Hour) != 1080*time.Hour {
					t.Errorf("%s: %s, %d bytes, %v", path, o.MediaType, len(o.Data), o.CustomTime)
				}
			}
			if len(objects) != 1 || strings.Contains(path, a.Data.SessionID) || strings.Count(path, "/") != 3 {
				t.Fatalf("objects: %v", path)
			}
			if inline, _ := partsOf(t, gemini.Requests()[0], -1)[1]["inlineData"].(map[string]any); inline["data"] != encoded(data) {
				t.Error("the turn itself does not have the content")
			}
			if status, _, text := askFiles(t, server, "/invoke", `{"query":"Which color?","session_id":"`+a.Data.SessionID+`"}`); status != 200 {
				t.Fatalf("%d %s", status, text)
			}
			later := partsOf(t, gemini.Requests()[1], 0)[1]
			reference, _ := later["fileData"].(map[string]any)
			inline, _ := later["inlineData"].(map[string]any)
			if byAddress && (reference["fileUri"] != "gs://"+path || reference["mimeType"] != "image/png") || !byAddress && inline["data"] != encoded(data) {
				t.Errorf("a later turn sees %.200v", later)
			}

			_, stored := fetch(t, server, http.MethodGet, "/sessions/"+a.Data.SessionID)
			uri := "/sessions/" + a.Data.SessionID + "/files/" + path[strings.LastIndexByte(path, '/')+1:]
			if !strings.Contains(stored, `"files":[{"type":"image/png","uri":"`+uri+`"}]`) || strings.Contains(stored, "gs://") {
				t.Errorf("the session: %s", stored)
			}
			response, got := fetch(t, server, http.MethodGet, uri)
			if response.StatusCode != 200 || got != string(data) || response.Header.Get("Content-Type") != "image/png" ||
				!strings.Contains(response.Header.Get("Content-Security-Policy"), "sandbox") || response.Header.Get("X-Content-Type-Options") != "nosniff" || response.Header.Get("Cache-Control") != "no-store" {
				t.Errorf("the file: %d, %d bytes, %v", response.StatusCode, len(got), response.Header)
			}
			if response, _ := fetch(t, server, http.MethodDelete, "/sessions/"+a.Data.SessionID); response.StatusCode != 204 {
				t.Errorf("deleting: %d", response.StatusCode)
			}
			if left := storage.Objects(); len(left) != 0 {
				t.Errorf("left: %v", left)
			}
			if response, _ := fetch(t, server, http.MethodGet, uri); response.StatusCode != 404 {
				t.Errorf("the file of a deleted session: %d", response.StatusCode)
			}
		})
	}
}

// What a caller may send, and what is refused before anything is stored or paid.
func TestBadFiles(t *testing.T) {
	t.Parallel()
	gemini, storage := geminitest.Start(t), buckettest.Start(t)
	storage.Put("papers/report.pdf", buckettest.Object{MediaType: "application/pdf", Data: []byte("%PDF-1.7 /Type /Page ")})
	storage.Put("papers/lie.pdf", buckettest.Object{MediaType: "application/pdf", Data: []byte("<html>")})
	storage.Put("papers/untyped.txt", buckettest.Object{MediaType: "application/octet-stream", Data: []byte("text")})
	storage.Put("papers/large.txt", buckettest.Object{MediaType: "text/plain", Data: bytes.Repeat([]byte("x"), 7<<20+1)})
	storage.Put("papers/half.txt", buckettest.Object{MediaType: "text/plain", Data: bytes.Repeat([]byte("x"), 7<<19)})
	storage.Put("others/secret.txt", buckettest.Object{MediaType: "text/plain", Data: []byte("secret")})
	server, _ := serveAgent(t, newMemory(), gemini, reader(), withFiles(t, storage, true))
	png := encoded(picture(t, 3))
	mib := encoded(bytes.Repeat([]byte("x"), 1<<20))
	one := func(file string) string { return `{"query":"q","files":[` + file + `]}` }
	for _, tt := range []struct {
		name, body string
		status     int
		field      string
	}{
		{"an object", one(`{"uri":"gs://papers/report.pdf"}`), 200, ""},
		{"an object without a type", one(`{"uri":"gs://papers/untyped.txt"}`), 200, ""},
		{"eight files", one(strings.TrimSuffix(strings.Repeat(`{"type":"image/png","data":"`+png+`"},`, 8), ",")), 200, ""},
		{"no file", one(""), 200, ""},
		{"seven MiB", one(strings.TrimSuffix(strings.Repeat(`{"type":"text/plain","data":"`+mib+`"},`, 7), ",")), 200, ""},
		{"nine files", one(strings.TrimSuffix(strings.Repeat(`{"type":"image/png","data":"`+png+`"},`, 9), ",")), 422, "files"},
		{"eight MiB in eight files", one(strings.TrimSuffix(strings.Repeat(`{"type":"text/plain","data":"`+mib+`"},`, 8), ",")), 413, ""},
		{"a type that lies", one(`{"type":"image/jpeg","data":"` + png + `"}`), 422, "files[0]"},
		{"a lie in a large body", one(`{"type":"image/png","data":"` + mib + `"}`), 422, "files[0]"},
		{"a data URL", one(`{"type":"image/png","data":"data:image/png;base64,` + png + `"}`), 422, "files[0].data"},
		{"a data URL in a large body", one(`{"type":"text/plain","data":"` + mib + `"},{"type":"image/png","data":"data:image/png;base64,` + png + `"}`), 422, "files[1].data"},
		{"no base64", one(`{"type":"image/png","data":"%%%"}`), 422, "files[0].data"},
		{"base64 with a line break", one(`{"type":"image/png","data":"` + png[:8] + `\n` + png[8:] + `"}`), 422, "files[0].data"},
		{"no padding", one(`{"type":"text/plain","data":"eA"}`), 422, "files[0].data"},
		{"zero bytes", one(`{"type":"image/png","data":""}`), 422, "files[0]"},
		{"neither data nor address", one(`{"type":"image/png"}`), 422, "files[0]"},
		{"data and address", one(`{"type":"image/png","data":"` + png + `","uri":"gs://papers/report.pdf"}`), 422, "files[0]"},
		{"no type", one(`{"data":"` + png + `"}`), 422, "files[0].type"},
		{"a NUL in the type", one(`{"type":"image/png\u0000","data":"` + png + `"}`), 422, "files[0].type"},
		{"a type that is not accepted", one(`{"type":"text/html","data":"` + png + `"}`), 422, "files[0].type"},
		{"a very long type", one(`{"type":"` + strings.Repeat("a", 200) + `","data":"` + png + `"}`), 422, "files[0].type"},
		{"a very long address", one(`{"uri":"gs://papers/` + strings.Repeat("a", 1300) + `"}`), 422, "files[0].uri"},
		{"a member nobody knows", one(`{"type":"image/png","data":"` + png + `","name":"x"}`), 422, "files[0].name"},
		{"data that is a number", one(`{"type":"image/png","data":7}`), 422, "files[0].data"},
		{"files that are null", `{"query":"q","files":null}`, 422, "files"},
		{"files that are an object", `{"query":"q","files":{}}`, 422, "files"},
		{"somebody else's bucket", one(`{"uri":"gs://others/secret.txt"}`), 422, "files[0].uri"},
		{"the bucket of everybody's files", one(`{"uri":"gs://files/owner/session/x"}`), 422, "files[0].uri"},
		{"a path into another bucket", one(`{"uri":"gs://papers/../others/secret.txt"}`), 422, "files[0].uri"},
		{"an escaped path", one(`{"uri":"gs://papers/%2e%2e/others/secret.txt"}`), 422, "files[0].uri"},
		{"a host before the bucket", one(`{"uri":"gs://others@papers/secret.txt"}`), 422, "files[0].uri"},
		{"a web address", one(`{"uri":"https://storage.googleapis.com/papers/report.pdf"}`), 422, "files[0].uri"},
		{"an object that is not there", one(`{"uri":"gs://papers/none.pdf"}`), 422, "files[0].uri"},
		{"an object whose type lies", one(`{"uri":"gs://papers/lie.pdf"}`), 422, "files[0]"},
		{"an object said to be another type", one(`{"type":"image/png","uri":"gs://papers/report.pdf"}`), 422, "files[0]"},
		{"an object above the bound", one(`{"uri":"gs://papers/large.txt"}`), 413, ""},
		{"two objects within the bound", one(`{"uri":"gs://papers/half.txt"},{"uri":"gs://papers/half.txt"}`), 200, ""},
		{"three objects above the bound together", one(`{"uri":"gs://papers/half.txt"},{"uri":"gs://papers/half.txt"},{"uri":"gs://papers/untyped.txt"}`), 413, ""},
		{"a query above the bound, with a file", `{"query":"` + strings.Repeat("a", 1<<17) + `","files":[{"type":"image/png","data":"` + png + `"}]}`, 413, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := len(gemini.Requests())
			if tt.status == 200 {
				gemini.Enqueue(geminitest.Text("Yes."))
			}
			status, a, text := askFiles(t, server, "/invoke", tt.body)
			if status != tt.status || tt.field != "" && (len(a.Details) == 0 || a.Details[0].Field != tt.field) {
				t.Errorf("%d %.400s", status, text)
			}
			if asked := len(gemini.Requests()) > before; asked != (tt.status == 200) {
				t.Errorf("the model was asked: %t", asked)
			}
		})
	}
}

func TestNoFilesWhereNoneAreAccepted(t *testing.T) {
	t.Parallel()
	gemini := geminitest.Start(t)
	server, _ := serveAgent(t, newMemory(), gemini, reader())
	status, a, text := askFiles(t, server, "/invoke", `{"query":"q","files":[{"type":"image/png","data":"`+encoded(picture(t, 3))+`"}]}`)
	if status != 413 && (status != 422 || a.Details[0].Field != "files") {
		t.Errorf("%d %s", status, text)
	}
}

// Reservations and history weigh files as the model counts them.
func TestFilesWeighTheirTokens(t *testing.T) {
	t.Parallel()
	gemini, storage := geminitest.Start(t), buckettest.Start(t)
	server, _ := serveAgent(t, newMemory(), gemini, reader(), withFiles(t, storage, true, func(c *invoke.Config) { c.Files.ByAddress, c.HistoryTokens = true, 2000 }))
	count := func(text string, prompt int, files int) geminitest.Reply {
		return geminitest.Text(text).WithUsage(geminitest.Usage{Prompt: prompt, Output: 5}).WithPromptDetails("IMAGE", files)
	}
	gemini.Enqueue(count("A.", 270, 258), count("B.", 530, 516), count("C.", 800, 774), count("D.", 30, 0))
	id := ""
	for i, query := range []string{"one", "two", "three"} {
		body := `{"query":"` + query + `","files":[{"type":"image/png","data":"` + encoded(picture(t, 10+i)) + `"}]`
		if id != "" {
			body += `,"session_id":"` + id + `"`
		}
		status, a, text := askFiles(t, server, "/invoke", body+"}")
		if status != 200 {
			t.Fatalf("%d %s", status, text)
		}
		id = a.Data.SessionID
	}
	// Three pictures of 258 tokens fit in 2000: by the estimate of 1120 each only one
	// would, and by their bytes all.
	status, a, text := askFiles(t, server, "/invoke", `{"query":"four","session_id":"`+id+`"}`)
	if status != 200 || len(a.Data.Warnings) != 0 {
		t.Fatalf("%d %s", status, text)
	}
	last := gemini.Requests()[3]
	for i := range 3 {
		if parts := partsOf(t, last, 2*i); len(parts) != 2 || parts[1]["fileData"] == nil {
			t.Errorf("turn %d: %v", i+1, parts)
		}
	}
}

// A retry has the same digest; another file under the same key is another request.
func TestFilesAndIdempotency(t *testing.T) {
	t.Parallel()
	gemini := geminitest.Start(t)
	server, _ := serveAgent(t, newMemory(), gemini, reader(), withFiles(t, nil, false))
	gemini.Enqueue(geminitest.Text("A square."))
	body := func(size int) string {
		return `{"query":"What is this?","files":[{"type":"image/png","data":"` + encoded(picture(t, size)) + `"}]}`
	}
	for range 2 {
		if status, a, text := askFiles(t, server, "/invoke", body(3), "Idempotency-Key", "k"); status != 200 || a.Data.Response != "A square." {
			t.Fatalf("%d %s", status, text)
		}
	}
	if status, a, text := askFiles(t, server, "/invoke", body(4), "Idempotency-Key", "k"); status != 422 || a.Error != "idempotency_mismatch" {
		t.Errorf("%d %s", status, text)
	}
	if n := len(gemini.Requests()); n != 1 {
		t.Errorf("%d model calls", n)
	}
}

// A store that does not answer keeps a question from being asked, not an answer from
// going out.
func TestABucketThatIsAway(t *testing.T) {
	t.Parallel()
	gemini, storage := geminitest.Start(t), buckettest.Start(t)
	drawn := picture(t, 5)
	server, _ := serveAgent(t, newMemory(), gemini, reader(), withFiles(t, storage, true))
	storage.Fail(func(*http.Request) int { return 503 })
	status, a, text := askFiles(t, server, "/invoke", `{"query":"q","files":[{"type":"image/png","data":"`+encoded(drawn)+`"}]}`)
	if status != 503 || a.Error != "session_store_unavailable" || len(gemini.Requests()) != 0 {
		t.Errorf("%d %s", status, text)
	}
	if status, a, text := askFiles(t, server, "/invoke", `{"query":"q","files":[{"uri":"gs://papers/report.pdf"}]}`); status != 503 || a.Error != "session_store_unavailable" {
		t.Errorf("an object: %d %s", status, text)
	}
	gemini.Enqueue(geminitest.Parts(map[string]any{"inlineData": map[string]any{"mimeType": "image/png", "data": encoded(drawn)}}))
	status, a, text = askFiles(t, server, "/invoke", `{"query":"Draw a square."}`)
	if status != 200 || len(a.Data.Files) != 1 || !bytes.Equal(a.Data.Files[0].Data, drawn) {
		t.Fatalf("%d %s", status, text)
	}
	if response, body := fetch(t, server, http.MethodDelete, "/sessions/"+a.Data.SessionID); response.StatusCode != 503 {
		t.Errorf("deleting: %d %s", response.StatusCode, body)
	}
	storage.Fail(nil)
	if response, body := fetch(t, server, http.MethodDelete, "/sessions/"+a.Data.SessionID); response.StatusCode != 204 {
		t.Errorf("deleting again: %d %s", response.StatusCode, body)
	}
}

// A model's picture is a file of the answer: in JSON, in both streams, in the session,
// and in a replay.
func TestFilesOfTheModel(t *testing.T) {
	t.Parallel()
	drawn := picture(t, 5)
	reply := func() geminitest.Reply {
		return geminitest.Parts(map[string]any{"text": "Here it is."}, map[string]any{
			"inlineData": map[string]any{"mimeType": "image/png", "data": encoded(drawn)}, "thoughtSignature": "c2ln",
		})
	}
	for _, keep := range []bool{true, false} {
		t.Run(fmt.Sprintf("kept %t", keep), func(t *testing.T) {
			t.Parallel()
			gemini, storage := geminitest.Start(t), buckettest.Start(t)
			server, _ := serveAgent(t, newMemory(), gemini, reader(), withFiles(t, storage, keep, func(c *invoke.Config) { c.Files.ByAddress = true }))
			gemini.Enqueue(reply(), geminitest.Text("You are welcome."), reply(), reply())
			status, a, text := askFiles(t, server, "/invoke", `{"query":"Draw a square."}`, "Idempotency-Key", "k")
			if status != 200 || a.Data.Response != "Here it is." || len(a.Data.Files) != 1 || a.Data.Files[0].Type != "image/png" {
				t.Fatalf("%d %s", status, text)
			}
			if f := a.Data.Files[0]; keep != (f.URI != "") || keep == (f.Data != nil) {
				t.Errorf("the file: %+v", f)
			}
			if keep {
				if response, got := fetch(t, server, http.MethodGet, a.Data.Files[0].URI); response.StatusCode != 200 || got != string(drawn) {
					t.Errorf("reading it: %d", response.StatusCode)
				}
			}
			_, again, text := askFiles(t, server, "/invoke", `{"query":"Draw a square."}`, "Idempotency-Key", "k")
			if again.Data.Response != "Here it is." || len(again.Data.Files) != 1 || again.Data.Files[0].URI != a.Data.Files[0].URI || again.Data.Files[0].Data != nil {
				t.Errorf("replayed: %s", text)
			}
			if status, _, text := askFiles(t, server, "/invoke", `{"query":"Thanks.","session_id":"`+a.Data.SessionID+`"}`); status != 200 {
				t.Fatalf("%d %s", status, text)
			}
			answer := partsOf(t, gemini.Requests()[1], 1)
			if _, isReference := answer[1]["fileData"]; isReference != keep || answer[1]["thoughtSignature"] != "c2ln" {
				t.Errorf("a later turn sees %v", answer)
			}
			_, stored := fetch(t, server, http.MethodGet, "/sessions/"+a.Data.SessionID)
			if !strings.Contains(stored, `{"type":"file","file":{"type":"image/png"`) || strings.Contains(stored, encoded(drawn)) || !strings.Contains(stored, `"response":"Here it is."`) {
				t.Errorf("the session: %s", stored)
			}
			_, streamed := ask(t, server, "/invoke", `{"query":"Draw a square.","stream":true}`)
			want := "event: file\n"
			if !strings.Contains(streamed, want) || keep != strings.Contains(streamed, `"uri":"/sessions/`) {
				t.Errorf("the stream: %s", streamed)
			}
			_, chat := ask(t, server, "/chat", `{"id":"0123456789abcdef","messages":[{"role":"user","parts":[{"type":"text","text":"Draw a square."}]}]}`)
			url := "data:image/png;base64," + encoded(drawn)
			if keep {
				url = "/sessions/0123456789abcdef/files/"
			}
			if !strings.Contains(chat, `{"type":"file","url":"`+url) {
				t.Errorf("the page's stream: %s", chat)
			}
		})
	}
}

// What a model says of a file becomes a header and a path, so only what is one is kept. What it
// drew while it thought is no part of the answer.
func TestAModelsWordsOfItsFiles(t *testing.T) {
	t.Parallel()
	gemini, storage, drawn := geminitest.Start(t), buckettest.Start(t), picture(t, 5)
	server, _ := serveAgent(t, newMemory(), gemini, reader(), withFiles(t, storage, true, func(c *invoke.Config) { c.Files.ByAddress = true }))
	inline := func(mediaType, name string) map[string]any {
		return map[string]any{"mimeType": mediaType, "displayName": name, "data": encoded(drawn)}
	}
	gemini.Enqueue(geminitest.Parts(map[string]any{"inlineData": inline("image/gif", "draft"), "thought": true},
		map[string]any{"inlineData": inline("image/png\r\nX-Evil: 1", "a\x00b")}, map[string]any{"text": "Here it is."}), geminitest.Text("You are welcome."))
	status, a, text := askFiles(t, server, "/invoke", `{"query":"Draw a square."}`)
	if status != 200 || len(a.Data.Files) != 1 || a.Data.Files[0].Type != "application/octet-stream" || a.Data.Files[0].Name != "" {
		t.Fatalf("%d %s", status, text)
	}
	if response, got := fetch(t, server, http.MethodGet, a.Data.Files[0].URI); got != string(drawn) || response.Header.Get("Content-Type") != "application/octet-stream" || response.Header.Get("X-Evil") != "" {
		t.Errorf("the file: %d, %v", response.StatusCode, response.Header)
	}
	path := onlyObject(t, storage)
	if status, _, text := askFiles(t, server, "/invoke", `{"query":"Thanks.","session_id":"`+a.Data.SessionID+`"}`); status != 200 {
		t.Fatalf("%d %s", status, text)
	}
	if later := string(gemini.Requests()[1].Raw); strings.Count(later, "gs://") != 1 || !strings.Contains(later, "gs://"+path) {
		t.Errorf("a later turn sees %.500s", later)
	}
	if exported := get(t, server, "/export"); !strings.Contains(exported, `"uri":"`+a.Data.Files[0].URI+`"`) || strings.Count(exported, `"kind":"file"`) != 1 {
		t.Errorf("the export: %s", exported)
	}
}

// An object that a question names stays where it is, and later turns read it there.
func TestAnObjectStaysWhereItIs(t *testing.T) {
	t.Parallel()
	gemini, storage, data := geminitest.Start(t), buckettest.Start(t), picture(t, 9)
	storage.Put("papers/2026/square.png", buckettest.Object{MediaType: "image/png", Data: data})
	server, _ := serveAgent(t, newMemory(), gemini, reader(), withFiles(t, storage, true))
	gemini.Enqueue(geminitest.Text("A square."), geminitest.Text("Grey."))
	_, a, _ := askFiles(t, server, "/invoke", `{"query":"What is this?","files":[{"uri":"gs://papers/2026/square.png"}]}`)
	if status, _, text := askFiles(t, server, "/invoke", `{"query":"Which color?","session_id":"`+a.Data.SessionID+`"}`); status != 200 {
		t.Fatalf("%d %s", status, text)
	}
	for _, r := range gemini.Requests() {
		seesFile(t, r, false, "", data)
	}
	if stored := get(t, server, "/sessions/"+a.Data.SessionID); !strings.Contains(stored, `"files":[{"name":"square.png","type":"image/png","uri":"gs://papers/2026/square.png"}]`) {
		t.Errorf("the session: %s", stored)
	}
	onlyObject(t, storage)
}

// An object whose content is not what its name says is not shown to the model.
func TestAFileThatWasExchanged(t *testing.T) {
	t.Parallel()
	gemini, storage := geminitest.Start(t), buckettest.Start(t)
	server, _ := serveAgent(t, newMemory(), gemini, reader(), withFiles(t, storage, true))
	gemini.Enqueue(geminitest.Text("A square."), geminitest.Text("Grey."))
	body, _ := withPicture(t)
	_, a, _ := askFiles(t, server, "/invoke", body)
	other := picture(t, 31)
	storage.Put(onlyObject(t, storage), buckettest.Object{MediaType: "image/png", Data: other})
	if status, _, text := askFiles(t, server, "/invoke", `{"query":"Which color?","session_id":"`+a.Data.SessionID+`"}`); status != 200 {
		t.Fatalf("%d %s", status, text)
	}
	later := gemini.Requests()[1]
	if note, _ := partsOf(t, later, 0)[1]["text"].(string); !strings.HasPrefix(note, "[A file of the type image/png was here, ") || strings.Contains(string(later.Raw), encoded(other)) {
		t.Errorf("the model sees %.300v", partsOf(t, later, 0))
	}
}

// A session's files never expire before it: the first turn in each half of its time to live
// moves their expiry, before it answers.
func TestFilesLiveAsLongAsTheirSession(t *testing.T) {
	t.Parallel()
	const ttl = 720 * time.Hour
	gemini, storage, ahead := geminitest.Start(t), buckettest.Start(t), atomic.Int64{}
	now := func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	store := session.NewMemory(ttl, session.MemoryLimit, now, telemetry.Discard())
	server, _ := serveAgent(t, store, gemini, reader(), withFiles(t, storage, true, func(c *invoke.Config) { c.Now, c.Files.ByAddress = now, true }))
	body, _ := withPicture(t)
	id := ""
	for _, tt := range []struct {
		after   time.Duration // since the session's beginning
		patches int           // of the file, until then
	}{{0, 0}, {100 * time.Hour, 0}, {361 * time.Hour, 1}, {500 * time.Hour, 1}, {1000 * time.Hour, 2}} {
		ahead.Store(int64(tt.after))
		gemini.Enqueue(geminitest.Text("Yes."))
		status, a, text := askFiles(t, server, "/invoke", body)
		if status != 200 {
			t.Fatalf("%d %s", status, text)
		}
		id = a.Data.SessionID
		body = `{"query":"And now?","session_id":"` + id + `"}`
		if n := storage.Calls()[http.MethodPatch]; n != tt.patches {
			t.Errorf("after %v: extended %d times, want %d", tt.after, n, tt.patches)
		}
		if left := storage.Objects()[onlyObject(t, storage)].CustomTime.Sub(now()); left < ttl-time.Minute {
			t.Errorf("after %v: the file expires in %v, before its session", tt.after, left)
		}
	}
}

// Files of tools go out with the answer; the model reads only what they are.
func TestFilesOfTools(t *testing.T) {
	t.Parallel()
	type report struct {
		Pages int       `json:"pages"`
		File  tool.File `json:"file"`
	}
	a := reader()
	a.Tools = []tool.Tool{
		tool.New("make_report", "It makes a report.", func(context.Context, struct{}) (report, error) {
			return report{2, tool.File{Name: "report.pdf", Type: "application/pdf", Data: []byte("%PDF-1.7 the report")}}, nil
		}),
		tool.New("make_everything", "It makes too much.", func(context.Context, struct{}) ([]tool.File, error) {
			return []tool.File{{Name: "a", Type: "text/plain", Data: make([]byte, 8<<20)}}, nil
		}),
	}
	gemini, storage := geminitest.Start(t), buckettest.Start(t)
	server, _ := serveAgent(t, newMemory(), gemini, a, withFiles(t, storage, true))
	gemini.Enqueue(geminitest.Calls(geminitest.FunctionCall{Name: "make_report"}, geminitest.FunctionCall{Name: "make_everything"}), geminitest.Text("Here it is."))
	status, got, text := askFiles(t, server, "/invoke", `{"query":"Make a report."}`)
	if status != 200 || len(got.Data.Files) != 1 || got.Data.Files[0].Name != "report.pdf" {
		t.Fatalf("%d %s", status, text)
	}
	if _, content := fetch(t, server, http.MethodGet, got.Data.Files[0].URI); content != "%PDF-1.7 the report" {
		t.Errorf("the file: %q", content)
	}
	results := fmt.Sprint(partsOf(t, gemini.Requests()[1], -1))
	if !strings.Contains(results, "name:report.pdf") || strings.Contains(results, "the report") || !strings.Contains(results, "8388608 bytes, more than the") {
		t.Errorf("the model reads %s", results)
	}
}

// Without a bucket a file goes out once. The page that asks again gets the answer without
// it, and not an empty file in its place.
func TestAReplayOnAPageWithoutABucket(t *testing.T) {
	t.Parallel()
	a := reader()
	a.Tools = []tool.Tool{tool.New("make_table", "It makes a table.", func(context.Context, struct{}) (tool.File, error) {
		return tool.File{Name: "table.csv", Type: "text/csv", Data: []byte("a,b")}, nil
	})}
	gemini := geminitest.Start(t)
	server, _ := serveAgent(t, newMemory(), gemini, a, withFiles(t, nil, false))
	gemini.Enqueue(geminitest.Calls(geminitest.FunctionCall{Name: "make_table"}), geminitest.Text("Here it is."))
	for i, want := range []string{`"url":"data:text/csv;base64,YSxi"`, ""} {
		_, text := ask(t, server, "/chat", `{"id":"0123456789abcdef","messages":[{"role":"user","parts":[{"type":"text","text":"A table."}]}]}`, "Idempotency-Key", "k")
		if !strings.Contains(text, "Here it is.") || !strings.Contains(text, want) || want == "" && strings.Contains(text, `"type":"file"`) {
			t.Errorf("answer %d: %s", i+1, text)
		}
	}
}

func TestFilesOfAPage(t *testing.T) {
	t.Parallel()
	gemini := geminitest.Start(t)
	server, _ := serveAgent(t, newMemory(), gemini, reader(), withFiles(t, nil, false))
	data := picture(t, 7)
	part := func(mediaType, url, name string) string {
		return `{"type":"file","mediaType":"` + mediaType + `","filename":"` + name + `","url":"` + url + `"}`
	}
	url := "data:image/png;base64," + encoded(data)
	message := func(parts string) string {
		return `{"role":"user","parts":[{"type":"text","text":"What is this?"},` + parts + `]}`
	}
	large := message(part("text/plain", "data:text/plain;base64,"+encoded(bytes.Repeat([]byte("x"), 6<<20)), "large.txt"))
	for i, tt := range []struct {
		name, messages string
		status         int
		field          string
	}{
		{"a picture", message(part("image/png", url, "a.png")), 200, ""},
		{"slashes as PHP escapes them", message(part("image/png", strings.ReplaceAll(url, "/", `\/`), "a.png")), 200, ""},
		{"large files in earlier messages", large + "," + large + "," + message(part("image/png", url, "a.png")), 200, ""},
		{"a lie in an earlier message", message(part("image/jpeg", url, "a.png")) + "," + message(part("image/png", url, "a.png")), 200, ""},
		{"a type that lies", message(part("image/jpeg", url, "a.jpg")), 422, "messages.0.parts.1"},
		{"a blob URL", message(part("image/png", "blob:https://app.example/1", "a.png")), 422, "messages.0.parts.1.url"},
		{"an address of a bucket that cannot be read", message(part("image/png", "gs://others/a.png", "a.png")), 422, "messages.0.parts.1.url"},
		{"a very long name", message(part("image/png", url, strings.Repeat("a", 256))), 422, "messages.0.parts.1.filename"},
		{"a NUL in the name", message(part("image/png", url, `a\u0000.png`)), 422, "messages.0.parts.1.filename"},
		{"nine files", message(strings.TrimSuffix(strings.Repeat(part("image/png", url, "")+",", 9), ",")), 422, "messages.0.parts"},
		{"nine large files", message(strings.TrimSuffix(strings.Repeat(part("text/plain", "data:text/plain;base64,"+encoded(bytes.Repeat([]byte("x"), 200<<10)), "")+",", 9), ",")), 422, "messages.0.parts"},
		{"files above the bound", message(part("text/plain", "data:text/plain;base64,"+encoded(bytes.Repeat([]byte("x"), 7<<20+1)), "")), 413, ""},
		{"files above the bound together", message(part("text/plain", "data:text/plain;base64,"+encoded(bytes.Repeat([]byte("x"), 4<<20)), "") + "," + part("text/plain", "data:text/plain;base64,"+encoded(bytes.Repeat([]byte("x"), 4<<20)), "")), 413, ""},
		{"a last message that is too long beside its files", message(part("image/png", url, "") + `],"x":["` + strings.Repeat("x", 1<<17) + `"`), 413, ""},
		{"only a file", `{"role":"user","parts":[` + part("image/png", url, "") + `]}`, 422, "messages.0.parts"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := len(gemini.Requests())
			gemini.Enqueue(geminitest.Text("A square."))
			status, text := ask(t, server, "/chat", fmt.Sprintf(`{"id":"chat-0123456789-%02d","messages":[%s]}`, i, tt.messages), "Accept", "application/json, text/event-stream")
			if status != tt.status || tt.field != "" && !strings.Contains(text, `"field":"`+tt.field+`"`) {
				t.Fatalf("%d %.400s", status, text)
			}
			if status != 200 {
				return
			}
			sent := partsOf(t, gemini.Requests()[before], -1)
			if inline, _ := sent[1]["inlineData"].(map[string]any); inline["data"] != encoded(data) || len(sent) != 2 {
				t.Errorf("sent: %.200v", sent)
			}
		})
	}
}

// The smallest instance takes the largest body that is allowed.
func TestTheLargestFileOnASmallInstance(t *testing.T) {
	gemini := geminitest.Start(t)
	before := debug.SetMemoryLimit(128 << 20)
	server, _ := serveAgent(t, newMemory(), gemini, reader(), withFiles(t, nil, false))
	debug.SetMemoryLimit(before)
	gemini.Enqueue(geminitest.Text("Text."))
	status, text := ask(t, server, "/chat", `{"id":"chat-0123456789-00","messages":[{"role":"user","parts":[{"type":"text","text":"What is this?"},
		{"type":"file","mediaType":"text/plain","url":"data:text/plain;base64,`+encoded(bytes.Repeat([]byte("x"), 7<<20))+`"}]}]}`, "Accept", "application/json, text/event-stream")
	if status != http.StatusOK {
		t.Errorf("%d %.400s", status, text)
	}
}

// A turn that fails in a new session leaves no file, nor does one whose session was
// deleted while it ran.
func TestFilesOfTurnsThatAreNotStored(t *testing.T) {
	t.Parallel()
	gemini, storage := geminitest.Start(t), buckettest.Start(t)
	server, _ := serveAgent(t, newMemory(), gemini, reader(), withFiles(t, storage, true))
	body := `{"query":"q","files":[{"type":"image/png","data":"` + encoded(picture(t, 3)) + `"}]`
	gemini.Enqueue(geminitest.Blocked("SAFETY"))
	if status, _, text := askFiles(t, server, "/invoke", body+"}"); status != 422 {
		t.Fatalf("%d %s", status, text)
	}
	if left := storage.Objects(); len(left) != 0 {
		t.Errorf("left by a turn that failed: %d", len(left))
	}
	gemini.Enqueue(geminitest.Text("Hello."))
	_, a, _ := askFiles(t, server, "/invoke", `{"query":"hi"}`)
	gemini.Handle(func(geminitest.Request) geminitest.Reply {
		if response, text := fetch(t, server, http.MethodDelete, "/sessions/"+a.Data.SessionID); response.StatusCode != 204 {
			t.Errorf("deleting: %d %s", response.StatusCode, text)
		}
		return geminitest.Text("Too late.")
	})
	if status, _, text := askFiles(t, server, "/invoke", body+`,"session_id":"`+a.Data.SessionID+`"}`); status != 404 {
		t.Errorf("%d %s", status, text)
	}
	if left := storage.Objects(); len(left) != 0 {
		t.Errorf("left by a turn whose session was deleted: %d", len(left))
	}
}
