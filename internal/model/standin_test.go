package model_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/genai"

	"example.com/gatehouse/internal/breaker"
	"example.com/gatehouse/internal/model"
)

// modelHandlers answers each model by its handler, and remembers what was asked.
type modelHandlers struct {
	handlers map[string]http.HandlerFunc
	mu       sync.Mutex
	asked    []string
	bodies   []string
}

func (m *modelHandlers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	name := r.URL.Path[strings.LastIndex(r.URL.Path, "/")+1:]
	name, _, _ = strings.Cut(name, ":")
	body, _ := io.ReadAll(r.Body)
	m.mu.Lock()
	m.asked, m.bodies = append(m.asked, name), append(m.bodies, string(body))
	m.mu.Unlock()
	r.Body = io.NopCloser(bytes.NewReader(body))
	m.handlers[name](w, r)
}

func silent(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// both returns a body that is right for either form of asking.
func both(text string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body := good(text)
		if r.URL.Query().Get("alt") == "sse" {
			body = event(body)
		}
		_, _ = io.WriteString(w, body)
	}
}

func TestWhoStandsIn(t *testing.T) {
	t.Parallel()
	cut := func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }
	tests := []struct {
		name    string
		first   http.HandlerFunc
		second  http.HandlerFunc
		third   http.HandlerFunc
		asked   []string
		by      string // "": an error
		kind    model.Kind
		retryIn time.Duration
	}{
		{"nobody for a model that answers", both("Hello."), nil, nil, []string{first}, first, 0, 0},
		{"the second after 503", answer(503, ""), both("Hello."), nil, []string{first, first, first, second}, second, 0, 0},
		{"the second after cut connections", cut, both("Hello."), nil, []string{first, first, first, second}, second, 0, 0},
		{"the second, at once, for a model that is gone", answer(404, ""), both("Hello."), nil, []string{first, second}, second, 0, 0},
		{"the second, at once, when the first asks to wait", answer(429, "", "Retry-After", "10"), both("Hello."), nil, []string{first, second}, second, 0, 0},
		{"the third after both", answer(404, ""), answer(404, ""), both("Hello."), []string{first, second, third}, third, 0, 0},
		{"the third when the second refuses the request", answer(404, ""), answer(400, ""), both("Hello."), []string{first, second, third}, third, 0, 0},
		{"the third when the second cannot be read", answer(404, ""), answer(403, ""), both("Hello."), []string{first, second, third}, third, 0, 0},
		{"nobody for a request that is refused", answer(400, ""), both("Hello."), nil, []string{first}, "", model.Failed, 0},
		{"nobody for a key that is refused", answer(403, ""), both("Hello."), nil, []string{first}, "", model.Failed, 0},
		{"none that is there: the sooner time to come again", answer(429, "", "Retry-After", "50"), answer(429, "", "Retry-After", "9"), answer(503, "", "Retry-After", "20"),
			[]string{first, second, third}, "", model.Unavailable, 9 * time.Second},
		{"none that takes it: it may pass", answer(429, "", "Retry-After", "50"), answer(400, ""), answer(400, ""), []string{first, second, third}, "", model.Unavailable, 50 * time.Second},
		{"none of the names", answer(404, ""), answer(404, ""), answer(404, ""), []string{first, second, third}, "", model.Failed, 0},
		{"a name that is gone, and nobody there", answer(404, ""), answer(429, "", "Retry-After", "7"), answer(404, ""), []string{first, second, third}, "", model.Unavailable, 7 * time.Second},
	}
	for _, tt := range tests {
		for _, form := range forms {
			t.Run(tt.name+"/"+form.name, func(t *testing.T) {
				t.Parallel()
				m := &modelHandlers{handlers: map[string]http.HandlerFunc{first: tt.first, second: tt.second, third: tt.third}}
				guarded(t, m, func(t *testing.T, c *model.Client) {
					ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
					defer cancel()
					a, err := generate(ctx, c, form.stream)
					if !slices.Equal(m.asked, tt.asked) || a.Attempts != len(tt.asked) {
						t.Errorf("asked %q in %d attempts, want %q", m.asked, a.Attempts, tt.asked)
					}
					if tt.by == "" {
						if failed := checkFailure(t, err, tt.kind); failed.RetryAfter != tt.retryIn {
							t.Errorf("RetryAfter %v, want %v", failed.RetryAfter, tt.retryIn)
						}
						return
					}
					if err != nil || a.Model != tt.by || a.Text() != "Hello." {
						t.Errorf("%q by %s, want it by %s; %v", a.Text(), a.Model, tt.by, err)
					}
				}, first, second, third)
			})
		}
	}
}

