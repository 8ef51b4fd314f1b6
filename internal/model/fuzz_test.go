package model

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
	"time"
	"unicode/utf8"

	"google.golang.org/genai"

	"example.com/gatehouse/internal/exactjson"
)

// FuzzEvents checks that what a model streams is read to its end as JSON or as an error of ours,
// and that what is read can be stored: the same bytes in pieces of any size are the same events.
func FuzzEvents(f *testing.F) {
	for _, seed := range []string{
		"data: {\"candidates\":[{\"content\":{\"role\":\"model\",\"parts\":[{\"text\":\"a\"}]},\"finishReason\":\"STOP\"}],\"usageMetadata\":{\"totalTokenCount\":3}}\r\n\r\n",
		"\ufeff: comment\n\nevent: x\ndata: {\"candidates\":\ndata: []}\n\ndata:{}\r\rdata: [DONE]\n\n", "data: 1\r\ndata: 2\rdata: 3\ndata: 4\n\n",
		`{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":{"n":12345678901234567890,"e":1e400,"json":"x"}}}]}}]}`,
		"[{\"candidates\":[]}\n,\n{\"error\":{\"code\":503,\"status\":\"UNAVAILABLE\",\"message\":\"say \\\"secret\\\"\"}}]",
		"data: {\"error\":\"text\"}\n\n", "data: {\"error\":{\"code\":\"429\",\"details\":[{\"@type\":\"type.googleapis.com/google.rpc.RetryInfo\",\"retryDelay\":{\"seconds\":1e30,\"nanos\":-1}}]}}\n\n",
		"<html>\n\n", "data: {", "data: {\"candidates\":[{\"content\":{\"parts\":[{\"functionCall\":{\"args\":7}},null,{\"text\":7}]}}]}\n\n", "data: nul\n\n",
		"data: {\"candidates\":[null],\"promptFeedback\":{\"blockReason\":\"OTHER\"},\"modelVersion\":\"m\"}\n\n",
		"data: {\"candidates\":[{\"groundingMetadata\":{\"groundingChunks\":[null,{\"web\":{}}],\"groundingSupports\":[null,{\"groundingChunkIndices\":[9],\"segment\":{\"startIndex\":-5,\"endIndex\":99}}]},\"content\":{\"parts\":[{\"text\":\"é\"}]}}]}\n\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		read := func(from io.Reader) (chunks [][]byte, end error) {
			events := newEvents(from)
			for range len(stream) + 2 {
				raw, err := events.next()
				if err != nil {
					return chunks, err
				}
				chunks = append(chunks, bytes.Clone(raw))
			}
			t.Fatal("the stream does not end")
			return nil, nil
		}
		chunks, end := read(bytes.NewReader(stream))
		if bits, _ := read(iotest.OneByteReader(bytes.NewReader(stream))); !reflect.DeepEqual(bits, chunks) {
			t.Errorf("in bytes %q, in one piece %q", bits, chunks)
		}
		if end != io.EOF {
			t.Errorf("error %T %v", end, end)
		}
		a := &Answer{Asked: "m"}
		for _, raw := range chunks {
			chunk, err := decode(raw, http.Header{})
			if err != nil {
				return
			}
			if _, err := a.add(chunk); err != nil {
				if _, ok := errors.AsType[*Error](err); !ok {
					t.Errorf("error %T %v", err, err)
				}
				return
			}
		}
		_, _ = a.judge(), a.Text()
		if a.Content == nil {
			return
		}
		encoded, err := Encode(a.Content)
		if err != nil || !json.Valid(encoded) {
			t.Fatalf("an answer that cannot be stored: %s, %v", encoded, err)
		}
		list := append(append([]byte("["), encoded...), ']')
		if again, err := DecodeContents(list); err != nil || len(again) != 1 {
			t.Errorf("%s is read as %v: %v", list, again, err)
		}
	})
}

