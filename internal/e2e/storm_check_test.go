package e2e_test

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A stormLedger is what was seen of a storm while it was carried out, and what was
// found after it.
type stormLedger struct {
	Attempts  []stormAttempt
	Histories []modelHistory
	Stored    []stormTurn
	Entries   []stormEntry
	// Shared are the ids of the shared sessions.
	Shared []string
}

// What became of an attempt that got no answer, in the place of a code.
const (
	connectionBroke = "the connection broke"
	clientLeft      = "the client left"
)

// A stormAttempt is one request.
type stormAttempt struct {
	ID           string // of the request
	Call         int
	Began, Ended time.Duration // since the storm's beginning
	Code         string        // of an error; "" with an Answer
	Answer       stormAnswer

	// Killed is set if SIGKILL ended the attempt's process before it had certainly
	// written the audit entry.
	Killed bool
}

// A stormAnswer is what an attempt was told.
type stormAnswer struct {
	Session  string
	Turn     int // of a Read: how many there are
	Response string
	Replayed bool
	NotSaved bool // with the warning
}

// A modelHistory is what the model was shown: the calls whose questions came before,
// and the one that it was asked for, last.
type modelHistory []int

// A stormTurn is one that was found in the end.
type stormTurn struct {
	Owner           int
	Session         string
	Turn            int
	Query, Response string
	Request         string
	Stopped         bool // its client left: it has what was shown until then
}

// A stormEntry is one of the audit's, wherever it was found.
type stormEntry struct {
	ID, Action, Outcome         string
	Principal, EndUser, Session string
	Turn                        int
	Request                     string
}

// A stormReport counts what a storm did to the service, and what the service did to
// its callers. All but the first group must be 0.
type stormReport struct {
	Calls, Attempts, Answers, Replays, NotSaved, Stored, Entries int
	// Left is how many turns have no entry, because their process was killed
	// before it could write it.
	Left int

	Lost       int // acknowledged, and not stored so
	Doubled    int // stored, or answered with a new answer, more than once
	Disordered int // seen, shown to the model or stored in another order
	Foreign    int // unknown, or seen by another owner
	Unanswered int // with a key, and in vain
	Unrecorded int // stored or answered, and not in the audit
	Invented   int // in the audit, and not stored

	// Problems describe the faults, one each.
	Problems []string
}

func (r *stormReport) problem(count *int, format string, args ...any) {
	*count++
	r.Problems = append(r.Problems, fmt.Sprintf(format, args...))
}

// A stormCheck is the work of Check.
type stormCheck struct {
	stormReport
	plan     stormPlan
	ledger   stormLedger
	attempts map[string]stormAttempt // by request
	stored   map[int][]stormTurn     // by call
	sessions map[string][]stormTurn  // in order
}

// Check compares what was seen with what was found.
func (p stormPlan) Check(l stormLedger) stormReport {
	c := &stormCheck{plan: p, ledger: l, attempts: map[string]stormAttempt{}, stored: map[int][]stormTurn{}, sessions: map[string][]stormTurn{}}
	c.Calls, c.Attempts, c.stormReport.Stored = len(p.Calls), len(l.Attempts), len(l.Stored)
	for _, a := range l.Attempts {
		c.attempts[a.ID] = a
	}
	c.checkStored()
	c.checkAnswers()
	c.checkReads()
	c.checkHistories()
	c.checkAudit()
	return c.stormReport
}

// checkStored checks that each stored turn is one that its owner asked for, and
// stored once.
func (c *stormCheck) checkStored() {
	for _, s := range c.ledger.Stored {
		c.sessions[s.Session] = append(c.sessions[s.Session], s)
		attempt, known := c.attempts[s.Request]
		number, asked := stormCallOf(s.Query)
		if !known || !asked || number != attempt.Call || number >= len(c.plan.Calls) {
			c.problem(&c.Foreign, "nobody asked for %+v", s)
			continue
		}
		call := c.plan.Calls[number]
		if call.Owner != s.Owner || call.Session != noSharedSession && c.ledger.Shared[call.Session] != s.Session {
			c.problem(&c.Foreign, "call %d is stored at another place than it was for: %+v", number, s)
		}
		answer := "To " + s.Query
		if !strings.HasPrefix(s.Response, answer) && !(s.Stopped && strings.HasPrefix(answer, s.Response)) {
			c.problem(&c.Foreign, "call %d is stored with the answer to another: %+v", number, s)
		}
		c.stored[number] = append(c.stored[number], s)
	}
	for number, places := range c.stored {
		if len(places) > 1 {
			c.problem(&c.Doubled, "call %d is stored %d times: %+v", number, len(places), places)
		}
	}
	for session, turns := range c.sessions {
		slices.SortFunc(turns, func(a, b stormTurn) int { return cmp.Compare(a.Turn, b.Turn) })
		for i, s := range turns {
			if s.Turn != i+1 {
				c.problem(&c.Disordered, "session %s has turn %d at place %d", session, s.Turn, i+1)
				break
			}
		}
	}
}

