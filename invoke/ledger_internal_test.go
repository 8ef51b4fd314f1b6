package invoke

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genai"

	"example.com/gatehouse/internal/drain"
	"example.com/gatehouse/internal/telemetry"
	"example.com/gatehouse/session"
	"example.com/gatehouse/tool"
)

// Whether another may go on with a run that failed here decides over its files, and over its
// key.
func TestWhatBecomesOfARunThatFailed(t *testing.T) {
	t.Parallel()
	broken := errors.New("it is broken")
	none := func() *journal { return nil }
	of := func(edit func(*journal)) func() *journal {
		return func() *journal {
			j := &journal{mu: make(lock, 1)}
			edit(j)
			return j
		}
	}
	unwritten, written := of(func(*journal) {}), of(func(j *journal) { j.attempted = true })
	unsettled := of(func(j *journal) { j.attempted, j.unsettled = true, true })
	effect := of(func(j *journal) { j.attempted, j.record.Effects = true, map[string]session.Effect{"e": {}} })
	for name, tt := range map[string]struct {
		journal          func() *journal
		err              error
		goesOn, releases bool
	}{
		"without a record":                      {none, broken, false, true},
		"without a record, cut off":             {none, drain.ErrCut, false, true},
		"before its record, cut off":            {unwritten, drain.ErrCut, false, true},
		"before its record, without the store":  {unwritten, session.ErrUnavailable, false, false},
		"with a record":                         {written, broken, false, true},
		"with a record, cut off":                {written, drain.ErrCut, true, false},
		"with a record, without the store":      {written, session.ErrUnavailable, true, false},
		"with a record that may not have ended": {unsettled, broken, true, false},
		"with an effect":                        {effect, broken, true, false},
		"taken over":                            {written, &elsewhereError{cause: session.ErrFenced}, true, false},
	} {
		r := &run{journal: tt.journal()}
		if goesOn, releases := r.goesOn(tt.err), r.releases(tt.err); goesOn != tt.goesOn || releases != tt.releases {
			t.Errorf("%s: it goes on: %t, its key is released: %t", name, goesOn, releases)
		}
	}
	// A stop ends by the run only if nobody can find another end in a record.
	for name, tt := range map[string]struct {
		journal func() *journal
		ended   *session.Run
		want    bool
	}{
		"without a record":         {none, nil, true},
		"before its record":        {unwritten, nil, true},
		"with a record":            {written, nil, false},
		"with the end in a record": {written, &session.Run{}, true},
	} {
		r := &run{out: &output{}, journal: tt.journal(), ended: tt.ended}
		r.out.end(outcome{})
		if got := r.settled(t.Context()); got != tt.want {
			t.Errorf("%s: settled: %t", name, got)
		}
	}
}

// A slow store takes longer than a lease for its first write.
type slow struct {
	session.Store
	writes int
}

func (s *slow) SaveRun(_ context.Context, r *session.Run) (*session.Run, error) {
	if s.writes++; s.writes == 1 {
		time.Sleep(session.LeaseTime) // synctest time
	}
	saved := *r
	saved.Revision = s.writes
	return &saved, nil
}

// An effect begins under a lease that has not ended, in whatever time the store takes; and one
// goroutine writes at a time.
func TestAnEffectAfterASlowWrite(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		store := &slow{}
		s := &Service{Config: Config{Store: store, Log: telemetry.Discard(), Now: time.Now}}
		r := &run{out: &output{}, cancel: func(error) {}}
		r.journal = s.newJournal(t.Context(), r, &Request{}, &session.Opened{Session: session.New(session.Key{Owner: "o", ID: "id"})}, 1)
		if cap(r.journal.mu) != 1 {
			t.Errorf("%d goroutines may write at a time", cap(r.journal.mu))
		}
		if err := r.journal.enter(map[string]session.Effect{"e": {Name: "pay"}}); err != nil || store.writes != 2 {
			t.Errorf("%d writes, %v", store.writes, err)
		}
		r.journal.close(session.Done)
	})
}

