package model_test

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"example.com/gatehouse/internal/breaker"
	"example.com/gatehouse/internal/model"
	"example.com/gatehouse/session"
)

// What the standard allows in an event stream does not break one.
func TestFormsOfAnEventStream(t *testing.T) {
	t.Parallel()
	lines := strings.ReplaceAll(good("Hello."), ",", ",\n")
	tests := map[string]string{
		"comments":                         ": ping\n\n:\n" + event(piece("Hel")) + ": ping\n\n" + event(good("lo.")) + ": bye\n",
		"a comment beside the data":        ": ping\n" + event(good("Hello.")),
		"carriage returns":                 strings.ReplaceAll(event(piece("Hel"))+event(good("lo.")), "\n", "\r"),
		"carriage returns and newlines":    strings.ReplaceAll(": ping\n\n"+event(piece("Hel"))+event(good("lo.")), "\n", "\r\n"),
		"no space after the colon":         "data:" + piece("Hel") + "\n\ndata:" + good("lo.") + "\n\n",
		"other fields":                     "event: message\nid: 7\nretry: 1000\n" + event(piece("Hel")) + "event: message\nid\nunknown: x\n" + event(good("lo.")),
		"an event without data":            "event: ping\n\n" + event(good("Hello.")),
		"an event with empty data":         "event: ping\ndata:\n\n" + event(good("Hello.")),
		"data of several lines":            "data: " + strings.ReplaceAll(lines, "\n", "\ndata: ") + "\n\n",
		"data of several lines with both":  "data: " + strings.ReplaceAll(lines, "\n", "\r\ndata: ") + "\r\n\r\n",
		"a byte order mark":                "\ufeff" + event(good("Hello.")),
		"blank lines":                      "\n\n\n" + event(piece("Hel")) + "\n\n\n" + event(good("lo.")),
		"a last event that does not end":   event(piece("Hel")) + "data: " + good("lo."),
		"JSON instead of a stream":         good("Hello."),
		"JSON over several lines":          lines + "\n",
		"white space before there is text": event(piece("\n")) + event(piece(" ")) + event(good("Hello.")),
	}
	for name, body := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &script{handlers: []http.HandlerFunc{answer(200, body)}}
			inBubble(t, s, func(t *testing.T, c *model.Client) {
				text := ""
				a, err := c.Generate(t.Context(), question(), func(_, piece string) error { text += piece; return nil })
				if err != nil || a.Attempts != 1 || strings.TrimSpace(text) != "Hello." || text != a.Text() {
					t.Errorf("%q, %q after %d attempts, %v", text, a.Text(), a.Attempts, err)
				}
			})
		})
	}
}

// nothing holds the answers without content, each with its own counts.
var nothing = map[string]string{
	"no parts":                 `{"candidates":[{"content":{"role":"model"},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":3130,"totalTokenCount":3130}}`,
	"an empty text":            `{"candidates":[{"content":{"role":"model","parts":[{"text":""}]},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":3130,"totalTokenCount":3130}}`,
	"a thought":                `{"candidates":[{"content":{"role":"model","parts":[{"text":"Hm.","thought":true}]},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":3000,"thoughtsTokenCount":130,"totalTokenCount":3130}}`,
	"OTHER":                    `{"candidates":[{"finishReason":"OTHER"}],"usageMetadata":{"promptTokenCount":3130,"totalTokenCount":3130}}`,
	"a reason nobody knows":    `{"candidates":[{"finishReason":"TIRED"}],"usageMetadata":{"promptTokenCount":3130,"totalTokenCount":3130}}`,
	"a call written badly":     `{"candidates":[{"content":{},"finishReason":"MALFORMED_FUNCTION_CALL"}],"usageMetadata":{"promptTokenCount":3130,"totalTokenCount":3130}}`,
	"a call without a name":    `{"candidates":[{"content":{"parts":[{"functionCall":{"name":"","args":{}}}]},"finishReason":"STOP"}],"usageMetadata":{"promptTokenCount":3125,"candidatesTokenCount":5,"totalTokenCount":3130}}`,
	"a call that is not whole": `{"candidates":[{"content":{"parts":[{"functionCall":{"name":"f","args":{}}}]},"finishReason":"OTHER"}],"usageMetadata":{"promptTokenCount":3125,"candidatesTokenCount":5,"totalTokenCount":3130}}`,
}

