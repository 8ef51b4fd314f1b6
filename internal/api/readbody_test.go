package api_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"example.com/gatehouse/internal/api"
)

// post sends a body through a real server to ReadBody, and returns what that
// returned and the answer's status.
func post(t *testing.T, body io.Reader, limit int64, header http.Header) (got []byte, answer *http.Response, err error) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		api.Answer(w, r, func(w http.ResponseWriter, r *http.Request) error {
			got, err = api.ReadBody(w, r, limit, time.Minute)
			return err
		})
	}))
	defer server.Close()
	r, e := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, body)
	if e != nil {
		t.Fatal(e)
	}
	r.Header = header
	answer, e = server.Client().Do(r)
	if e != nil {
		t.Fatal(e)
	}
	_ = answer.Body.Close()
	return got, answer, err
}

func jsonHeader() http.Header { return http.Header{"Content-Type": {"application/json"}} }

// unsized hides the length of a body, so that it is sent in chunks.
type unsized struct{ io.Reader }

func TestReadBodyUpToTheLimit(t *testing.T) {
	t.Parallel()
	const limit = 1000
	for _, size := range []int{0, 1, limit - 1, limit, limit + 1, 10 * limit, 1 << 20} {
		for name, reader := range map[string]func([]byte) io.Reader{
			"with its length":    func(b []byte) io.Reader { return bytes.NewReader(b) },
			"without its length": func(b []byte) io.Reader { return unsized{bytes.NewReader(b)} },
		} {
			t.Run(fmt.Sprintf("%d bytes %s", size, name), func(t *testing.T) {
				t.Parallel()
				body := bytes.Repeat([]byte("x"), size)
				got, answer, err := post(t, reader(body), limit, jsonHeader())
				if size > limit {
					if e, ok := errors.AsType[*api.Error](err); !ok || e.Code != api.RequestTooLarge || answer.StatusCode != 413 || got != nil {
						t.Errorf("error %v, status %d, want %s", err, answer.StatusCode, api.RequestTooLarge)
					}
					return
				}
				if err != nil || !bytes.Equal(got, body) {
					t.Errorf("%d bytes, %v", len(got), err)
				}
			})
		}
	}
}

// A body whose length says that it is too large is refused before it comes.
func TestReadBodyRefusesUnread(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		api.Answer(w, r, func(w http.ResponseWriter, r *http.Request) error {
			_, err := api.ReadBody(w, r, 1000, time.Minute)
			return err
		})
	}))
	defer server.Close()
	conn := dial(t, server)
	defer func() { _ = conn.Close() }()
	send(t, conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000000000\r\n\r\n")
	answer, err := io.ReadAll(conn) // to the end: the server closes
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(answer, []byte("HTTP/1.1 413 ")) || !bytes.Contains(answer, []byte("Connection: close")) {
		t.Errorf("answer %s", answer)
	}
}

func dial(t *testing.T, server *httptest.Server) net.Conn {
	t.Helper()
	var dialer net.Dialer
	conn, err := dialer.DialContext(t.Context(), "tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	return conn
}

func send(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
}

func TestABodyThatDoesNotCome(t *testing.T) {
	t.Parallel()
	for name, framing := range map[string]string{
		"of known length":  "Content-Length: 100\r\n\r\n{\"que",
		"in chunks":        "Transfer-Encoding: chunked\r\n\r\n5\r\n{\"que\r\n",
		"nothing of it":    "Content-Length: 100\r\n\r\n",
		"not even a chunk": "Transfer-Encoding: chunked\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				api.Answer(w, r, func(w http.ResponseWriter, r *http.Request) error {
					_, err := api.ReadBody(w, r, 1000, 30*time.Millisecond)
					return err
				})
			}))
			defer server.Close()
			conn := dial(t, server)
			defer func() { _ = conn.Close() }()
			send(t, conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"+framing)
			buffered := bufio.NewReader(conn)
			answer, err := http.ReadResponse(buffered, nil)
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(answer.Body)
			if err != nil || answer.StatusCode != 408 || !answer.Close || !bytes.Contains(text, []byte(`"request_timeout"`)) {
				t.Errorf("status %d, to be closed %t, %s, %v", answer.StatusCode, answer.Close, text, err)
			}
			_ = conn.SetReadDeadline(time.Now().Add(2 * time.Second))
			if _, err := buffered.ReadByte(); !errors.Is(err, io.EOF) {
				t.Errorf("the connection is held for the rest of the body, without end: %v", err)
			}
		})
	}
}

