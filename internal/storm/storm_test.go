package storm_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/gatehouse/internal/storm"
)

var size = storm.Size{Length: 20 * time.Second, Rate: 10, Processes: 4, Owners: 4, Sessions: 8}

func TestASeedGivesItsPlan(t *testing.T) {
	t.Parallel()
	if diff := cmp.Diff(storm.New(7, size), storm.New(7, size)); diff != "" {
		t.Errorf("one seed, two plans: %s", diff)
	}
	if cmp.Equal(storm.New(7, size).Calls, storm.New(8, size).Calls) {
		t.Error("two seeds, one plan")
	}
}

func TestAPlanHasEverythingInIt(t *testing.T) {
	t.Parallel()
	kinds, behaviours, troubles := map[storm.Kind]int{}, map[storm.Behaviour]int{}, map[string]int{}
	impatient := 0
	for seed := range uint64(10) {
		p := storm.New(seed, size)
		if len(p.Calls) != size.Sessions+int(size.Length.Seconds())*size.Rate {
			t.Errorf("seed %d: %d calls", seed, len(p.Calls))
		}
		for i, c := range p.Calls {
			if c.Number != i || c.At < 0 || c.At >= size.Length || c.Opens != (i < size.Sessions) {
				t.Errorf("seed %d: call at place %d: %+v", seed, i, c)
			}
			if number, ok := storm.CallOf(c.Query()); !ok || number != i {
				t.Errorf("call %d is known as %d, %v", i, number, ok)
			}
			if c.Session != storm.None && (c.Session%size.Owners == c.Owner) == (c.Kind == storm.Trespass) {
				t.Errorf("seed %d: whose session is it: %+v", seed, c)
			}
			kinds[c.Kind]++
			for _, reply := range c.Model {
				behaviours[reply.Does]++
			}
			for _, patience := range c.Patience {
				if patience > 0 {
					impatient++
				}
			}
		}
		for _, f := range p.Faults {
			troubles[f.Does.String()]++
			if f.Process == 0 && (f.Does == storm.Kill || f.Does == storm.Terminate) {
				t.Errorf("seed %d kills the survivor", seed)
			}
		}
	}
	if len(kinds) != 3 || len(behaviours) != int(storm.Babbles)+1 || len(troubles) != int(storm.LogLoses)+1 || impatient == 0 {
		t.Errorf("kinds %v, behaviours %v, troubles %v, %d clients without patience", kinds, behaviours, troubles, impatient)
	}
}

// carriedOut is the ledger of a storm that went well: each call is made and
// answered in turn, each with a key twice.
func carriedOut(p storm.Plan) storm.Ledger {
	l := storm.Ledger{Shared: make([]string, p.Sessions)}
	turns := map[string]storm.History{}
	clock := time.Duration(0)
	tick := func() time.Duration { clock += time.Millisecond; return clock }
	entry := func(c storm.Call, e storm.Entry) {
		e.Principal, e.EndUser = fmt.Sprint("principal ", c.Owner%2), fmt.Sprint("user ", c.Owner)
		l.Entries = append(l.Entries, e)
	}
	for _, c := range p.Calls {
		session := fmt.Sprint("session of call ", c.Number)
		switch {
		case c.Opens:
			l.Shared[c.Session] = session
		case c.Session != storm.None:
			session = l.Shared[c.Session]
		}
		request := fmt.Sprintf("request-%d", c.Number)
		attempt := storm.Attempt{ID: request, Call: c.Number, Began: tick()}
		if c.Kind != storm.Ask {
			attempt.Answer = storm.Answer{Session: session, Turn: len(turns[session])}
			if c.Kind == storm.Trespass {
				attempt.Code, attempt.Answer = "session_not_found", storm.Answer{}
			}
			attempt.Ended = tick()
			l.Attempts = append(l.Attempts, attempt)
			entry(c, storm.Entry{ID: "read-" + request, Action: "session.read", Outcome: "ok", Request: request})
			continue
		}
		turns[session] = append(turns[session], c.Number)
		l.Histories = append(l.Histories, slices.Clone(turns[session]))
		n := len(turns[session])
		attempt.Answer = storm.Answer{Session: session, Turn: n, Response: "To " + c.Query()}
		attempt.Ended = tick()
		l.Attempts = append(l.Attempts, attempt)
		l.Stored = append(l.Stored, storm.Stored{Owner: c.Owner, Session: session, Turn: n, Query: c.Query(), Response: "To " + c.Query(), Request: request})
		written := storm.Entry{ID: "turn-" + request, Action: "session.turn", Outcome: "ok", Session: session, Turn: n, Request: request}
		entry(c, written)
		if c.Key {
			attempt.ID += "-again"
			attempt.Answer.Replayed = true
			attempt.Began, attempt.Ended = tick(), tick()
			l.Attempts = append(l.Attempts, attempt)
			entry(c, written) // by another process, too
			entry(c, storm.Entry{ID: "replay-" + request, Action: "session.replay", Outcome: "ok", Session: session, Turn: n, Request: attempt.ID})
		}
	}
	return l
}