func TestTheSecondAnswersWhileTheFirstsBreakerIsOpen(t *testing.T) {
	t.Parallel()
	m := &modelHandlers{handlers: map[string]http.HandlerFunc{first: answer(503, ""), second: both("Hello.")}}
	guarded(t, m, func(t *testing.T, c *model.Client) {
		for i := range 10 {
			begin := time.Now()
			var by []string
			a, err := c.Generate(t.Context(), question(), func(name, _ string) error { by = append(by, name); return nil })
			if err != nil || a.Model != second || !slices.Equal(by, []string{second}) {
				t.Fatalf("call %d: by %s, text said to be by %q, %v", i, a.Model, by, err)
			}
			if i > 2 && (a.Attempts != 1 || time.Since(begin) != 0) {
				t.Errorf("call %d: %d attempts in %v, want the second asked at once", i, a.Attempts, time.Since(begin))
			}
		}
		checkState(t, c, breaker.Open)
		m.handlers[first] = both("Back.")
		time.Sleep(cooldown + time.Millisecond)
		if a, err := c.Generate(t.Context(), question(), nil); err != nil || a.Model != first {
			t.Errorf("after the cooldown: by %s, %v", a.Model, err)
		}
	}, first, second)
}

func TestNobodyStandsInForARequestAlone(t *testing.T) {
	t.Parallel()
	m := &modelHandlers{handlers: map[string]http.HandlerFunc{first: answer(503, ""), second: both("Hello.")}}
	guarded(t, m, func(t *testing.T, c *model.Client) {
		r := question()
		r.Alone = true
		_, err := c.Generate(t.Context(), r, nil)
		checkFailure(t, err, model.Unavailable)
		if slices.Contains(m.asked, second) {
			t.Errorf("asked %q", m.asked)
		}
	}, first, second)
}

// A model that was asked for by name because it stood in before has the others
// behind it, the usual one among them.
func TestTheUsualModelStandsInForAnother(t *testing.T) {
	t.Parallel()
	m := &modelHandlers{handlers: map[string]http.HandlerFunc{first: both("Hello."), second: answer(404, "")}}
	guarded(t, m, func(t *testing.T, c *model.Client) {
		r := question()
		r.Model = second
		if a, err := c.Generate(t.Context(), r, nil); err != nil || a.Model != first {
			t.Errorf("by %s, %v", a.Model, err)
		}
	}, first, second)
}

func TestASilentModelLeavesTimeForTheOthers(t *testing.T) {
	t.Parallel()
	for _, form := range forms {
		t.Run(form.name, func(t *testing.T) {
			t.Parallel()
			last := func(w http.ResponseWriter, r *http.Request) {
				time.Sleep(2500 * time.Millisecond) // of 3 s, which are all its own
				both("Hello.")(w, r)
			}
			m := &modelHandlers{handlers: map[string]http.HandlerFunc{first: silent, second: silent, third: last}}
			guarded(t, m, func(t *testing.T, c *model.Client) {
				ctx, cancel := context.WithTimeout(t.Context(), 27*time.Second)
				defer cancel()
				begin := time.Now()
				a, err := generate(ctx, c, form.stream)
				// Two thirds of 27 s are 18, two thirds of the 9 left are 6.
				if took := time.Since(begin); err != nil || a.Model != third || took < 26*time.Second || took > 27*time.Second {
					t.Errorf("by %s after %v: %v", a.Model, took, err)
				}
			}, first, second, third)
		})
	}
}

