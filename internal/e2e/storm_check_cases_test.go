package e2e_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var smallStorm = stormSize{Length: 20 * time.Second, Rate: 10, Processes: 4, Owners: 4, Sessions: 8}

func TestASeedGivesItsPlan(t *testing.T) {
	t.Parallel()
	if diff := cmp.Diff(newStormPlan(7, smallStorm), newStormPlan(7, smallStorm), cmp.AllowUnexported(stormPlan{})); diff != "" {
		t.Errorf("one seed, two plans: %s", diff)
	}
	if cmp.Equal(newStormPlan(7, smallStorm).Calls, newStormPlan(8, smallStorm).Calls) {
		t.Error("two seeds, one plan")
	}
}

func TestAPlanHasEverythingInIt(t *testing.T) {
	t.Parallel()
	kinds, behaviours, troubles, doors := map[callKind]int{}, map[modelBehavior]int{}, map[string]int{}, map[stormDoor]int{}
	impatient := 0
	for seed := range uint64(10) {
		p := newStormPlan(seed, smallStorm)
		if len(p.Calls) != smallStorm.Sessions+int(smallStorm.Length.Seconds())*smallStorm.Rate {
			t.Errorf("seed %d: %d calls", seed, len(p.Calls))
		}
		for i, c := range p.Calls {
			if c.Number != i || c.At < 0 || c.At >= smallStorm.Length || c.Opens != (i < smallStorm.Sessions) {
				t.Errorf("seed %d: call at place %d: %+v", seed, i, c)
			}
			if number, ok := stormCallOf(c.Query()); !ok || number != i {
				t.Errorf("call %d is known as %d, %v", i, number, ok)
			}
			if c.Session != noSharedSession && (c.Session%smallStorm.Owners == c.Owner) == (c.Kind == callTrespass) {
				t.Errorf("seed %d: whose session is it: %+v", seed, c)
			}
			kinds[c.Kind]++
			doors[c.Door]++
			if c.Door != doorInvoke && !c.Key {
				t.Errorf("a call by another door without a key: %+v", c)
			}
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
			if f.Process == 0 && (f.Does == faultKill || f.Does == faultTerminate) {
				t.Errorf("seed %d kills the survivor", seed)
			}
		}
	}
	if len(kinds) != 3 || len(behaviours) != int(modelIsEmpty)+1 || len(troubles) != int(faultKinds) || len(doors) != int(stormDoors) || impatient == 0 {
		t.Errorf("kinds %v, behaviours %v, troubles %v, doors %v, %d clients without patience", kinds, behaviours, troubles, doors, impatient)
	}
}

// carriedOut is the ledger of a storm that went well: each call is made and
// answered in turn, each with a key twice.
func carriedOut(p stormPlan) stormLedger {
	l := stormLedger{Shared: make([]string, p.Sessions)}
	turns := map[string]modelHistory{}
	clock := time.Duration(0)
	tick := func() time.Duration { clock += time.Millisecond; return clock }
	entry := func(c stormCall, e stormEntry) {
		e.Principal, e.EndUser = fmt.Sprint("principal ", c.Owner%2), fmt.Sprint("user ", c.Owner)
		l.Entries = append(l.Entries, e)
	}
	for _, c := range p.Calls {
		session := fmt.Sprint("session of call ", c.Number)
		switch {
		case c.Opens:
			l.Shared[c.Session] = session
		case c.Session != noSharedSession:
			session = l.Shared[c.Session]
		}
		request := fmt.Sprintf("request-%d", c.Number)
		attempt := stormAttempt{ID: request, Call: c.Number, Began: tick()}
		if c.Kind != callAsk {
			attempt.Answer = stormAnswer{Session: session, Turn: len(turns[session])}
			if c.Kind == callTrespass {
				attempt.Code, attempt.Answer = "session_not_found", stormAnswer{}
			}
			attempt.Ended = tick()
			l.Attempts = append(l.Attempts, attempt)
			entry(c, stormEntry{ID: "read-" + request, Action: "session.read", Outcome: "ok", Request: request})
			continue
		}
		turns[session] = append(turns[session], c.Number)
		l.Histories = append(l.Histories, slices.Clone(turns[session]))
		n := len(turns[session])
		attempt.Answer = stormAnswer{Session: session, Turn: n, Response: "To " + c.Query()}
		attempt.Ended = tick()
		l.Attempts = append(l.Attempts, attempt)
		l.Stored = append(l.Stored, stormTurn{Owner: c.Owner, Session: session, Turn: n, Query: c.Query(), Response: "To " + c.Query(), Request: request})
		written := stormEntry{ID: "turn-" + request, Action: "session.turn", Outcome: "ok", Session: session, Turn: n, Request: request}
		entry(c, written)
		if c.Key {
			attempt.ID += "-again"
			attempt.Answer.Replayed = true
			attempt.Began, attempt.Ended = tick(), tick()
			l.Attempts = append(l.Attempts, attempt)
			entry(c, written) // by another process, too
			entry(c, stormEntry{ID: "replay-" + request, Action: "session.replay", Outcome: "ok", Session: session, Turn: n, Request: attempt.ID})
		}
	}
	return l
}