func TestAnswersThatGiveNothing(t *testing.T) {
	t.Parallel()
	for name, body := range nothing {
		for _, form := range forms {
			empty, full := form.wire(body), form.wire(good("Hello."))
			t.Run(name+"/"+form.name, func(t *testing.T) {
				t.Parallel()
				s := &script{handlers: []http.HandlerFunc{answer(200, empty), answer(200, full)}}
				guarded(t, s, func(t *testing.T, c *model.Client) {
					for range 3 { // 9 attempts: the breaker of five is not opened by them
						s.at = nil
						a, err := generate(t.Context(), c, form.stream)
						if err != nil || a.Text() != "Hello." || a.Attempts != 2 || a.Usage.TotalTokens != 3130+12 || a.Usage.Source != session.Counted {
							t.Fatalf("%q in %d attempts, %+v, %v", a.Text(), a.Attempts, a.Usage, err)
						}
						if len(a.Spent) != 2 || a.Spent[0].Usage.TotalTokens != 3130 || a.Spent[1].Usage.TotalTokens != 12 {
							t.Errorf("spent %+v", a.Spent)
						}
					}
					checkState(t, c, breaker.Closed)
				})
			})
			t.Run(name+", for good/"+form.name, func(t *testing.T) {
				t.Parallel()
				m := &modelHandlers{handlers: map[string]http.HandlerFunc{first: answer(200, empty), second: both("Hello.")}}
				guarded(t, m, func(t *testing.T, c *model.Client) {
					if a, err := generate(t.Context(), c, form.stream); err != nil || a.Model != second || a.Attempts != 4 || a.Usage.TotalTokens != 3*3130+12 {
						t.Errorf("by %s in %d attempts, %+v, %v", a.Model, a.Attempts, a.Usage, err)
					}
					m.handlers[second] = answer(200, empty)
					a, err := generate(t.Context(), c, form.stream)
					if checkFailure(t, err, model.Failed); a.Attempts != 6 || a.Usage.TotalTokens != 6*3130 {
						t.Errorf("%d attempts, %+v", a.Attempts, a.Usage)
					}
					checkState(t, c, breaker.Closed)
				}, first, second)
			})
		}
	}
}

// Only before text is out is anything asked again.
func TestTextAndThenNothing(t *testing.T) {
	t.Parallel()
	for name, chunk := range nothing {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &script{handlers: []http.HandlerFunc{answer(200, event(piece("Once"))+event(chunk))}}
			inBubble(t, s, func(t *testing.T, c *model.Client) {
				a, _ := generate(t.Context(), c, true)
				if a.Attempts != 1 || s.requests() != 1 || a.Text() != "Once" {
					t.Errorf("%q in %d attempts", a.Text(), a.Attempts)
				}
			})
		})
	}
}