// A turnSpan is the time in which a turn came to be, as its client saw it.
type turnSpan struct {
	call, turn   int
	began, ended time.Duration
}

// checkAnswers checks that each acknowledged answer is stored as it was
// given, that retries were answered alike, and that of two calls of a session
// one after the other the turns are in this order too.
func (c *stormCheck) checkAnswers() {
	answered := map[int]stormAnswer{}
	ended := map[int]time.Duration{} // when the first answer was there
	for _, a := range c.ledger.Attempts {
		call := c.plan.Calls[a.Call]
		if a.Code != "" || call.Kind != callAsk {
			continue
		}
		c.Answers++
		if a.Answer.Replayed {
			c.Replays++
		}
		if a.Answer.NotSaved {
			c.NotSaved++
			if call.Key {
				c.problem(&c.Lost, "call %d has a key and was answered without being saved", a.Call)
			}
			continue
		}
		first, again := answered[a.Call]
		same := first.Session == a.Answer.Session && first.Turn == a.Answer.Turn && first.Response == a.Answer.Response
		switch {
		case !again:
			answered[a.Call], ended[a.Call] = a.Answer, a.Ended
		case !same:
			c.problem(&c.Doubled, "call %d was answered %+v and %+v", a.Call, first, a.Answer)
		default:
			ended[a.Call] = min(ended[a.Call], a.Ended)
		}
		// Of other doors the same answer says so: the model gives none twice.
		if again && !first.Replayed && !a.Answer.Replayed && call.Door == doorInvoke {
			c.problem(&c.Doubled, "call %d was answered again by request %s", a.Call, a.ID)
		}
		if !slices.ContainsFunc(c.stored[a.Call], func(s stormTurn) bool {
			return s.Session == a.Answer.Session && (s.Turn == a.Answer.Turn || a.Answer.Turn == unknownTurn) && s.Response == a.Answer.Response
		}) {
			c.problem(&c.Lost, "call %d was acknowledged as %+v, and is stored as %+v", a.Call, a.Answer, c.stored[a.Call])
		}
	}
	for _, call := range c.plan.Calls {
		if _, ok := answered[call.Number]; call.Key && !ok {
			c.problem(&c.Unanswered, "call %d has a key and was never answered", call.Number)
		}
	}
	spans := map[string][]turnSpan{}
	for number := range answered {
		for _, s := range c.stored[number] {
			spans[s.Session] = append(spans[s.Session], turnSpan{number, s.Turn, c.attempts[s.Request].Began, ended[number]})
		}
	}
	for session, list := range spans {
		slices.SortFunc(list, func(a, b turnSpan) int { return cmp.Compare(a.turn, b.turn) })
		latest := turnSpan{}
		for _, s := range list {
			if s.ended < latest.began {
				c.problem(&c.Disordered, "session %s: call %d was over before call %d began, and is the later turn", session, s.call, latest.call)
			}
			if s.began > latest.began {
				latest = s
			}
		}
	}
}

// checkReads checks that each read of a session returned everything acknowledged
// before, and that no owner saw another one's.
func (c *stormCheck) checkReads() {
	for _, a := range c.ledger.Attempts {
		call := c.plan.Calls[a.Call]
		switch {
		case call.Kind == callTrespass && a.Code == "":
			c.problem(&c.Foreign, "call %d read another owner's session", a.Call)
		case call.Kind == callRead && a.Code == "":
			known := 0
			for _, earlier := range c.ledger.Attempts {
				if c.plan.Calls[earlier.Call].Kind == callAsk && earlier.Code == "" && !earlier.Answer.NotSaved &&
					earlier.Answer.Session == a.Answer.Session && earlier.Ended < a.Began {
					known = max(known, earlier.Answer.Turn)
				}
			}
			if a.Answer.Turn < known {
				c.problem(&c.Lost, "call %d read %d turns, when %d had been acknowledged", a.Call, a.Answer.Turn, known)
			}
			if n := len(c.sessions[a.Answer.Session]); a.Answer.Turn > n {
				c.problem(&c.Lost, "call %d read %d turns, of which %d are left", a.Call, a.Answer.Turn, n)
			}
		}
	}
}

