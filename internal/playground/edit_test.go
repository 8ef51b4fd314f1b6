package playground_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/internal/chrometest"
	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/internal/slowtest"
	"example.com/gatehouse/tool"
)

// converse asks these questions, and is answered each time.
func (b *tab) converse(questions ...string) {
	b.t.Helper()
	for i, question := range questions {
		b.gemini.Enqueue(geminitest.Text("Answer to " + question))
		b.ask(question)
		b.answered(i + 1)
	}
}

// asks fails the test unless these are the questions on the page and in the session.
func (b *tab) asks(want ...string) {
	b.t.Helper()
	if got := chrometest.Eval[[]string](b.Tab, `[...document.querySelectorAll('.turn')].filter((e) => e.checkVisibility()).map((e) => e.querySelector('.ask').textContent)`); !slices.Equal(got, want) {
		b.t.Errorf("the page has the questions %q, want %q", got, want)
	}
	b.stores(want...)
}

func (b *tab) stores(want ...string) {
	b.t.Helper()
	id := chrometest.Eval[string](b.Tab, `location.hash.split('=')[1]`)
	var got []string
	for _, turn := range b.fetch("sessions/" + id)["turns"].([]any) {
		got = append(got, turn.(map[string]any)["query"].(string))
	}
	if !slices.Equal(got, want) {
		b.t.Errorf("the session has the questions %q, want %q", got, want)
	}
}

const (
	firstEdit = `.turn:nth-of-type(1) [title=Edit]`
	editor    = `form.edit textarea`
)

// typeOver puts text in the place of what the field with the focus has.
func (b *tab) typeOver(text string) {
	b.t.Helper()
	b.Until(`document.activeElement.matches('form.edit textarea')`)
	chrometest.Eval[int](b.Tab, `document.activeElement.select(); 1`)
	b.Press(text)
}

func TestEdit(t *testing.T) {
	slowtest.Skip(t, "edits on the playground")
	b := open(t)
	b.converse("one", "two", "three")
	b.gemini.Forget()
	b.Click(firstEdit)
	b.Sees("form.edit .note", "Sending it replaces the answer and the 2 turns after it.")
	b.typeOver("another one")
	b.enter()
	b.answered(1)
	b.asks("another one")
	if n := len(b.gemini.Requests()[0].Contents()); n != 1 {
		t.Errorf("the model was asked with %d contents, want the question only", n)
	}
	// It goes on from there.
	b.ask("next")
	b.answered(2)
	b.asks("another one", "next")
	b.Run(chromedp.Reload())
	b.answered(2)
	b.asks("another one", "next")
	b.Calm()
}

func TestAnswerAgain(t *testing.T) {
	b := open(t)
	b.converse("one", "two", "three")
	again := func(n int, says string, answer func()) {
		b.Click(fmt.Sprintf(`.turn:nth-of-type(%d) .actions .change`, n))
		b.Sees("#confirm-text", says)
		answer()
		b.Until(`!document.querySelector('#confirm').open`)
	}
	again(3, "The new one replaces the answer.", func() { b.Press(kb.Enter) }) // on Cancel
	b.asks("one", "two", "three")
	b.gemini.Enqueue(geminitest.Text("Another answer."))
	again(2, "The new one replaces the answer and the turn after it.", func() { b.Click("#confirm-yes") })
	b.answered(2)
	b.Sees(".turn:last-of-type .text", "Another answer.")
	b.asks("one", "two")
	b.Calm()
}

func TestEditByKeyboard(t *testing.T) {
	b := open(t)
	b.converse("one", "two")
	b.Run(chromedp.Focus(chromedp.CSS(firstEdit)))
	b.Press(kb.Enter)
	b.typeOver("never sent")
	b.Press(kb.Escape)
	b.Until(`document.activeElement.title === 'Edit' && !document.querySelector('form.edit')`)
	b.asks("one", "two")
	b.Press(kb.Enter)
	b.typeOver("one")
	b.Run(chromedp.KeyEvent(kb.Enter, chromedp.KeyModifiers(chromedp.ModifierShift)))
	b.Press("and more")
	b.enter()
	b.answered(1)
	b.asks("one\nand more")
	b.Until(`document.activeElement.id === 'query'`)
	b.Calm()
}

