package e2e_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"example.com/gatehouse/internal/geminitest"
)

// wire sends text as it is, perhaps no request at all, and closes its side when it
// hangs up. It returns the status, 0 without an answer.
func wire(t *testing.T, s *service, text string, hangUp bool) int {
	t.Helper()
	conn, err := net.DialTimeout("tcp", strings.TrimPrefix(s.URL, "http://"), limit)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(limit))
	if _, err := io.WriteString(conn, text); err != nil {
		return 0
	}
	if hangUp {
		_ = conn.(*net.TCPConn).CloseWrite()
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return 0
	}
	defer func() { _ = response.Body.Close() }()
	_, _ = io.Copy(io.Discard, response.Body)
	return response.StatusCode
}

// No input of a caller's is told as a fault of ours, nor moves health.
func TestNobodyIsBlamedForWhatCallersSend(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, s *service, gemini *geminitest.Server) {
		gemini.Handle(func(geminitest.Request) geminitest.Reply { return geminitest.Text("Fine.") })
		id := s.invoke(t, map[string]any{"query": "hello"}).SessionID
		hash := strings.Repeat("A", 43)
		long := strings.Repeat("a", 6000)
		values := []string{
			"", " ", ".", "..", "0", "1", "-1", "+1", "01", "1e3", "0x10", "٣", "9223372036854775807", "9223372036854775808", "18446744073709551616", "99999999999999999999999", "NaN", "null",
			"1y2p0ij32e8e7." + strings.Repeat("a", 43), "1." + strings.Repeat("\xff", 43), "1." + hash, "-1." + hash, "zzzzzzzzzzzz." + hash, "1.__" + strings.Repeat("a", 39) + "__",
			"__name__", "__" + strings.Repeat("a", 20) + "__", strings.Repeat("_", 16), strings.Repeat("_", 43), strings.Repeat("-", 64), strings.Repeat("a", 64), strings.Repeat("a", 65), long,
			"\x00", "\xff\xfe", "a\nb", "%", "%zz", "💥", "\u202e", "a/b", "../" + id, id + "/..", id + "\x00", "MS4=", "AAAA", "e30",
		}
		var requests []string
		add := func(method, path, body string, headers ...string) {
			text := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n", method, path)
			if body != "" || method == "POST" || method == "PUT" {
				text += fmt.Sprintf("Content-Type: application/json\r\nContent-Length: %d\r\n", len(body))
			}
			for i := 0; i < len(headers); i += 2 {
				text += headers[i] + ": " + headers[i+1] + "\r\n"
			}
			requests = append(requests, text+"\r\n"+body)
		}
		for _, v := range values {
			q, p := url.QueryEscape(v), url.PathEscape(v)
			add("GET", "/sessions?cursor="+q, "")
			add("GET", "/sessions?limit="+q, "")
			add("GET", "/sessions?limit=1&cursor=&cursor="+q, "")
			add("GET", "/sessions/"+id+"?cursor="+q, "")
			add("GET", "/sessions/"+id+"?limit="+q+"&cursor=1", "")
			add("GET", "/sessions/"+p, "")
			add("DELETE", "/sessions/"+p, "")
			add("GET", "/chat/"+p+"/stream", "")
			add("PUT", "/sessions/"+p+"/turns/1/feedback", `{"score":1}`)
			add("PUT", "/sessions/"+id+"/turns/"+p+"/feedback", `{"score":1}`)
			add("GET", "/usage?"+q, "")
			add("GET", "/"+p, "")
			encoded, _ := json.Marshal(v) // invalid UTF-8 becomes a replacement
			raw := `"` + strings.NewReplacer(`"`, `\"`, "\n", " ", "\x00", " ").Replace(v) + `"`
			for _, text := range []string{string(encoded), raw} {
				add("POST", "/invoke", `{"query":`+text+`}`)
				add("POST", "/invoke", `{"query":"hello","session_id":`+text+`}`)
				add("POST", "/chat", `{"id":`+text+`,"messages":[{"role":"user","parts":[{"type":"text","text":"hello"}]}]}`)
				add("POST", "/chat", `{"id":"`+id+`","trigger":`+text+`,"messages":[{"role":`+text+`,"parts":[{"type":"text","text":`+text+`}]}]}`)
				add("PUT", "/sessions/"+id+"/turns/1/feedback", `{"score":1,"comment":`+text+`}`)
			}
			for _, field := range []string{"after_turn", "max_tokens", "temperature", "stream", "query", "score", "nothing"} {
				add("POST", "/invoke", `{"query":"hello","session_id":"`+id+`","`+field+`":`+v+`}`)
			}
			for _, header := range []string{"Idempotency-Key", "X-End-User", "X-Request-ID", "traceparent", "X-Cloud-Trace-Context", "Accept", "Accept-Language", "Content-Type", "Content-Encoding", "Origin", "Prefer", "Last-Event-ID", "Expect", "X-Forwarded-For", "Cookie"} {
				add("POST", "/invoke", `{"query":"hello"}`, header, strings.NewReplacer("\n", "", "\x00", "").Replace(v))
			}
		}
		for _, number := range []string{"1e400", "-0", "1.5", "1e2", "9007199254740991", "9007199254740992", "-9223372036854775809", "2.0000001", "4097", "[]", "{}", "true"} {
			for _, field := range []string{"after_turn", "max_tokens", "temperature", "score"} {
				add("POST", "/invoke", `{"query":"hello","`+field+`":`+number+`}`)
				add("PUT", "/sessions/"+id+"/turns/1/feedback", `{"`+field+`":`+number+`}`)
			}
		}
		emoji := strings.Repeat("😀", 2000)
		for _, comment := range []string{emoji, emoji + "x", `a\u0000b`, `\ud800`, `\udc00\ud800`, `\ud83d\ude00`, strings.Repeat(`\u0001`, 2000), strings.Repeat("\u0301", 2000)} {
			add("PUT", "/sessions/"+id+"/turns/1/feedback", `{"score":-1,"comment":"`+comment+`"}`)
			add("POST", "/invoke", `{"query":"`+comment+`","session_id":"`+id+`"}`)
		}
		for _, query := range []string{strings.Repeat("😀", 10_000), strings.Repeat("😀", 10_001), strings.Repeat(`\u0001`, 10_000), strings.Repeat("a", 131_072-12), strings.Repeat("a", 131_073), `\u2028`, `\ufeff`} {
			add("POST", "/invoke", `{"query":"`+query+`"}`)
		}
		body := `{"query":"hello"}`
		broken := []string{
			"POST /invoke HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 500\r\n\r\n" + body,
			"POST /invoke HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n" + body,
			"POST /invoke HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n11\r\n" + body,
			"POST /chat HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"id\":\"",
			"PUT /sessions/" + id + "/turns/1/feedback HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{",
			"POST /invoke HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
			"POST /invoke HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
			"GET /sessions HTTP/1.1\r\nHost: a b\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00", "GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n",
		}
		rand.Shuffle(len(requests), func(i, j int) { requests[i], requests[j] = requests[j], requests[i] })
		answered := 0
		for _, text := range requests {
			status := wire(t, s, text, false)
			if status >= 500 {
				t.Errorf("status %d for %.400q", status, text)
			}
			if status > 0 {
				answered++
			}
		}
		for _, text := range broken {
			if status := wire(t, s, text, true); status >= 500 {
				t.Errorf("status %d for %.400q", status, text)
			}
		}
		if answered < len(requests)*9/10 {
			t.Errorf("only %d of %d were answered", answered, len(requests))
		}
		t.Logf("%d requests, %d broken ones", len(requests), len(broken))
		if report := s.health(t); report.ErrorCount == nil || *report.ErrorCount != 0 || report.Status != "healthy" {
			t.Errorf("health: %+v", report)
		}
	}, "RATE_LIMIT_PER_MINUTE=1000000", "CALLER_RATE_LIMIT_PER_MINUTE=1000000")
}