// shownWhole is how many short turns a model is certainly shown. Of a session of more the
// first ones may be left out.
const shownWhole = 100

// checkHistories checks that each history is its session's, in order and each turn
// once; all of it, where its turns are neither long nor many.
func (c *stormCheck) checkHistories() {
	for _, h := range c.ledger.Histories {
		if len(h) == 0 {
			continue
		}
		asked := c.plan.Calls[h[len(h)-1]]
		earlier := h[:len(h)-1]
		if asked.Session == noSharedSession || asked.Opens {
			if len(earlier) != 0 {
				c.problem(&c.Foreign, "call %d begins a session, and the model saw calls %v", asked.Number, earlier)
			}
			continue
		}
		turns := c.sessions[c.ledger.Shared[asked.Session]]
		at := 0
		for i, number := range earlier {
			before := c.plan.Calls[number]
			for (asked.Long() || i == 0 && len(turns) > shownWhole) && at < len(turns) && turns[at].Query != before.Query() {
				at++ // archived, or left out
			}
			switch {
			case before.Owner != asked.Owner || before.Session != asked.Session:
				c.problem(&c.Foreign, "for call %d the model saw call %d of another session", asked.Number, number)
			case at >= len(turns) || turns[at].Query != before.Query():
				c.problem(&c.Disordered, "for call %d the model saw call %d as turn %d, where it is not stored", asked.Number, number, i+1)
			}
			at++
		}
	}
}

// refusals are the codes of calls that are turned away before anybody knows whom
// they come from, and so without an entry.
var unauditedRefusals = []string{"shutting_down", "not_ready", "overloaded", connectionBroke, clientLeft}

// checkAudit checks that everything stored or answered has its entry, and that there
// are no other entries and no mixed owners.
func (c *stormCheck) checkAudit() {
	entries := map[string]stormEntry{} // copies have the same id
	requests := map[string]bool{}
	turns := map[string][]stormEntry{} // by request
	for _, e := range c.ledger.Entries {
		if first, ok := entries[e.ID]; ok {
			if first != e {
				c.problem(&c.Invented, "two entries of one id: %+v and %+v", first, e)
			}
			continue
		}
		entries[e.ID] = e
		requests[e.Request] = true
		if strings.HasPrefix(e.ID, "turn-") {
			turns[e.Request] = append(turns[e.Request], e)
		}
	}
	c.Entries = len(entries)
	stored := map[string]stormTurn{}
	for _, s := range c.ledger.Stored {
		stored[s.Request] = s
		attempt := c.attempts[s.Request]
		switch list := turns[s.Request]; {
		case len(list) == 1 && list[0].Turn == s.Turn && list[0].Outcome == "ok":
		case len(list) == 0 && attempt.Killed:
			c.Left++
		case len(list) == 0:
			c.problem(&c.Unrecorded, "no entry of the stored turn %+v", s)
		default:
			c.problem(&c.Invented, "of the stored turn %+v the audit says %+v", s, list)
		}
	}
	for request, list := range turns {
		if _, ok := stored[request]; !ok {
			c.problem(&c.Invented, "an entry of a turn that is not stored: %+v", list)
		}
	}
	for _, a := range c.ledger.Attempts {
		if !a.Killed && !slices.Contains(unauditedRefusals, a.Code) && !requests[a.ID] {
			c.problem(&c.Unrecorded, "no entry of request %s, answered %q", a.ID, a.Code)
		}
	}
	type who struct{ principal, endUser string }
	owners := map[int]who{}
	names := map[who]int{}
	for _, e := range entries {
		a, ok := c.attempts[e.Request]
		if !ok {
			c.problem(&c.Invented, "an entry of a request that nobody made: %+v", e)
			continue
		}
		owner, is := c.plan.Calls[a.Call].Owner, who{e.Principal, e.EndUser}
		if known, ok := owners[owner]; ok && known != is {
			c.problem(&c.Foreign, "owner %d is %+v and %+v in the audit", owner, known, is)
		}
		if other, ok := names[is]; ok && other != owner {
			c.problem(&c.Foreign, "owners %d and %d are both %+v in the audit", other, owner, is)
		}
		owners[owner], names[is] = is, owner
	}
}