func TestALongAnswerThatHasBegunIsNotCutForTheOthers(t *testing.T) {
	t.Parallel()
	slow := func(w http.ResponseWriter, _ *http.Request) {
		for range 4 {
			_, _ = io.WriteString(w, event(piece("a")))
			time.Sleep(7 * time.Second)
		}
		_, _ = io.WriteString(w, event(good("b")))
	}
	m := &modelHandlers{handlers: map[string]http.HandlerFunc{first: slow, second: both("Hello.")}}
	guarded(t, m, func(t *testing.T, c *model.Client) {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		if a, err := generate(ctx, c, true); err != nil || a.Model != first || a.Text() != "aaaab" {
			t.Errorf("%q by %s, %v", a.Text(), a.Model, err)
		}
	}, first, second)
}

func TestNobodyStandsInOnceTextIsOut(t *testing.T) {
	t.Parallel()
	begins := func(rest http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, event(piece("Once")))
			rest(w, r)
		}
	}
	tests := []struct {
		name string
		rest http.HandlerFunc
		kind model.Kind
		took time.Duration
	}{
		{"cut", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, model.Unavailable, 0},
		{"an error", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, event(failure(503, "busy"))) }, model.Unavailable, 0},
		{"silence", silent, model.Timeout, 20 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			m := &modelHandlers{handlers: map[string]http.HandlerFunc{first: begins(tt.rest), second: both("Hello.")}}
			guarded(t, m, func(t *testing.T, c *model.Client) {
				begin := time.Now()
				var texts []string
				a, err := c.Generate(t.Context(), question(), func(by, text string) error { texts = append(texts, by+" "+text); return nil })
				checkFailure(t, err, tt.kind, "Once")
				if !slices.Equal(texts, []string{first + " Once"}) || len(m.asked) != 1 || time.Since(begin) != tt.took {
					t.Errorf("text %q, asked %q, took %v; want %v", texts, m.asked, time.Since(begin), tt.took)
				}
				if a.Usage.Source == "" {
					t.Error("what was spent on the text is not said to be unknown")
				}
			}, first, second)
		})
	}
}

// Silence that begins before the first chunk is thought; after it, a stall.
func TestAStallBeforeTextIsTriedAgain(t *testing.T) {
	t.Parallel()
	thinks := func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, event(`{"candidates":[{"content":{"role":"model","parts":[{"text":"Hm.","thought":true}]}}]}`))
		silent(w, r)
	}
	tests := []struct {
		name     string
		timeout  time.Duration
		attempts int
		took     time.Duration
	}{
		{"as long as there is as much time again", 50 * time.Second, 2, 20 * time.Second},
		{"not when most of the time is gone", 35 * time.Second, 1, 20 * time.Second},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := &script{handlers: []http.HandlerFunc{thinks, answer(200, event(good("Hello.")))}}
			guarded(t, s, func(t *testing.T, c *model.Client) {
				ctx, cancel := context.WithTimeout(t.Context(), tt.timeout)
				defer cancel()
				begin := time.Now()
				a, err := c.Generate(ctx, question(), dropText)
				if took := time.Since(begin); took < tt.took || took > tt.took+time.Second || a.Attempts != tt.attempts {
					t.Errorf("%d attempts in %v, want %d in %v", a.Attempts, took, tt.attempts, tt.took)
				}
				if tt.attempts == 1 {
					checkFailure(t, err, model.Timeout)
				} else if err != nil || a.Text() != "Hello." {
					t.Errorf("%q, %v", a.Text(), err)
				}
			})
		})
	}
	t.Run("twice at most, however much time there is", func(t *testing.T) {
		t.Parallel()
		guarded(t, http.HandlerFunc(thinks), func(t *testing.T, c *model.Client) {
			for range 2 { // of five stalls the breaker opens, for everybody
				a, err := c.Generate(t.Context(), question(), dropText)
				if checkFailure(t, err, model.Timeout); a.Attempts != 2 {
					t.Errorf("%d attempts, want 2", a.Attempts)
				}
			}
			checkState(t, c, breaker.Closed)
		})
	})
}