// A replacement that fails, or is stopped before it began, takes nothing away.
func TestEditThatFails(t *testing.T) {
	b := open(t)
	b.converse("one", "two")
	b.gemini.Handle(func(geminitest.Request) geminitest.Reply { return geminitest.Error(400, "no") })
	b.Click(firstEdit)
	b.typeOver("broken")
	b.enter()
	b.Sees("#turns .problem", "model_failed")
	b.ClickText("#turns button", "Keep the earlier answer")
	b.asks("one", "two")
	// What was typed is not lost: it is edited further from where it failed.
	b.Click(firstEdit)
	b.typeOver("broken again")
	b.enter()
	b.Sees("#turns .problem", "model_failed")
	b.ClickText("#turns button", "Edit")
	b.Until(`document.querySelector('form.edit textarea').value === 'broken again'`)
	b.gemini.Handle(func(geminitest.Request) geminitest.Reply { return geminitest.Text("Better now.") })
	b.Press(" and mended")
	b.enter()
	b.answered(1)
	b.asks("broken again and mended")
	b.Calm("Failed to load resource")
}

// Another tab went on: nothing is replaced that this one has not shown, and the question
// is not lost.
func TestEditInASecondTab(t *testing.T) {
	b := open(t)
	b.converse("one")
	elsewhere := func(fields string) {
		chrometest.Eval[bool](b.Tab, fmt.Sprintf(`fetch('invoke', {method: 'POST', headers: {'Content-Type': 'application/json'}, body: JSON.stringify({session_id: location.hash.split('=')[1], %s})}).then((r) => r.ok)`, fields))
	}
	elsewhere(`query: 'two'`)
	b.Click(firstEdit)
	b.typeOver("another one")
	b.enter()
	b.Sees("#turns .problem", "This conversation went on elsewhere.")
	b.stores("one", "two")
	b.ClickText("#turns button", "Load it again")
	b.answered(2)
	b.Until(`document.querySelector('#query').value === 'another one'`)
	b.asks("one", "two")
	// The other tab replaces both, and this one asks on: its answer stays on the page.
	elsewhere(`query: 'instead', replaces: 1, after_turn: 2`)
	chrometest.Eval[int](b.Tab, `document.querySelector('#query').value = ''; 1`)
	b.ask("three")
	b.Sees(".warning", "This session was continued elsewhere.")
	b.stores("instead", "three")
	b.ClickText("#turns button", "Load it again")
	b.answered(2)
	b.asks("instead", "three")
	b.Calm("409")
}

// A question that is being edited, and an answer that is being made again, survive a reload.
func TestReloadWhileEditing(t *testing.T) {
	slowtest.Skip(t, "reloads of the playground during an edit")
	b := open(t)
	b.converse("one", "two")
	b.Click(firstEdit)
	b.typeOver("another one")
	b.Run(chromedp.Reload())
	b.Until(`document.querySelector('form.edit textarea')?.value === 'another one'`)
	gate := make(chan struct{})
	b.gemini.Enqueue(geminitest.Text("It began", ", and it ended.").WithGate(1, gate))
	b.Run(chromedp.Focus(chromedp.CSS(editor)))
	b.enter()
	b.Sees(".text", "It began")
	b.Run(chromedp.Reload())
	b.Until(`[...document.querySelectorAll('.turn')].filter((e) => e.checkVisibility()).map((e) => e.querySelector('.ask').textContent).join() === 'another one'`)
	close(gate)
	b.answered(1)
	b.Sees(".text", "It began, and it ended.")
	b.asks("another one")
	b.Run(chromedp.Reload())
	b.answered(1)
	b.asks("another one")
	b.Calm("409")
}