// faults are the counts of a report that must be 0, by name.
func faults(r storm.Report) map[string]int {
	all := map[string]int{
		"lost": r.Lost, "doubled": r.Doubled, "disordered": r.Disordered, "foreign": r.Foreign,
		"unanswered": r.Unanswered, "unrecorded": r.Unrecorded, "invented": r.Invented,
	}
	for name, n := range all {
		if n == 0 {
			delete(all, name)
		}
	}
	return all
}

func TestAStormThatWentWell(t *testing.T) {
	t.Parallel()
	p := storm.New(1, size)
	r := p.Check(carriedOut(p))
	if got := faults(r); len(got) != 0 || len(r.Problems) != 0 || r.Left != 0 {
		t.Errorf("faults %v, left %d: %v", got, r.Left, r.Problems)
	}
	if r.Answers == 0 || r.Replays == 0 || r.Stored == 0 || r.Entries == 0 {
		t.Errorf("nothing was looked at: %+v", r)
	}
}

func TestWhatAStormMustNotDo(t *testing.T) {
	t.Parallel()
	p := storm.New(1, size)
	first := func(match func(storm.Call) bool) int {
		return slices.IndexFunc(p.Calls, match)
	}
	once := first(func(c storm.Call) bool { return c.Kind == storm.Ask && !c.Key && c.Session == storm.None })
	keyed := first(func(c storm.Call) bool { return c.Kind == storm.Ask && c.Key && c.Session == storm.None })
	later := first(func(c storm.Call) bool { return c.Kind == storm.Ask && !c.Opens && c.Session != storm.None })
	read := first(func(c storm.Call) bool { return c.Kind == storm.Read && c.Number > later })
	trespass := first(func(c storm.Call) bool { return c.Kind == storm.Trespass })
	attempt := func(l *storm.Ledger, call int) *storm.Attempt {
		return &l.Attempts[slices.IndexFunc(l.Attempts, func(a storm.Attempt) bool { return a.Call == call })]
	}
	stored := func(l *storm.Ledger, call int) int {
		return slices.IndexFunc(l.Stored, func(s storm.Stored) bool { return s.Query == p.Calls[call].Query() })
	}
	entries := func(l *storm.Ledger, call int, keep func(storm.Entry) bool) {
		l.Entries = slices.DeleteFunc(l.Entries, func(e storm.Entry) bool {
			return (e.Request == fmt.Sprint("request-", call)) && !keep(e)
		})
	}
	none := func(storm.Entry) bool { return false }
	tests := []struct {
		name   string
		do     func(l *storm.Ledger)
		faults []string
	}{
		{"forget an acknowledged turn", func(l *storm.Ledger) {
			i := stored(l, once)
			l.Stored = slices.Delete(l.Stored, i, i+1)
		}, []string{"lost", "invented"}},
		{"store another answer than it gave", func(l *storm.Ledger) { l.Stored[stored(l, once)].Response += " And more." }, []string{"lost"}},
		{"mix two answers up", func(l *storm.Ledger) {
			a, b := stored(l, once), stored(l, keyed)
			l.Stored[a].Response, l.Stored[b].Response = l.Stored[b].Response, l.Stored[a].Response
		}, []string{"lost", "foreign"}},
		{"store a turn twice", func(l *storm.Ledger) {
			s := l.Stored[stored(l, keyed)]
			s.Turn++
			l.Stored = append(l.Stored, s)
		}, []string{"doubled", "invented"}},
		{"answer a retry anew", func(l *storm.Ledger) {
			for i := range l.Attempts {
				if l.Attempts[i].Call == keyed {
					l.Attempts[i].Answer.Replayed = false
				}
			}
		}, []string{"doubled"}},
		{"answer a retry differently", func(l *storm.Ledger) {
			for i := range l.Attempts {
				if a := &l.Attempts[i]; a.Call == keyed && a.Answer.Replayed {
					a.Answer.Response += " And more."
				}
			}
		}, []string{"lost", "doubled"}},
		{"leave a key without an answer", func(l *storm.Ledger) {
			for i := range l.Attempts {
				if l.Attempts[i].Call == keyed {
					l.Attempts[i].Code = "timeout"
				}
			}
		}, []string{"unanswered"}},
		{"answer a key without saving", func(l *storm.Ledger) { attempt(l, keyed).Answer.NotSaved = true }, []string{"lost"}},
		{"store two calls in the other order", func(l *storm.Ledger) {
			a := attempt(l, later)
			a.Began, a.Ended = -2*time.Second, -time.Second
		}, []string{"disordered"}},
		{"leave a gap", func(l *storm.Ledger) { l.Stored[stored(l, once)].Turn = 2; attempt(l, once).Answer.Turn = 2 }, []string{"disordered", "invented"}},
		{"put a turn into another's session", func(l *storm.Ledger) { l.Stored[stored(l, once)].Owner++ }, []string{"foreign"}},
		{"store what nobody asked for", func(l *storm.Ledger) {
			l.Stored = append(l.Stored, storm.Stored{Session: "new", Turn: 1, Query: "Who am I?", Request: "nobody"})
		}, []string{"foreign", "unrecorded"}},
		{"read less than was acknowledged", func(l *storm.Ledger) { attempt(l, read).Answer.Turn = 0 }, []string{"lost"}},
		{"read more than is left", func(l *storm.Ledger) { attempt(l, read).Answer.Turn = 1000 }, []string{"lost"}},
		{"show a session to another owner", func(l *storm.Ledger) { attempt(l, trespass).Code = "" }, []string{"foreign"}},
		{"tell the model of another session", func(l *storm.Ledger) {
			l.Histories = append(l.Histories, storm.History{once, later})
		}, []string{"foreign"}},
		{"tell the model of a turn that is not stored there", func(l *storm.Ledger) {
			l.Histories = append(l.Histories, storm.History{later, later})
		}, []string{"disordered"}},
		{"leave a turn out of the audit", func(l *storm.Ledger) { entries(l, once, none) }, []string{"unrecorded"}},
		{"leave an answer out of the audit", func(l *storm.Ledger) { entries(l, read, none) }, []string{"unrecorded"}},
		{"audit a turn that is not there", func(l *storm.Ledger) {
			i := slices.IndexFunc(l.Entries, func(e storm.Entry) bool { return strings.HasPrefix(e.ID, "read-") })
			l.Entries[i].ID = "turn-of-nobody"
		}, []string{"invented"}},
		{"audit one turn under two ids", func(l *storm.Ledger) {
			e := l.Entries[slices.IndexFunc(l.Entries, func(e storm.Entry) bool { return e.Request == fmt.Sprint("request-", once) })]
			e.ID += "-again"
			l.Entries = append(l.Entries, e)
		}, []string{"invented"}},
		{"write two things under one id", func(l *storm.Ledger) {
			e := l.Entries[0]
			e.Turn++
			l.Entries = append(l.Entries, e)
		}, []string{"invented"}},
		{"audit one owner's call as another's", func(l *storm.Ledger) {
			for i, e := range l.Entries {
				if e.Request == fmt.Sprint("request-", once) {
					l.Entries[i].EndUser = "somebody else"
				}
			}
		}, []string{"foreign"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			l := carriedOut(p)
			test.do(&l)
			r := p.Check(l)
			got := faults(r)
			for _, name := range test.faults {
				if got[name] == 0 {
					t.Errorf("not seen as %s: %v", name, r.Problems)
				}
				delete(got, name)
			}
			if len(got) != 0 {
				t.Errorf("also seen as %v: %v", got, r.Problems)
			}
		})
	}
}

func TestAKillExcusesAMissingEntryAlone(t *testing.T) {
	t.Parallel()
	p := storm.New(1, size)
	l := carriedOut(p)
	call := slices.IndexFunc(p.Calls, func(c storm.Call) bool { return c.Kind == storm.Ask && !c.Key })
	request := fmt.Sprint("request-", call)
	for i := range l.Attempts {
		if l.Attempts[i].ID == request {
			l.Attempts[i].Killed = true
		}
	}
	l.Entries = slices.DeleteFunc(l.Entries, func(e storm.Entry) bool { return e.Request == request })
	if r := p.Check(l); r.Left != 1 || len(faults(r)) != 0 {
		t.Errorf("left %d, faults %v: %v", r.Left, faults(r), r.Problems)
	}
	l.Stored = slices.DeleteFunc(l.Stored, func(s storm.Stored) bool { return s.Request == request })
	if r := p.Check(l); r.Lost != 1 {
		t.Errorf("a lost turn of a process that was killed: %v", r.Problems)
	}
}