// Faults that pass are tried again, in every shape in which they come.
func TestShapesOfPassingFaults(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		status int
		body   string
		kind   model.Kind // for good
	}{
		{"499", 499, failure(499, "The operation was cancelled."), model.Unavailable},
		{"cut inside JSON", 200, `{"candidates":[{"content":{"role":"model","parts":[{"text":"Hel`, model.Failed},
		{"cut inside a call", 200, `{"candidates":[{"content":{"role":"model","parts":[{"functionCall":{"name":"f`, model.Failed},
		{"nothing", 200, "", model.Failed},
		{"cut at a brace", 200, `{"candidates":[{"content":{"role":"model","parts":[{"text":"Hel"}`, model.Failed},
		{"an error in a 200", 200, failure(503, "busy"), model.Unavailable},
		{"an error in a list in a 200", 200, "[" + failure(503, "busy") + "]", model.Unavailable},
		{"an error after an answer in a list", 200, "[{},\n" + failure(503, "busy") + "\n]", model.Unavailable},
		{"an error by its name alone", 200, `{"error":{"status":"CANCELLED"}}`, model.Unavailable},
		{"an error that is a text", 200, `{"error":"upstream timed out"}`, model.Unavailable},
		{"an error whose code is a text", 200, `{"error":{"code":"429","message":"slow down"}}`, model.Unavailable},
	}
	for _, tt := range tests {
		for _, form := range forms {
			t.Run(tt.name+"/"+form.name, func(t *testing.T) {
				t.Parallel()
				bodies := []string{tt.body}
				if form.stream && tt.status == 200 {
					bodies = append(bodies, "data: "+strings.ReplaceAll(tt.body, "\n", "\ndata: ")+"\n\n")
				}
				for _, body := range bodies {
					s := &script{handlers: []http.HandlerFunc{answer(tt.status, body), both("Hello.")}}
					inBubble(t, s, func(t *testing.T, c *model.Client) {
						if a, err := generate(t.Context(), c, form.stream); err != nil || a.Text() != "Hello." || a.Attempts != 2 {
							t.Errorf("%q: %q in %d attempts, %v", body, a.Text(), a.Attempts, err)
						}
					})
					s = &script{handlers: []http.HandlerFunc{answer(tt.status, body)}}
					inBubble(t, s, func(t *testing.T, c *model.Client) {
						a, err := generate(t.Context(), c, form.stream)
						if failed := checkFailure(t, err, tt.kind); a.Attempts != 3 || failed.Empty {
							t.Errorf("%q: %d attempts, empty %v", body, a.Attempts, failed.Empty)
						}
					})
				}
			})
		}
	}
}

// A short timeout leaves a model half of it, after which silence counts.
func TestSilenceWithinAShortTimeoutCounts(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		left time.Duration
		want breaker.State
	}{{"all of it", 6 * time.Second, breaker.Open}, {"what tools have left of it", 2 * time.Second, breaker.Closed}}
	for _, tt := range tests {
		for _, form := range forms {
			t.Run(tt.name+"/"+form.name, func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					c := newClient(t, model.Config{
						APIKey: apiKey, BaseURL: "http://gemini.test", Transport: wire{http.HandlerFunc(silent)},
						Models: []string{first}, BreakerFailures: 5, BreakerCooldown: cooldown, Timeout: 6 * time.Second,
					})
					for range 5 {
						ctx, cancel := context.WithTimeout(t.Context(), tt.left)
						_, _ = generate(ctx, c, form.stream)
						cancel()
					}
					checkState(t, c, tt.want)
				})
			})
		}
	}
}

// A relay passes TCP connections on to a server, until it goes silent: then what
// passes through the connections of that moment is lost, and they stay open.
type relay struct {
	net.Listener
	to      string
	mu      sync.Mutex
	silent  chan struct{} // closed: the connections so far are silent
	made    int
	waiting sync.WaitGroup
	over    chan struct{}
}

func startRelay(t *testing.T, to string) *relay {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{Listener: listener, to: to, silent: make(chan struct{}), over: make(chan struct{})}
	r.waiting.Go(r.accept)
	t.Cleanup(func() {
		_ = listener.Close()
		close(r.over)
		r.waiting.Wait()
	})
	return r
}

func (r *relay) accept() {
	for {
		client, err := r.Accept()
		if err != nil {
			return
		}
		var dialer net.Dialer
		server, err := dialer.DialContext(context.Background(), "tcp", r.to)
		if err != nil {
			_ = client.Close()
			continue
		}
		r.mu.Lock()
		r.made++
		silent := r.silent
		r.mu.Unlock()
		for _, pair := range [][2]net.Conn{{client, server}, {server, client}} {
			r.waiting.Go(func() {
				<-r.over
				_ = pair[0].Close()
			})
			r.waiting.Go(func() {
				buffer := make([]byte, 32<<10)
				for {
					n, err := pair[0].Read(buffer)
					select {
					case <-silent:
					default:
						if n > 0 {
							_, _ = pair[1].Write(buffer[:n])
						}
					}
					if err != nil {
						return
					}
				}
			})
		}
	}
}

// silence makes the connections so far silent, and returns how many there were.
func (r *relay) silence() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	close(r.silent)
	r.silent = make(chan struct{})
	return r.made
}

