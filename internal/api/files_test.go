package api_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"example.com/gatehouse/internal/api"
)

func readFiles(f api.FileBody, body io.Reader) (string, [][]byte, error) {
	r := httptest.NewRequest(http.MethodPost, "/invoke", body)
	r.Header.Set("Content-Type", "application/json")
	got, data, err := f.Read(httptest.NewRecorder(), r, time.Second, func(text []byte) ([]byte, error) { return base64.StdEncoding.Strict().DecodeString(string(text)) })
	return string(got), data, err
}

func TestFilesAreTakenOutOfABody(t *testing.T) {
	one, two := bytes.Repeat([]byte{1}, 3000), bytes.Repeat([]byte{2}, 1000)
	data := func(b []byte) string { return base64.StdEncoding.EncodeToString(b) }
	limits := api.FileBody{Limit: 200, Files: 4000, Max: 3}
	for _, tt := range []struct {
		name, body, want string
		data             [][]byte
		code             api.Code
	}{
		{"no files", `{"query":"a"}`, `{"query":"a"}`, nil, ""},
		{"a small file stays", `{"files":[{"data":"AAAA"}]}`, `{"files":[{"data":"AAAA"}]}`, nil, ""},
		{
			"two files", `{"query":"a","files":[{"type":"x","data":"` + data(one) + `"}, {"data": "` + data(two) + `","type":"y"}],"stream":true}`,
			`{"query":"a","files":[{"type":"x","data":""}, {"data": "","type":"y"}],"stream":true}`, [][]byte{one, two}, "",
		},
		{"an escaped slash", `{"files":[{"data":"` + strings.Repeat(`\/\/\/\/`, 100) + `"}]}`, `{"files":[{"data":""}]}`, [][]byte{bytes.Repeat([]byte{255}, 300)}, ""},
		{"no list", `{"files":{"data":"` + data(one) + `"}}`, `{"files":{"data":"` + data(one) + `"}}`, nil, ""},
		{"files that are no objects", `{"files":["` + data(one) + `",null,7]}`, `{"files":["` + data(one) + `",null,7]}`, [][]byte{nil, nil, nil}, ""},
		{"files above the bound", `{"files":[{"data":"` + strings.Repeat("A", 30000) + `"}]}`, "", nil, api.RequestTooLarge},
		{"a query above the bound", `{"query":"` + strings.Repeat("a", 300) + `"}`, "", nil, api.RequestTooLarge},
		{"a query that names files", `{"query":"\"files\": [` + strings.Repeat("a", 300) + `"}`, "", nil, api.RequestTooLarge},
		{"files of another object", `{"x":{"files":["` + strings.Repeat("A", 300) + `"]}}`, "", nil, api.RequestTooLarge},
		{"an escaped name", `{"f\u0069les":[{"data":"` + strings.Repeat("A", 300) + `"}]}`, "", nil, api.RequestTooLarge},
		{"structure without end", `{"files":[` + strings.Repeat("{},", 200), "", nil, api.RequestTooLarge},
		{"too deep", `{"files":` + strings.Repeat("[", 40), "", nil, api.MalformedRequest},
		{"not base64", `{"files":[{"data":"` + strings.Repeat("!", 300) + `"}]}`, "", nil, api.ValidationFailed},
		{"not JSON", `{"files":[{"data":"` + strings.Repeat("A", 300) + `"}`, "", nil, api.MalformedRequest},
		{"a name twice", `{"files":[{"data":"` + data(one) + `","data":"AAAA"}]}`, "", nil, api.MalformedRequest},
		{"the files twice", `{"files":[{"data":"` + data(one) + `"}],"files":[]}`, "", nil, api.MalformedRequest},
	} {
		for how, reader := range map[string]func(string) io.Reader{
			"whole":        func(s string) io.Reader { return strings.NewReader(s) },
			"byte by byte": func(s string) io.Reader { return iotest.OneByteReader(strings.NewReader(s)) },
		} {
			t.Run(tt.name+", "+how, func(t *testing.T) {
				got, decoded, err := readFiles(limits, reader(tt.body))
				var code api.Code
				if e, ok := errors.AsType[*api.Error](err); ok {
					code = e.Code
				} else if err != nil {
					t.Fatal(err)
				}
				if code != tt.code || code == "" && (got != tt.want || len(decoded) != len(tt.data)) {
					t.Fatalf("got %.300q, %d files, %v", got, len(decoded), err)
				}
				for i := range tt.data {
					if !bytes.Equal(decoded[i], tt.data[i]) {
						t.Errorf("file %d has %d bytes", i, len(decoded[i]))
					}
				}
			})
		}
	}
}

// What is too large is refused when that is seen, however much would still come.
func TestTooLargeIsSeenBeforeTheBodyIsRead(t *testing.T) {
	for name, start := range map[string]string{
		"a query":     `{"query":"`,
		"files":       `{"files":[{"data":"`,
		"no JSON":     strings.Repeat("x", 10),
		"white space": ` `,
	} {
		t.Run(name, func(t *testing.T) {
			endless := &endless{start: strings.NewReader(start), fill: start[len(start)-1:]}
			_, _, err := readFiles(api.FileBody{Limit: 1000, Files: 10_000, Max: 8}, endless)
			if e, ok := errors.AsType[*api.Error](err); !ok || e.Code != api.RequestTooLarge {
				t.Error(err)
			}
			if endless.read > 64<<10 {
				t.Errorf("%d bytes were read", endless.read)
			}
		})
	}
}

type endless struct {
	start *strings.Reader
	fill  string
	read  int
}

func (e *endless) Read(p []byte) (int, error) {
	n, err := e.start.Read(p)
	if err != nil {
		fill := e.fill
		if fill == `"` {
			fill = "A"
		}
		n = copy(p, strings.Repeat(fill, min(len(p), 512)))
	}
	e.read += n
	return n, nil
}

func TestMemoryIsHeldByTheMiB(t *testing.T) {
	held := 0
	f := api.FileBody{Limit: 1000, Files: 7 << 20, Max: 8, Hold: func() error {
		if held == 3 {
			return api.Fail(api.Overloaded, nil)
		}
		held++
		return nil
	}}
	body := `{"files":[{"data":"` + strings.Repeat("A", 5<<20) + `"}]}`
	if _, _, err := readFiles(f, strings.NewReader(body)); err == nil || held != 3 {
		t.Errorf("%v, %d MiB", err, held)
	}
	held = -10
	if _, data, err := readFiles(f, strings.NewReader(body)); err != nil || len(data[0]) != 5<<20/4*3 || held != -5 {
		t.Errorf("%v, %d MiB", err, held+10)
	}
}