// FuzzDecode checks that an answer is what encoding/json decodes, or an error where it has
// one.
func FuzzDecode(f *testing.F) {
	for _, seed := range []string{
		`{"candidates":[{"content":{"role":"model","parts":[{"text":"a"}]},"finishReason":"STOP","index":0}],"usageMetadata":{"totalTokenCount":3},"modelVersion":"m","responseId":"r"}`,
		`{"Candidates":[{"CONTENT":{"Parts":[{"text":"a","TEXT":"b"}]},"finish_reason":"STOP","FinishReason":"OTHER"}]}`,
		`{"candidates":[{"content":{"parts":[{"text":"a","text":null},{"text":"\ud800"}]}}],"candidates":[]}`, "{\"candidates\":[{\"content\":{\"parts\":[{\"text\":\"\xff\"}]}}]}",
		`{"candidates":[{"content":{"parts":[{"thoughtSignature":"eA==","thought":true},{"thoughtSignature":"eB"},{"inlineData":{"data":"eA=\n=","mimeType":"a/b"}}]}}]}`,
		`{"candidates":[{"content":{"parts":[{"videoMetadata":{"fps":1e39,"startOffset":"1.5s"}},{"toolCall":{"args":{"n":1e400,"m":12345678901234567890}}}]}}]}`,
		`{"candidates":[{"citationMetadata":{"citations":[{"publicationDate":{"year":2026}}]},"avgLogprobs":-0.5,"index":1.0,"tokenCount":2147483648}]}`,
		`{"createTime":"2026-11-28T04:00:00.5Z","sdkHttpResponse":{"headers":{"a":["b"]}},"promptFeedback":{"safetyRatings":[{"blocked":true,"probabilityScore":0.5}]},"usageMetadata":null}`,
		`{"createTime":"2026-11-28T4:00:00Z"}`, `{"createTime":null,"candidates":[null]} `, `{"createTime":"2026-11-28T04:00:00Z","createTime":null}`, `{"Error":{"code":503},"candidates":[]}`,
		`[]`, `7`, `{`, `{} {}`, "\xef\xbb\xbf{}", `{"candidates":{}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		// The rest is of FuzzEvents and FuzzAnsweredError; of null the SDK makes a panic.
		if bytes.Contains(raw, []byte(`"error"`)) || bytes.Contains(raw, []byte(`"functionCall"`)) || string(bytes.TrimSpace(raw)) == "null" {
			return
		}
		want := new(genai.GenerateContentResponse)
		failure := json.Unmarshal(raw, want)
		got, err := decode(raw, http.Header{})
		if (err == nil) != (failure == nil) || err == nil && !reflect.DeepEqual(got, want) {
			t.Errorf("%s is %+v, %v; want %+v, %v", raw, got, err, want, failure)
		}
	})
}

// FuzzAnsweredError checks that an error of a model's server is bounded in what it asks and
// says, whatever its body is.
func FuzzAnsweredError(f *testing.F) {
	f.Add(429, "30", `{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","message":"m","details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":"1.5s"}]}}`)
	f.Add(400, "", `[{"error":{"code":400,"message":"\"quoted \"twice\" it\"\n","details":{"reason":"API_KEY_INVALID"}}}]`)
	f.Add(503, "Fri, 31 Dec 9999 23:59:59 GMT", `<html>"error"</html>`)
	f.Add(500, "1e999", `{"error":{"code":{},"status":[],"message":null,"details":[{"@type":"type.googleapis.com/google.rpc.RetryInfo","retryDelay":{"seconds":"NaN","nanos":1e300}}]}}`)
	f.Add(404, "-1", "\xff\xfe")
	f.Add(429, "1", "{\"error\":{\"status\":[{\"\":\"\x92\"}]}}")
	f.Fuzz(func(t *testing.T, status int, wait, body string) {
		if status < 400 || status > 599 {
			return
		}
		e := answeredError(status, http.Header{"Retry-After": {wait}, "Retry-After-Ms": {wait}}, []byte(body))
		if e.RetryAfter < 0 || e.RetryAfter > maxRetryAfter+time.Second {
			t.Errorf("wait %v", e.RetryAfter)
		}
		if said := e.Error(); len(said) > 500 || !utf8.ValidString(said) {
			t.Errorf("%d bytes: %q", len(said), said)
		}
		if e.gone != (status == http.StatusNotFound) || e.temporary != (status == 408 || status == 429 || status == 499 || status >= 500) {
			t.Errorf("%d: %+v", status, e)
		}
	})
}

// FuzzRepair checks that stored contents, which may be edited, are sent in each form as a list of
// contents or not at all, that a form is itself in that form, and that numbers keep their digits.
func FuzzRepair(f *testing.F) {
	for _, seed := range []string{
		`[{"role":"user","parts":[{"text":"q"}]},{"role":"model","parts":[{"functionCall":{"name":"f","args":{"n":12345678901234567890}},"thoughtSignature":"eA=="}]},{"parts":[{"functionResponse":{"response":{}}}]}]`,
		`[{"parts":[{"functionCall":"x"},{"functionResponse":7},{"thoughtSignature":""},{"thought":true,"text":"t"},null,{}]},null]`,
		`[{"parts":[{"inlineData":{"mimeType":"image/png"}},{"executableCode":{}},{"codeExecutionResult":null},{"toolCall":null}]}]`,
		`null`, `[]`, `{}`, `[[]]`, `[{"parts":null}]`, `[{"parts":[{"functionCall":null}]}] x`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, list []byte) {
		if !json.Valid(list) {
			return
		}
		var contents []Content
		unreadable := exactjson.Unmarshal(list, &contents)
		for form := asStored; form <= asText; form++ {
			sent, err := form.rewrite(bytes.Clone(list))
			if form != asStored && (err == nil) != (unreadable == nil) {
				t.Errorf("form %d of %s is %s, %v; want %v", form, list, sent, err, unreadable)
			}
			if err != nil {
				continue
			}
			if !json.Valid(sent) {
				t.Fatalf("form %d of %s is %s", form, list, sent)
			}
			again, err := form.rewrite(bytes.Clone(sent))
			if err != nil || string(again) != string(sent) {
				t.Errorf("form %d of %s is %s, and of that %s: %v", form, list, sent, again, err)
			}
			const digits = "12345678901234567890"
			read, _ := DecodeContents(list) // members that are none of a content's are not
			if whole, _ := json.Marshal(read); form == asStored && strings.Contains(string(whole), digits) && !strings.Contains(string(sent), digits) {
				t.Errorf("form %d of %s is %s", form, list, sent)
			}
		}
	})
}
