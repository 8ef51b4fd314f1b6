package e2e_test

import (
	"fmt"
	"slices"
	"testing"

	"example.com/gatehouse/internal/testagent/merchant"
)

// An effectOrder is what was seen of an order in a storm of effects: one call with a key,
// by which the agent is to charge the order once.
type effectOrder struct {
	Number int
	Tool   string
	// Answers are all that its client was told, Stored what its session has.
	Answers, Stored []effectTurn
	// Arrived are the ids of the charges that reached the remote service, Done of those
	// that took effect there, and Settled of those that it was asked to end.
	Arrived, Done, Settled []string
}

// An effectTurn is the turn of an order.
type effectTurn struct {
	Session  string
	Turn     int
	Response string
	Unknown  bool // with the warning effect_unknown
	Failed   bool // it ended before the model could say so
	OK       bool // its call is listed as having succeeded
}

// chargeTold returns how a turn tells of its charge.
func chargeTold(session string, turn int, response, finish string, warnings []string, calls []toolCall) effectTurn {
	return effectTurn{
		Session: session, Turn: turn, Response: response, Unknown: slices.Contains(warnings, "effect_unknown"),
		Failed: finish == "FAILED", OK: slices.ContainsFunc(calls, func(c toolCall) bool { return c.OK }),
	}
}

// An effectReport counts what a storm has done to effects. All but the first group must
// be 0.
type effectReport struct {
	Orders, Turns, Effects int
	Retried                int // reached the remote more than once, with one id
	Settled                int // ended by the remote when it was asked, and begun again
	Unknown                int // told to be so
	Failed                 int // told by the list of calls alone

	Lost       int // answered, and not stored so
	Doubled    int // stored more than once, or answered differently
	Repeated   int // took effect, or was begun without being able to find out, again
	Missing    int // told as done, and not done
	Unresolved int // told as unknown, although it could be found out
	Silent     int // not known, and not told so
	Renamed    int // known to the remote by more than one id, or by another order's

	Problems []string
}

func (r *effectReport) problem(count *int, format string, args ...any) {
	*count++
	r.Problems = append(r.Problems, fmt.Sprintf(format, args...))
}

// faults returns the sum of what must be 0.
func (r *effectReport) faults() int {
	return r.Lost + r.Doubled + r.Repeated + r.Missing + r.Unresolved + r.Silent + r.Renamed
}

// checkEffects checks that each order was charged as its client was told.
func checkEffects(orders []effectOrder) effectReport {
	r := effectReport{Orders: len(orders)}
	owners := map[string]int{} // of ids
	for _, o := range orders {
		r.checkTurns(o)
		r.Effects += len(o.Done)
		valid := slices.DeleteFunc(slices.Clone(o.Arrived), func(id string) bool {
			return slices.Contains(o.Settled, id) && !slices.Contains(o.Done, id)
		})
		if len(valid) > 1 {
			r.Retried++
		}
		if len(valid) < len(o.Arrived) {
			r.Settled++
		}
		if ids := slices.Compact(slices.Sorted(slices.Values(valid))); len(ids) > 1 {
			r.problem(&r.Renamed, "order %d is known by %d ids: %+v", o.Number, len(ids), o)
		}
		for _, id := range slices.Compact(slices.Sorted(slices.Values(o.Arrived))) {
			if other, ok := owners[id]; ok || id == "" {
				r.problem(&r.Renamed, "orders %d and %d share the id %q", other, o.Number, id)
			}
			owners[id] = o.Number
		}
		if len(o.Done) > 1 {
			r.problem(&r.Repeated, "order %d was charged %d times: %+v", o.Number, len(o.Done), o)
		}
		if o.Tool == merchant.Blind && len(o.Arrived) > 1 {
			r.problem(&r.Repeated, "order %d, whose end nobody can find out, was begun %d times: %+v", o.Number, len(o.Arrived), o)
		}
		if len(o.Stored) != 1 {
			continue
		}
		told := o.Stored[0]
		charged := told.Response == chargedAnswer(o.Number) || told.Failed && told.OK
		if told.Failed && !told.Unknown {
			r.Failed++
		}
		switch {
		case told.Unknown && o.Tool != merchant.Blind:
			r.problem(&r.Unresolved, "order %d could be found out, and is told as unknown: %+v", o.Number, o)
		case told.Unknown:
			r.Unknown++
		case charged && len(o.Done) == 0:
			r.problem(&r.Missing, "order %d is told as charged, and is not: %+v", o.Number, o)
		case !charged && (!told.Failed || len(o.Done) > 0):
			r.problem(&r.Silent, "order %d is told neither as charged nor as unknown: %+v", o.Number, o)
		}
	}
	return r
}

// checkTurns checks that an order's call left one turn, which is the one that was
// answered.
func (r *effectReport) checkTurns(o effectOrder) {
	r.Turns += len(o.Stored)
	switch {
	case len(o.Stored) == 0:
		r.problem(&r.Lost, "order %d has no turn: %+v", o.Number, o)
	case len(o.Stored) > 1:
		r.problem(&r.Doubled, "order %d has %d turns: %+v", o.Number, len(o.Stored), o)
	}
	if len(o.Answers) == 0 {
		r.problem(&r.Lost, "order %d was never answered", o.Number)
	}
	for _, a := range o.Answers {
		if a != o.Answers[0] {
			r.problem(&r.Doubled, "order %d was answered %+v and %+v", o.Number, o.Answers[0], a)
		}
		if !slices.Contains(o.Stored, a) {
			r.problem(&r.Lost, "order %d was answered %+v and is stored as %+v", o.Number, a, o.Stored)
		}
	}
}

