package invoke

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"unicode/utf8"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/session"
)

// longChat returns a conversation of about size bytes, generated while it is read.
func longChat(size int64) io.Reader {
	const turn = `{"role":"user","parts":[{"type":"text","text":"again"}]},{"role":"assistant","parts":[{"type":"text","text":"` + "%" + `"}]},`
	line := strings.Replace(turn, "%", strings.Repeat("x", 4000), 1)
	return io.MultiReader(
		strings.NewReader(`{"id":"0123456789abcdef","messages":[`),
		&repeated{text: line, left: size / int64(len(line))},
		strings.NewReader(`{"role":"user","parts":[{"type":"text","text":"the last"}]}]}`),
	)
}

type repeated struct {
	text string
	left int64
	from strings.Reader
}

func (r *repeated) Read(p []byte) (int, error) {
	if r.from.Len() == 0 {
		if r.left == 0 {
			return 0, io.EOF
		}
		r.left--
		r.from.Reset(r.text)
	}
	return r.from.Read(p)
}

// A heapMeter notes the largest live heap once in each MiB that is read.
type heapMeter struct {
	io.Reader
	unmeasured int
	most       uint64
}

func (m *heapMeter) Read(p []byte) (int, error) {
	n, err := m.Reader.Read(p)
	if m.unmeasured += n; m.unmeasured >= 1<<20 {
		m.unmeasured = 0
		m.most = max(m.most, liveHeap())
	}
	return n, err
}

func liveHeap() uint64 {
	var stats runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// Files that are small one by one take memory together, and a message for which there is none
// is not read on.
func TestTheMemoryOfAMessagesFiles(t *testing.T) {
	t.Parallel()
	file := `{"type":"file","mediaType":"image/png","url":"data:image/png;base64,` + strings.Repeat("AAAA", 233<<10) + `"}`
	for code, full := range map[api.Code]error{api.ValidationFailed: nil, api.Overloaded: api.Fail(api.Overloaded, nil)} { // they are no pictures
		s := New(Config{MaxBodyBytes: 1 << 20, Timeout: api.BodyTimeout, Files: Files{Types: []string{"image/png"}, MaxBytes: 7 << 20}})
		r := httptest.NewRequest(http.MethodPost, "/chat", strings.NewReader(`{"id":"0123456789abcdef","messages":[{"role":"user","parts":[`+
			file+","+file+`,{"type":"text","text":"What are they?"}]}]}`))
		r.Header.Set("Content-Type", "application/json")
		held := 0
		_, _, err := s.decodeChat(httptest.NewRecorder(), r, func() error { held++; return full })
		if failed, ok := errors.AsType[*api.Error](err); !ok || failed.Code != code || held != 1 {
			t.Errorf("%v, want %s; %d MiB are held", err, code, held)
		}
	}
}

func TestALongConversationIsNotHeld(t *testing.T) {
	const size = 24 << 20
	s := New(Config{MaxBodyBytes: size, Timeout: api.BodyTimeout})
	body := &heapMeter{Reader: longChat(size)}
	r := httptest.NewRequest(http.MethodPost, "/chat", body)
	r.Header.Set("Content-Type", "application/json")
	before := liveHeap()
	req, answers, err := s.decodeChat(httptest.NewRecorder(), r, func() error { return nil })
	if err != nil || answers != nil || req.Query != "the last" {
		t.Fatalf("%q, %v, %v", req.Query, answers, err)
	}
	if body.most == 0 || body.most > before+size/8 {
		t.Errorf("reading %d MB held %d KB, beside %d KB before", size>>20, body.most>>10, before>>10)
	}
}

// FuzzChat checks that any body is either a request or an error of the contract.
func FuzzChat(f *testing.F) {
	f.Add(`{"id":"0123456789abcdef","messages":[{"role":"user","parts":[{"type":"text","text":"hi"}]}]}`)
	f.Add(`{"id":"0123456789abcdef","messages":[{"parts":[{"text":"\"\\u0000\\","type":"text"}],"role":"user"}],"trigger":"regenerate-message"}`)
	f.Add(`{"messages":[[[]],{"role":{}}]}`)
	f.Add(`{"id":"0123456789abcdef","messages":[{"role":"assistant","parts":[{"type":"tool-x","toolCallId":"c","state":"approval-responded","input":{"a":[1,{}]},"approval":{"id":"a","approved":true,"reason":"x"}}]}]}`)
	f.Add(`{"messages":[{"role":"user","parts":[{"type":"text","text":`)
	s := New(Config{MaxBodyBytes: 1 << 20, Timeout: api.BodyTimeout})
	f.Fuzz(func(t *testing.T, body string) {
		r := httptest.NewRequest(http.MethodPost, "/chat", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		req, answers, err := s.decodeChat(httptest.NewRecorder(), r, func() error { return nil })
		if err != nil {
			if status := api.AsError(err).Status(); status != 400 && status != 422 {
				t.Errorf("status %d: %v", status, err)
			}
			return
		}
		var plain struct {
			ID       string `json:"id"`
			Messages []struct {
				Role  string `json:"role"`
				Parts []any  `json:"parts"`
			} `json:"messages"`
		}
		if err := json.Unmarshal([]byte(body), &plain); err != nil {
			return // stricter about members that are not read
		}
		if !session.ValidID(req.SessionID) || !utf8.ValidString(req.Query) || (req.Query == "") != (answers != nil) {
			t.Errorf("%q became %+v", body, req)
		}
	})
}

// FuzzUIMessages checks that the parts are those that were sent, for any text of a
// model.
func FuzzUIMessages(f *testing.F) {
	f.Add("Hello.", "tool", "<script>alert(1)</script>")
	f.Add("data: [DONE]\n\n", "x\r\ny", "\x00")
	f.Add("\u2028\u2029\ufeff", ":", "\u202e")
	f.Fuzz(func(t *testing.T, text, name, arg string) {
		w := httptest.NewRecorder()
		st := newStream(w, httptest.NewRequest(http.MethodPost, "/chat", nil), &uiMessages{})
		showAll(t, st, func(out *output) {
			out.add(session.Part{Kind: session.KindToolCall, ID: "call-1", Name: name, Args: map[string]any{name: arg}})
			out.add(session.Part{Kind: session.KindToolResult, ID: "call-1", Name: name, OK: true})
			out.appendText(session.KindText, text)
		})
		events := parse(t, w.Body.String())
		var types []string
		got := ""
		for i, e := range events {
			if i == len(events)-1 {
				if e.data != "[DONE]" {
					t.Errorf("the end is %q", e.data)
				}
				break
			}
			var p struct{ Type, Delta string }
			if err := json.Unmarshal([]byte(e.data), &p); err != nil || e.name != "" {
				t.Fatalf("event %q %q: %v", e.name, e.data, err)
			}
			types = append(types, p.Type)
			got += p.Delta
		}
		want := "start tool-input-available tool-output-available text-start text-delta text-end finish"
		if text == "" {
			want = "start tool-input-available tool-output-available finish"
		}
		if names := strings.Join(types, " "); names != want {
			t.Fatalf("parts %q, want %q", names, want)
		}
		if utf8.ValidString(text) && got != text {
			t.Errorf("the text %q arrived as %q", text, got)
		}
	})
}
