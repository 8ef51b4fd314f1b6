package playground_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/chrometest"
	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/internal/slowtest"
)

// refuse makes the service's answer to the page's next questions a refusal each.
func (b *tab) refuse(refusals ...*api.Error) {
	b.t.Helper()
	type answer struct {
		Status int          `json:"status"`
		Body   api.Envelope `json:"body"`
	}
	var answers []answer
	for _, refusal := range refusals {
		answers = append(answers, answer{refusal.Status(), api.Failure(b.t.(*testing.T).Context(), refusal)})
	}
	encoded, err := json.Marshal(answers)
	if err != nil {
		b.t.Fatal(err)
	}
	chrometest.Eval[bool](b.Tab, fmt.Sprintf(`(() => {
		const answers = %s, real = window.fetch;
		window.fetch = (url, options) => {
			const next = new URL(url).pathname === '/invoke' && answers.shift();
			return next ? Promise.resolve(Response.json(next.body, {status: next.status})) : real(url, options);
		};
		return true;
	})()`, encoded))
}

// What passes by itself is one refusal for a person: one box in the service's own words, whose
// seconds count down, however many questions wait for it. They are then answered in order.
func TestSixRefusalsAreOne(t *testing.T) {
	slowtest.Skip(t, "refusals that count down on the playground")
	b := open(t, "RATE_LIMIT_PER_MINUTE=1000")
	codes := []api.Code{api.RateLimited, api.QuotaExceeded, api.ModelUnavailable, api.Overloaded, api.SessionStoreUnavailable, api.ShuttingDown}
	var refusals []*api.Error
	for _, code := range codes {
		refusals = append(refusals, &api.Error{Code: code, RetryAfter: 30 * time.Second})
	}
	again := &api.Error{Code: api.Overloaded, RetryAfter: 2 * time.Second}
	b.refuse(append(slices.Clone(refusals), again)...)
	var questions []string
	for i, refusal := range refusals {
		questions = append(questions, fmt.Sprintf("Question %d?", i+1))
		b.ask(questions[i])
		b.Sees("#turns .problem", string(refusal.Code))
		b.Until(fmt.Sprintf(`document.querySelectorAll('.turn').length === %d && document.querySelector('#stop').hidden`, i+1))
		if boxes, waits := b.Count("#turns .problem"), b.Count("#turns .wait"); boxes != 1 || waits != 1 {
			t.Fatalf("%s: %d boxes, %d countdowns", refusal.Code, boxes, waits)
		}
		words, _, _ := strings.Cut(refusal.Sentence(), " Try again")
		if got := b.Text("#turns .problem p"); !strings.HasPrefix(got, words+" Try again in ") || strings.Count(got, "Try again") != 1 {
			t.Errorf("%s: the page says %q, the service %q", refusal.Code, got, refusal.Sentence())
		}
		chrometest.Eval[bool](b.Tab, `(document.querySelector('#query').value = '') === ''`) // the question is kept there
	}
	b.Sees("#turns .problem", "6 questions are not answered yet.")
	if n := b.Count(".turn:last-child .problem"); n != 1 {
		t.Error("the box is not below the last question")
	}
	left := func() string { return b.Text(".wait") }
	for before, end := left(), time.Now().Add(chrometest.Limit); left() == before; {
		if time.Now().After(end) {
			t.Fatalf("it stays %q", before)
		}
	}
	// Of those that are asked again, the first is refused once more: the others are not asked.
	b.ClickText("button", "Try again")
	b.Until(`/Try again (now|in [12] second)/.test(document.querySelector('.problem .wait')?.textContent)`)
	if boxes, asked := b.Count("#turns .problem"), len(b.gemini.Requests()); boxes != 1 || asked != 0 {
		t.Errorf("%d boxes, the model was asked %d times", boxes, asked)
	}
	b.gemini.Handle(func(r geminitest.Request) geminitest.Reply { return geminitest.Text("To " + r.Prompt()) })
	b.ClickText("button", "Try again")
	b.answered(len(questions))
	if n := b.Count("#turns .problem"); n != 0 {
		t.Errorf("%d boxes stay", n)
	}
	sessions := b.fetch("sessions")["sessions"].([]any)
	if len(sessions) != 1 {
		t.Fatalf("%d sessions", len(sessions))
	}
	stored := b.fetch("sessions/" + sessions[0].(map[string]any)["session_id"].(string))["turns"].([]any)
	var got []string
	for _, turn := range stored {
		got = append(got, turn.(map[string]any)["query"].(string))
	}
	if !slices.Equal(got, questions) {
		t.Errorf("stored %q", got)
	}
	b.Calm("Failed to load resource")
}