// chargedAnswer is what the model says of an order that was charged.
func chargedAnswer(number int) string { return fmt.Sprintf("Order %d is charged.", number) }

func TestWhatAStormMustNotDoToEffects(t *testing.T) {
	t.Parallel()
	turn := effectTurn{Session: "s", Turn: 1, Response: chargedAnswer(7)}
	unknown := turn
	unknown.Response, unknown.Unknown = "Nobody knows.", true
	order := func(tool string, turn effectTurn, ids ...string) effectOrder {
		return effectOrder{Number: 7, Tool: tool, Answers: []effectTurn{turn, turn}, Stored: []effectTurn{turn}, Arrived: ids, Done: ids}
	}
	with := func(o effectOrder, change func(*effectOrder)) effectOrder { change(&o); return o }
	tests := []struct {
		name  string
		order effectOrder
		want  func(effectReport) int // nil: nothing is wrong
	}{
		{"charge an order once", order(merchant.Blind, turn, "a"), nil},
		{"ask a remote that takes an id once again", with(order(merchant.Deduped, turn, "a"), func(o *effectOrder) { o.Arrived = []string{"a", "a"} }), nil},
		{"begin anew what the remote has ended", with(order(merchant.Reconciled, turn, "b"), func(o *effectOrder) { o.Arrived, o.Settled = []string{"a", "a", "b"}, []string{"a"} }), nil},
		{"tell of an end that nobody knows", order(merchant.Blind, unknown, "a"), nil},
		{"tell of an end that nobody knows, of what was not done", with(order(merchant.Blind, unknown, "a"), func(o *effectOrder) { o.Done = nil }), nil},
		{"end before the model has said that it charged", order(merchant.Reconciled, effectTurn{Session: "s", Turn: 1, Failed: true, OK: true}, "a"), nil},
		{"end before it charged", order(merchant.Reconciled, effectTurn{Session: "s", Turn: 1, Failed: true}), nil},
		{"end before it charged, as it tells", order(merchant.Reconciled, effectTurn{Session: "s", Turn: 1, Failed: true}, "a"), func(r effectReport) int { return r.Silent }},
		{"end after it charged, as it tells", order(merchant.Reconciled, effectTurn{Session: "s", Turn: 1, Failed: true, OK: true}), func(r effectReport) int { return r.Missing }},
		{"charge an order twice", order(merchant.Reconciled, turn, "a", "a"), func(r effectReport) int { return r.Repeated }},
		{"begin again what nobody can find out", with(order(merchant.Blind, unknown, "a"), func(o *effectOrder) { o.Arrived = []string{"a", "a"} }), func(r effectReport) int { return r.Repeated }},
		{"charge an order under two ids", order(merchant.Deduped, turn, "a", "b"), func(r effectReport) int { return r.Renamed }},
		{"try an order under two ids", with(order(merchant.Deduped, turn, "b"), func(o *effectOrder) { o.Arrived = []string{"a", "b"} }), func(r effectReport) int { return r.Renamed }},
		{"tell of a charge that was not made", with(order(merchant.Reconciled, turn, "a"), func(o *effectOrder) { o.Done = nil }), func(r effectReport) int { return r.Missing }},
		{"leave an end open that could be found out", order(merchant.Reconciled, unknown, "a"), func(r effectReport) int { return r.Unresolved }},
		{"leave an end untold", order(merchant.Blind, effectTurn{Session: "s", Turn: 1, Response: "Sorry."}, "a"), func(r effectReport) int { return r.Silent }},
		{"forget the turn", with(order(merchant.Blind, turn, "a"), func(o *effectOrder) { o.Stored = nil }), func(r effectReport) int { return r.Lost }},
		{"store the turn twice", with(order(merchant.Blind, turn, "a"), func(o *effectOrder) { o.Stored = []effectTurn{turn, turn} }), func(r effectReport) int { return r.Doubled }},
		{"answer a retry differently", with(order(merchant.Blind, turn, "a"), func(o *effectOrder) { o.Answers = []effectTurn{turn, unknown} }), func(r effectReport) int { return r.Doubled }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			r := checkEffects([]effectOrder{test.order})
			switch {
			case test.want == nil && r.faults() != 0:
				t.Errorf("seen as a fault: %v", r.Problems)
			case test.want != nil && test.want(r) == 0:
				t.Errorf("not seen: %+v", r)
			}
		})
	}
	shared := order(merchant.Blind, turn, "a")
	shared.Number++
	shared.Stored[0].Response = chargedAnswer(8)
	shared.Answers = shared.Stored
	if r := checkEffects([]effectOrder{order(merchant.Blind, turn, "a"), shared}); r.Renamed != 1 {
		t.Errorf("an id of two orders is not seen: %+v", r)
	}
}