func (r *relay) connections() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.made
}

// A path that dies silently costs a ping, not a call.
func TestASilentRelay(t *testing.T) {
	t.Parallel()
	if model.PingedWithin > 15*time.Second {
		t.Errorf("a dead connection is noticed after %v", model.PingedWithin)
	}
	start := func(t *testing.T, ping time.Duration) (*model.Client, *relay) {
		server := httptest.NewUnstartedServer(both("Hello."))
		server.EnableHTTP2 = true
		server.StartTLS()
		t.Cleanup(server.Close)
		r := startRelay(t, server.Listener.Addr().String())
		roots := x509.NewCertPool()
		roots.AddCert(server.Certificate())
		transport := model.NewTransport(roots, ping)
		t.Cleanup(transport.CloseIdleConnections)
		c := newClient(t, model.Config{APIKey: apiKey, BaseURL: "https://" + r.Addr().String(), Loopback: true, Transport: transport, Models: []string{first}, BreakerFailures: 5, BreakerCooldown: cooldown})
		return c, r
	}
	for _, form := range forms {
		t.Run("pings/"+form.name, func(t *testing.T) {
			t.Parallel()
			c, r := start(t, 500*time.Millisecond)
			for range 3 {
				if _, err := generate(t.Context(), c, form.stream); err != nil {
					t.Fatal(err)
				}
			}
			r.silence()
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			begin := time.Now()
			for range 3 {
				if a, err := generate(ctx, c, form.stream); err != nil || a.Text() != "Hello." {
					t.Errorf("%q, %v", a.Text(), err)
				}
			}
			if took := time.Since(begin); took > 20*time.Second {
				t.Errorf("took %v", took)
			}
		})
		t.Run("a call that times out closes its connection/"+form.name, func(t *testing.T) {
			t.Parallel()
			c, r := start(t, time.Hour)
			if _, err := generate(t.Context(), c, form.stream); err != nil {
				t.Fatal(err)
			}
			before := r.silence()
			hearsNothing(t, c, form.stream)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if a, err := generate(ctx, c, form.stream); err != nil || a.Attempts != 1 || r.connections() != before+1 {
				t.Errorf("%d attempts over %d connections, %v", a.Attempts, r.connections(), err)
			}
		})
	}
}

// hearsNothing makes a call through a dead connection.
func hearsNothing(t *testing.T, c *model.Client, stream bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second) // in which the question is sent, on a busy machine, too
	defer cancel()
	if _, err := generate(ctx, c, stream); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("through a dead connection: %v", err)
	}
}

// Idle connections may have died with the one of a call that hears nothing.
func TestIdleConnectionsOfASilentRelay(t *testing.T) {
	t.Parallel()
	var met sync.WaitGroup
	met.Add(2)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Server-Timeout") == "" { // the first two, at once
			met.Done()
			met.Wait()
		}
		both("Hello.")(w, r)
	}))
	t.Cleanup(server.Close)
	r := startRelay(t, server.Listener.Addr().String())
	c := client(t, "http://"+r.Addr().String(), false)
	var calls sync.WaitGroup
	for range 2 {
		calls.Go(func() {
			if _, err := generate(t.Context(), c, false); err != nil {
				t.Error(err)
			}
		})
	}
	calls.Wait()
	before := r.silence()
	hearsNothing(t, c, false)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := generate(ctx, c, false); err != nil || before != 2 || r.connections() != before+1 {
		t.Errorf("%d connections, and then %d: %v", before, r.connections(), err)
	}
}

// A panic of who takes the text is not the SDK's.
func TestAPanicOfWhoTakesTheTextIsPassedOn(t *testing.T) {
	t.Parallel()
	closed := make(chan struct{})
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		_, _ = io.WriteString(w, event(piece("Once")))
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		close(closed)
	})
	c := client(t, serve(t, h), false)
	func() {
		defer func() {
			if p := recover(); p != "a bug" {
				t.Errorf("panic %v", p)
			}
		}()
		_, _ = c.Generate(t.Context(), question(), func(string, string) error { panic("a bug") })
	}()
	<-closed // the answer is not read on
}