// Before its first chunk a stream has as long as a whole answer.
func TestAStreamIsAsPatientAsAWholeAnswer(t *testing.T) {
	t.Parallel()
	thinks := func(w http.ResponseWriter, r *http.Request) {
		time.Sleep(22 * time.Second)
		both("Hello.")(w, r)
	}
	drips := func(w http.ResponseWriter, r *http.Request) { // comments, and no chunk
		for range 25 {
			if _, err := io.WriteString(w, ": ping\n\n"); err != nil {
				return
			}
			time.Sleep(time.Second)
		}
		both("Hello.")(w, r)
	}
	tests := []struct {
		name   string
		model  http.HandlerFunc
		stream bool
	}{{"a whole answer", thinks, false}, {"a stream", thinks, true}, {"a stream with comments", drips, true}}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			guarded(t, tt.model, func(t *testing.T, c *model.Client) {
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				defer cancel()
				for range 6 {
					if a, err := generate(ctx, c, tt.stream); err != nil || a.Text() != "Hello." || a.Attempts != 1 {
						t.Fatalf("%q in %d attempts, %v", a.Text(), a.Attempts, err)
					}
					ctx, cancel = context.WithTimeout(t.Context(), 30*time.Second)
					defer cancel()
				}
				checkState(t, c, breaker.Closed)
			})
		})
		t.Run(tt.name+" that does not come", func(t *testing.T) {
			t.Parallel()
			s := &script{handlers: []http.HandlerFunc{silent}}
			guarded(t, s, func(t *testing.T, c *model.Client) {
				ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
				defer cancel()
				if a, err := generate(ctx, c, tt.stream); !errors.Is(err, context.DeadlineExceeded) || a.Attempts != 1 {
					t.Errorf("%d attempts, %v", a.Attempts, err)
				}
			})
		})
	}
}

// A client that reads slowly is not a model that stalls.
func TestASlowReaderIsNoStall(t *testing.T) {
	t.Parallel()
	guarded(t, answer(200, event(piece("a"))+event(good("b"))), func(t *testing.T, c *model.Client) {
		a, err := c.Generate(t.Context(), question(), func(string, string) error { time.Sleep(time.Minute); return nil })
		if err != nil || a.Text() != "ab" {
			t.Errorf("%q, %v", a.Text(), err)
		}
	})
}

// conversation is a turn whose contents model "first" has signed.
func conversation() []*genai.Content {
	signature := []byte("signed by the first")
	return []*genai.Content{
		genai.NewContentFromText("What is the weather?", genai.RoleUser),
		{Role: "model", Parts: []*genai.Part{{ThoughtSignature: signature}}},
		{Role: "model", Parts: []*genai.Part{
			{Text: "Let me see.", ThoughtSignature: signature},
			{FunctionCall: &genai.FunctionCall{Name: "weather", Args: map[string]any{"city": "Köln"}}, ThoughtSignature: signature},
			{FunctionCall: &genai.FunctionCall{Name: "weather", Args: map[string]any{"city": "Bonn"}}},
		}},
		{Role: "user", Parts: []*genai.Part{
			{FunctionResponse: &genai.FunctionResponse{Name: "weather", Response: map[string]any{"sky": "grey"}}},
			{FunctionResponse: &genai.FunctionResponse{Name: "weather", Response: map[string]any{"sky": "blue"}}},
		}},
	}
}