// faults are the counts of a report that must be 0, by name.
func faultsIn(r stormReport) map[string]int {
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
	p := newStormPlan(1, smallStorm)
	r := p.Check(carriedOut(p))
	if got := faultsIn(r); len(got) != 0 || len(r.Problems) != 0 || r.Left != 0 {
		t.Errorf("faults %v, left %d: %v", got, r.Left, r.Problems)
	}
	if r.Answers == 0 || r.Replays == 0 || r.Stored == 0 || r.Entries == 0 {
		t.Errorf("nothing was looked at: %+v", r)
	}
}

func TestWhatAStormMustNotDo(t *testing.T) {
	t.Parallel()
	p := newStormPlan(1, smallStorm)
	first := func(match func(stormCall) bool) int {
		return slices.IndexFunc(p.Calls, match)
	}
	once := first(func(c stormCall) bool { return c.Kind == callAsk && !c.Key && c.Session == noSharedSession })
	keyed := first(func(c stormCall) bool {
		return c.Kind == callAsk && c.Key && c.Door == doorInvoke && c.Session == noSharedSession
	})
	later := first(func(c stormCall) bool { return c.Kind == callAsk && !c.Opens && c.Session != noSharedSession })
	read := first(func(c stormCall) bool { return c.Kind == callRead && c.Number > later })
	trespass := first(func(c stormCall) bool { return c.Kind == callTrespass })
	attempt := func(l *stormLedger, call int) *stormAttempt {
		return &l.Attempts[slices.IndexFunc(l.Attempts, func(a stormAttempt) bool { return a.Call == call })]
	}
	stored := func(l *stormLedger, call int) int {
		return slices.IndexFunc(l.Stored, func(s stormTurn) bool { return s.Query == p.Calls[call].Query() })
	}
	entries := func(l *stormLedger, call int, keep func(stormEntry) bool) {
		l.Entries = slices.DeleteFunc(l.Entries, func(e stormEntry) bool {
			return (e.Request == fmt.Sprint("request-", call)) && !keep(e)
		})
	}
	none := func(stormEntry) bool { return false }
	tests := []struct {
		name   string
		do     func(l *stormLedger)
		faults []string
	}{
		{"forget an acknowledged turn", func(l *stormLedger) {
			i := stored(l, once)
			l.Stored = slices.Delete(l.Stored, i, i+1)
		}, []string{"lost", "invented"}},
		{"store another answer than it sent", func(l *stormLedger) { l.Stored[stored(l, once)].Response += " And more." }, []string{"lost"}},
		{"mix two answers up", func(l *stormLedger) {
			a, b := stored(l, once), stored(l, keyed)
			l.Stored[a].Response, l.Stored[b].Response = l.Stored[b].Response, l.Stored[a].Response
		}, []string{"lost", "foreign"}},
		{"store a turn twice", func(l *stormLedger) {
			s := l.Stored[stored(l, keyed)]
			s.Turn++
			l.Stored = append(l.Stored, s)
		}, []string{"doubled", "invented"}},
		{"answer a retry again", func(l *stormLedger) {
			for i := range l.Attempts {
				if l.Attempts[i].Call == keyed {
					l.Attempts[i].Answer.Replayed = false
				}
			}
		}, []string{"doubled"}},
		{"answer a retry differently", func(l *stormLedger) {
			for i := range l.Attempts {
				if a := &l.Attempts[i]; a.Call == keyed && a.Answer.Replayed {
					a.Answer.Response += " And more."
				}
			}
		}, []string{"lost", "doubled"}},
		{"leave a key without an answer", func(l *stormLedger) {
			for i := range l.Attempts {
				if l.Attempts[i].Call == keyed {
					l.Attempts[i].Code = "timeout"
				}
			}
		}, []string{"unanswered"}},
		{"answer a key without saving", func(l *stormLedger) { attempt(l, keyed).Answer.NotSaved = true }, []string{"lost"}},
		{"store two calls in the other order", func(l *stormLedger) {
			a := attempt(l, later)
			a.Began, a.Ended = -2*time.Second, -time.Second
		}, []string{"disordered"}},
		{"leave a gap", func(l *stormLedger) { l.Stored[stored(l, once)].Turn = 2; attempt(l, once).Answer.Turn = 2 }, []string{"disordered", "invented"}},
		{"put a turn into another's session", func(l *stormLedger) { l.Stored[stored(l, once)].Owner++ }, []string{"foreign"}},
		{"store what nobody asked for", func(l *stormLedger) {
			l.Stored = append(l.Stored, stormTurn{Session: "new", Turn: 1, Query: "Who am I?", Request: "nobody"})
		}, []string{"foreign", "unrecorded"}},
		{"read less than was acknowledged", func(l *stormLedger) { attempt(l, read).Answer.Turn = 0 }, []string{"lost"}},
		{"read more than is left", func(l *stormLedger) { attempt(l, read).Answer.Turn = 1000 }, []string{"lost"}},
		{"show a session to another owner", func(l *stormLedger) { attempt(l, trespass).Code = "" }, []string{"foreign"}},
		{"tell the model of another session", func(l *stormLedger) {
			l.Histories = append(l.Histories, modelHistory{once, later})
		}, []string{"foreign"}},
		{"tell the model of a turn that is not stored there", func(l *stormLedger) {
			l.Histories = append(l.Histories, modelHistory{later, later})
		}, []string{"disordered"}},
		{"leave a turn out of the audit", func(l *stormLedger) { entries(l, once, none) }, []string{"unrecorded"}},
		{"leave an answer out of the audit", func(l *stormLedger) { entries(l, read, none) }, []string{"unrecorded"}},
		{"audit a turn that is not there", func(l *stormLedger) {
			i := slices.IndexFunc(l.Entries, func(e stormEntry) bool { return strings.HasPrefix(e.ID, "read-") })
			l.Entries[i].ID = "turn-of-nobody"
		}, []string{"invented"}},
		{"audit one turn under two ids", func(l *stormLedger) {
			e := l.Entries[slices.IndexFunc(l.Entries, func(e stormEntry) bool { return e.Request == fmt.Sprint("request-", once) })]
			e.ID += "-again"
			l.Entries = append(l.Entries, e)
		}, []string{"invented"}},
		{"write two things under one id", func(l *stormLedger) {
			e := l.Entries[0]
			e.Turn++
			l.Entries = append(l.Entries, e)
		}, []string{"invented"}},
		{"audit one owner's call as another's", func(l *stormLedger) {
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
			got := faultsIn(r)
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
	p := newStormPlan(1, smallStorm)
	l := carriedOut(p)
	call := slices.IndexFunc(p.Calls, func(c stormCall) bool { return c.Kind == callAsk && !c.Key && c.Session == noSharedSession })
	request := fmt.Sprint("request-", call)
	for i := range l.Attempts {
		if l.Attempts[i].ID == request {
			l.Attempts[i].Killed = true
		}
	}
	l.Entries = slices.DeleteFunc(l.Entries, func(e stormEntry) bool { return e.Request == request })
	if r := p.Check(l); r.Left != 1 || len(faultsIn(r)) != 0 {
		t.Errorf("left %d, faults %v: %v", r.Left, faultsIn(r), r.Problems)
	}
	l.Stored = slices.DeleteFunc(l.Stored, func(s stormTurn) bool { return s.Request == request })
	if r := p.Check(l); r.Lost != 1 {
		t.Errorf("a lost turn of a process that was killed: %v", r.Problems)
	}
}