// A result in the ledger that cannot be read is none, and its call is not run again.
func TestAResultThatCannotBeRead(t *testing.T) {
	t.Parallel()
	pay := tool.New("pay", "Pays.", func(context.Context, struct{}) (string, error) { return "", nil }, tool.Effect[struct{}, string](nil))
	for result, readable := range map[string]bool{`{"response":{"paid":50}}`: true, `{"part":{}}`: true, `7`: false, `{`: false} {
		g := newGeneration("model", &run{})
		g.run.journal = &journal{mu: make(lock, 1), record: session.Run{Effects: map[string]session.Effect{g.effectID(0): {Name: "pay", Done: true, Result: json.RawMessage(result)}}}}
		p := &plan{id: "call"}
		if err := (&Service{}).planOne(t.Context(), g, p, pay, &genai.FunctionCall{Name: "pay"}, 0); (err == nil) != readable || (p.end != nil) != readable {
			t.Errorf("%s: %+v, %v", result, p, err)
		}
		looped := &loopTurn{g: g, steps: []*loopStep{{ids: []loopID{{Own: "call"}}}}}
		if end, err := looped.Began("call", "pay"); (err == nil) != readable || readable && (end.Result == nil || len(end.Result) != strings.Count(result, "paid")) {
			t.Errorf("%s: a Loop reads %+v, %v", result, end, err)
		}
	}
}

// What a turn has said before it ended early is the model's, too.
func TestWhatATurnThatEndedEarlyHasSaid(t *testing.T) {
	t.Parallel()
	const sentence = "The answer ended before it was finished. What was done before stays done."
	for text, want := range map[string][]string{"": {"pay", sentence}, "Half": {"pay", "Half", sentence}} {
		g := newGeneration("model", &run{out: &output{}, journal: &journal{mu: make(lock, 1)}})
		g.files = &turnFiles{}
		if err := g.add(genai.NewContentFromText("pay", genai.RoleUser)); err != nil {
			t.Fatal(err)
		}
		g.appendText(text)
		if err := g.fail(finishFailed, nil); err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, content := range g.contents {
			got = append(got, content.Parts[0].Text)
		}
		if !slices.Equal(got, want) || !strings.HasSuffix(g.text.String(), sentence) {
			t.Errorf("the model reads %q, clients %q", got, g.text.String())
		}
	}
}

// What was shown of a turn that was stopped is stored, and of one whose client has left, unless
// somebody may ask for the whole of it.
func TestWhatIsLeftOfATurnThatIsCutShort(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		err, cause error
		run        *run
		want       session.RunState
	}{
		"stopped":                      {context.Canceled, errStopped, &run{watched: true}, session.Stopped},
		"stopped as it begins to wait": {errWaits, errStopped, &run{watched: true}, session.Stopped},
		"stopped, without a session":   {context.Canceled, errStopped, &run{watched: true, req: Request{Options: Options{Sessionless: true}}}, session.Stopped},
		"its client has left":          {context.Canceled, context.Canceled, &run{watched: true}, session.Stopped},
		"that, with a key":             {context.Canceled, context.Canceled, &run{watched: true, req: Request{Options: Options{Key: "key"}}}, ""},
		"that, without a session":      {context.Canceled, context.Canceled, &run{watched: true, req: Request{Options: Options{Sessionless: true}}}, ""},
		"that, before the answer":      {context.Canceled, context.Canceled, &run{}, ""},
		"its time is over":             {context.DeadlineExceeded, context.DeadlineExceeded, &run{watched: true}, ""},
	} {
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(tt.cause)
		tt.run.out, tt.run.journal = &output{}, &journal{mu: make(lock, 1), run: tt.run}
		g := newGeneration("model", tt.run)
		g.files, g.rounds = &turnFiles{}, &g.turns
		if err := g.add(genai.NewContentFromText("hello", genai.RoleUser)); err != nil {
			t.Fatal(err)
		}
		g.appendText("Half")
		end, err := (&Service{}).conclude(ctx, tt.run, g, tt.err)
		if end.state != tt.want || (end.stopped != nil) != (tt.want != "") || (err == nil) != (tt.want != "") {
			t.Errorf("%s: %+v, %v", name, end, err)
		}
		if last := g.contents[len(g.contents)-1].Parts[0].Text; (last == "Half") != (tt.want != "") {
			t.Errorf("%s: the turn ends with %q", name, last)
		}
	}
}