// The time for the body ends with the body.
func TestTheTimeForTheBodyIsNotTheAnswers(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, err := api.ReadBody(w, r, 1000, 20*time.Millisecond); err != nil {
			t.Errorf("reading: %v", err)
		}
		timer := time.NewTimer(60 * time.Millisecond)
		defer timer.Stop()
		select {
		case <-r.Context().Done():
			t.Errorf("the request ended with its body's deadline: %v", r.Context().Err())
		case <-timer.C:
		}
	}))
	defer server.Close()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL, strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	r.Header = jsonHeader()
	for range 2 { // on one connection
		answer, err := server.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = answer.Body.Close()
		r.Body = io.NopCloser(strings.NewReader("{}"))
	}
}

func TestAClientThatLeavesWhileItSends(t *testing.T) {
	t.Parallel()
	for name, framing := range map[string]string{
		"of known length": "Content-Length: 100\r\n\r\n{\"que",
		"in chunks":       "Transfer-Encoding: chunked\r\n\r\n5\r\n{\"que\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			result := make(chan error, 1)
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, err := api.ReadBody(w, r, 1000, time.Minute)
				result <- err
			}))
			defer server.Close()
			conn := dial(t, server)
			send(t, conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"+framing)
			_ = conn.Close()
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			select {
			case err := <-result:
				if e, ok := errors.AsType[*api.Error](err); !ok || e.Code != api.ClientClosedRequest {
					t.Errorf("error %v, want %s", err, api.ClientClosedRequest)
				}
			case <-ctx.Done():
				t.Error("the handler still waits")
			}
		})
	}
}

func TestChunksThatAreBroken(t *testing.T) {
	t.Parallel()
	result := make(chan error, 1)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, err := api.ReadBody(w, r, 1000, time.Minute)
		result <- err
	}))
	defer server.Close()
	conn := dial(t, server)
	defer func() { _ = conn.Close() }()
	send(t, conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n")
	if e, ok := errors.AsType[*api.Error](<-result); !ok || e.Code != api.MalformedRequest {
		t.Errorf("error %v, want %s", e, api.MalformedRequest)
	}
}

func TestMediaTypes(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		header http.Header
		ok     bool
	}{
		{"JSON", http.Header{"Content-Type": {"application/json"}}, true},
		{"JSON in UTF-8", http.Header{"Content-Type": {"application/json; charset=utf-8"}}, true},
		{"JSON in UTF-8, in capitals and quotes", http.Header{"Content-Type": {`Application/JSON;Charset="UTF-8"`}}, true},
		{"JSON with another parameter", http.Header{"Content-Type": {"application/json; v=1"}}, true},
		{"JSON that is not packed", http.Header{"Content-Type": {"application/json"}, "Content-Encoding": {"identity"}}, true},
		{"nothing said", http.Header{}, false},
		{"nothing in it", http.Header{"Content-Type": {""}}, false},
		{"another charset", http.Header{"Content-Type": {"application/json; charset=utf-16"}}, false},
		{"a form", http.Header{"Content-Type": {"application/x-www-form-urlencoded"}}, false},
		{"plain text", http.Header{"Content-Type": {"text/plain"}}, false},
		{"JSON of a kind", http.Header{"Content-Type": {"application/problem+json"}}, false},
		{"JSON lines", http.Header{"Content-Type": {"application/jsonl"}}, false},
		{"two types", http.Header{"Content-Type": {"application/json", "text/plain"}}, false},
		{"two types in one", http.Header{"Content-Type": {"application/json, text/plain"}}, false},
		{"a parameter twice", http.Header{"Content-Type": {"application/json; charset=utf-8; charset=utf-16"}}, false},
		{"nonsense", http.Header{"Content-Type": {"/;;"}}, false},
		{"packed", http.Header{"Content-Type": {"application/json"}, "Content-Encoding": {"gzip"}}, false},
		{"packed twice", http.Header{"Content-Type": {"application/json"}, "Content-Encoding": {"identity", "br"}}, false},
		{"packed, in one line", http.Header{"Content-Type": {"application/json"}, "Content-Encoding": {"identity, gzip"}}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader("{}"))
			r.Header = tt.header
			got, err := api.ReadBody(httptest.NewRecorder(), r, 100, time.Minute)
			if tt.ok {
				if err != nil || string(got) != "{}" {
					t.Errorf("%q, %v", got, err)
				}
				return
			}
			if e, ok := errors.AsType[*api.Error](err); !ok || e.Code != api.UnsupportedMediaType {
				t.Errorf("error %v, want %s", err, api.UnsupportedMediaType)
			}
		})
	}
}