// Stopped, an edit has what was shown, like any other question.
func TestEditThatIsStopped(t *testing.T) {
	b := open(t)
	b.converse("one", "two")
	b.gemini.Enqueue(geminitest.Text("It began", "never said").SilentAfter(1))
	b.Click(firstEdit)
	b.typeOver("slowly")
	b.enter()
	b.Sees(".turn:last-of-type .text", "It began")
	if hidden := chrometest.Eval[bool](b.Tab, `[...document.querySelectorAll('.change')].every((e) => !e.checkVisibility({visibilityProperty: true}))`); !hidden {
		t.Error("questions can be edited while one is answered")
	}
	b.Click("#stop")
	b.answered(1)
	b.Sees(".warning", "Stopped.")
	b.asks("slowly")
	b.Calm()
}

// What a tool has done stays done, and the page says so.
func TestEditOfWhatWasDone(t *testing.T) {
	b := openAgent(t, fixed(agent.Agent{Tools: []tool.Tool{
		tool.New("pay", "Pays an invoice.", func(context.Context, payment) (string, error) { return "paid", nil }, tool.Effect[payment, string](nil)),
	}}))
	b.gemini.Enqueue(geminitest.Calls(geminitest.FunctionCall{Name: "pay", Args: map[string]any{"amount": 12}}), geminitest.Text("Paid."))
	b.ask("Pay.")
	b.answered(1)
	b.Click(firstEdit)
	b.typeOver("Do not pay.")
	b.enter()
	b.Sees("#turns .problem", "What was done for this answer stays done")
	b.ClickText("#turns button", "Keep the earlier answer")
	b.asks("Pay.")
	b.Calm("409")
}

// The files of a question go with it again, those that the page still has.
func TestEditKeepsFiles(t *testing.T) {
	b := openAgent(t, fixed(agent.Agent{}))
	image := filepath.Join(t.TempDir(), "dot.png")
	if err := os.WriteFile(image, pixel, 0o600); err != nil {
		t.Fatal(err)
	}
	b.Until(`!document.querySelector('#attach').hidden`)
	b.Run(chromedp.SetUploadFiles(chromedp.CSS("#files"), []string{image}))
	b.Sees("#attached li", "dot.png")
	b.ask("What is it?")
	b.answered(1)
	for _, question := range []string{"What color is it?", "And now?"} {
		b.gemini.Forget()
		b.Click(firstEdit)
		b.typeOver(question)
		b.enter()
		b.Until(fmt.Sprintf(`document.querySelectorAll('.turn').length === 1 && document.querySelector('.ask').textContent === %s && document.querySelector('#stop').hidden`, chrometest.JS(question)))
		if prompt := string(b.gemini.Requests()[0].Raw); strings.Contains(prompt, `"image/png"`) != (question != "And now?") {
			t.Errorf("%s: the model was asked with %.300s", question, prompt)
		}
		b.Run(chromedp.Reload()) // without a bucket the service keeps no files, and the page says so
		b.answered(1)
		if question != "And now?" {
			b.Click(firstEdit)
			b.Sees("form.edit .note", "is not kept, and does not go with it")
			b.Press(kb.Escape)
		}
	}
	b.Calm()
}

// Back and forward go through what was opened, and a pasted address opens its session.
func TestBackAndForward(t *testing.T) {
	b := open(t)
	b.ask("Apples")
	b.answered(1)
	apples := chrometest.Eval[string](b.Tab, `location.hash`)
	b.Click("#new")
	b.ask("Pears")
	b.answered(1)
	b.Until(`document.querySelectorAll('#sessions li').length === 2`)
	b.ClickText("nav button", "Apples")
	sees := func(question string) {
		t.Helper()
		b.Until(fmt.Sprintf(`[...document.querySelectorAll('.ask')].map((e) => e.textContent).join() === %s`, chrometest.JS(question)))
	}
	for _, step := range []struct{ goes, sees string }{
		{"", "Apples"}, {"history.back()", "Pears"}, {"history.back()", "Apples"}, {"history.forward()", "Pears"},
		{"location.hash = " + chrometest.JS(apples), "Apples"}, {"history.back()", "Pears"},
	} {
		chrometest.Eval[int](b.Tab, step.goes+"; 1")
		sees(step.sees)
		b.answered(1)
	}
	if address := chrometest.Eval[string](b.Tab, `location.href`); !strings.HasPrefix(address, b.URL) {
		t.Errorf("the page is %s", address)
	}
	b.Calm()
}