// What may be sent to a model that checks signatures: each call that was signed
// is, by the model itself or by the word that stands for another's.
func TestSignaturesOfAnotherModel(t *testing.T) {
	t.Parallel()
	const (
		plain   = "skip_thought_signature_validator"
		encoded = "c2tpcF90aG91Z2h0X3NpZ25hdHVyZV92YWxpZGF0b3I=" // the same in base64
		none    = "none: no call at all"
	)
	// strict is a model that takes no signature but the bypass, and no step whose
	// first call has none.
	strict := func(message, bypass string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			var body struct {
				Contents []struct {
					Role  string
					Parts []map[string]any
				}
			}
			if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
				t.Error(err)
			}
			for _, content := range body.Contents {
				if len(content.Parts) == 0 {
					answer(400, failure(400, "a content without parts"))(w, r)
					return
				}
				for i, part := range content.Parts {
					signature, signed := part["thoughtSignature"]
					_, calls := part["functionCall"]
					first := i == 0 || content.Parts[i-1]["functionCall"] == nil // of a step's calls, the first is signed
					if len(part) == 0 || signed && signature != bypass || calls && first && !signed {
						answer(400, failure(400, message))(w, r)
						return
					}
				}
			}
			both("Grey and blue.")(w, r)
		}
	}
	tests := []struct {
		name     string
		handlers map[string]http.HandlerFunc
		asked    []string
		by       string
	}{
		{"the other takes them as they are", map[string]http.HandlerFunc{first: answer(404, ""), second: both("Grey and blue.")}, []string{first, second}, second},
		{"the other says why it does not", map[string]http.HandlerFunc{first: answer(404, ""), second: strict("Thought signature is not valid", plain)}, []string{first, second, second}, second},
		{"the other does not say why", map[string]http.HandlerFunc{first: answer(404, ""), second: strict("Request contains an invalid argument.", plain)}, []string{first, second, second}, second},
		{"the first is given another's", map[string]http.HandlerFunc{first: strict("Corrupted thought signature.", plain)}, []string{first, first}, first},
		{"the first takes the bypass in base64", map[string]http.HandlerFunc{first: strict("Corrupted thought signature.", encoded)}, []string{first, first, first}, first},
		{"the first takes words only", map[string]http.HandlerFunc{first: strict("Corrupted thought signature.", none)}, []string{first, first, first, first}, first},
		{"the first's key is refused", map[string]http.HandlerFunc{first: answer(400, `{"error":{"code":400,"status":"INVALID_ARGUMENT","message":"API key not valid.","details":[{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"API_KEY_INVALID"}]}}`)}, []string{first}, ""},
		{"the first refuses them in every form", map[string]http.HandlerFunc{first: answer(400, failure(400, "Corrupted thought signature."))}, []string{first, first, first, first}, ""},
	}
	for _, tt := range tests {
		for _, form := range forms {
			t.Run(tt.name+"/"+form.name, func(t *testing.T) {
				t.Parallel()
				m := &modelHandlers{handlers: tt.handlers}
				guarded(t, m, func(t *testing.T, c *model.Client) {
					r := question()
					r.Contents = conversation()
					a, err := form.ask(t.Context(), c, r)
					if !slices.Equal(m.asked, tt.asked) {
						t.Errorf("asked %q, want %q", m.asked, tt.asked)
					}
					if tt.by == "" {
						checkFailure(t, err, model.Failed)
					} else if err != nil || a.Model != tt.by || a.Text() != "Grey and blue." {
						t.Errorf("%q by %s, %v", a.Text(), a.Model, err)
					}
					sent, _ := json.Marshal(r.Contents)
					if want, _ := json.Marshal(conversation()); !bytes.Equal(sent, want) {
						t.Errorf("the request's contents were changed: %s", sent)
					}
				}, first, second)
			})
		}
	}
}

func TestOnTextsErrorAsksNobodyElse(t *testing.T) {
	t.Parallel()
	errGone := errors.New("gone")
	m := &modelHandlers{handlers: map[string]http.HandlerFunc{first: both("Hello."), second: both("Hello.")}}
	guarded(t, m, func(t *testing.T, c *model.Client) {
		if _, err := c.Generate(t.Context(), question(), func(string, string) error { return errGone }); !errors.Is(err, errGone) || len(m.asked) != 1 {
			t.Errorf("asked %q, %v", m.asked, err)
		}
		m.asked, m.handlers[first] = nil, answer(404, "")
		if _, err := c.Generate(t.Context(), question(), func(string, string) error { return errGone }); !errors.Is(err, errGone) || len(m.asked) != 2 {
			t.Errorf("where the first is gone: asked %q, %v", m.asked, err)
		}
	}, first, second, third)
}

// The tokens of every model's attempts are told, not only of the last one's.
func TestTokensOfTheModelThatFailedAreCounted(t *testing.T) {
	t.Parallel()
	spent := event(`{"candidates":[{"content":{"role":"model","parts":[{"text":"Hm.","thought":true}]}}],"usageMetadata":{"promptTokenCount":7,"thoughtsTokenCount":100,"totalTokenCount":107}}`)
	m := &modelHandlers{handlers: map[string]http.HandlerFunc{first: answer(200, spent+event(failure(503, "busy"))), second: both("Hello.")}}
	guarded(t, m, func(t *testing.T, c *model.Client) {
		a, err := c.Generate(t.Context(), question(), dropText)
		if err != nil || a.Attempts != 4 || a.Usage.TotalTokens != 3*107+12 {
			t.Errorf("%d attempts, %d tokens, want 4 and 333: %v", a.Attempts, a.Usage.TotalTokens, err)
		}
	}, first, second)
}
