package invoke

import (
	"cmp"
	"context"
	"time"

	"example.com/gatehouse/internal/loop"
	"example.com/gatehouse/internal/truncate"
	"example.com/gatehouse/session"
	"example.com/gatehouse/tool"
)

// A framework runs tools by itself. What holds for calls of the service's own loop holds for
// these by the context in which they run.

// A loopEffect is a call that was approved and has begun in this process.
type loopEffect struct {
	id     string // of the effect
	states *callStates
	over   bool // it has ended, or has taken too long
}

func (t *loopTurn) Began(id, name string) (*loop.End, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	step, i := t.find(id)
	switch {
	case t.over:
		return nil, loop.ErrOver
	case step == nil || t.g.run.journal == nil:
		return nil, errNoLedger
	case t.ledger != nil: // the run has to end, and nothing begins any more
		return nil, t.ledger
	}
	effect := t.g.effectID(i)
	if e, ok := t.g.run.journal.effect(effect); ok {
		if !e.Done {
			t.ledger = errEffectUnknown
			return nil, errEffectUnknown
		}
		end, err := decodeEnd(e.Result)
		if err != nil {
			return nil, err
		}
		if t.begun[id] == nil { // of an earlier holder of the run
			t.g.states.restore(end.State)
		}
		if end.Response == nil { // of a tool that returned none
			end.Response = map[string]any{}
		}
		return &loop.End{Result: end.Response, Kept: end.Kept}, nil
	}
	if err := t.g.run.journal.enter(map[string]session.Effect{effect: {Name: name, Step: t.g.stepOfCalls(), Call: i}}); err != nil {
		t.ledger = err
		return nil, err
	}
	if t.begun == nil {
		t.begun = map[string]*loopEffect{}
	}
	t.begun[id] = &loopEffect{id: effect, states: &callStates{states: t.g.states}}
	return nil, nil
}

func (t *loopTurn) Ended(id string, end loop.End) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	step, i := t.find(id)
	e := t.begun[id]
	switch {
	case t.over, e != nil && e.over:
		return loop.ErrOver
	case step == nil || e == nil:
		return errNoLedger
	}
	e.over = true
	_, failed := end.Result["error"]
	part := session.Part{Kind: session.KindToolResult, ID: step.ids[i].Shown, Name: step.calls[i].Name, OK: !failed}
	t.g.run.journal.ended(e.id, callEnd{Part: part, Response: end.Result, State: e.states.made(), Kept: end.Kept})
	return nil
}

func (t *loopTurn) Calling(ctx context.Context, c loop.Call) (context.Context, func(error)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	limit := &loopLimit{within: limitOf(ctx), fixed: c.Timeout > 0}
	calling, cancel := context.WithCancelCause(context.WithValue(ctx, loopLimitKey{}, limit))
	calling, span := t.s.Observer.StartTool(calling, c.Name)
	var effect *loopEffect
	if limit.within != nil { // of an agent that is a tool: its progress is that of the call that asks it
		calling = tool.WithProgress(calling, func(text string) { tool.Progress(ctx, truncate.Text(c.Name, 64)+": "+text) })
	} else if step, i := t.find(c.ID); step != nil {
		calling, effect = t.g.progress(calling, step.ids[i].Shown, c.Name), t.begun[c.ID]
	}
	if effect != nil {
		in := tool.From(ctx)
		in.EffectID = effect.id
		calling = tool.WithStates(tool.NewContext(calling, in), effect.states)
	}
	limit.timer = time.AfterFunc(cmp.Or(c.Timeout, max(t.s.Agent.ToolTimeout, 0), defaultToolTimeout), func() {
		t.expire(effect)
		cancel(errToolTimeout)
	})
	return calling, func(err error) {
		limit.timer.Stop()
		cancel(nil)
		span.End(calling, toolFailure(err))
	}
}

// expire ends the turn if a call that was approved has not ended in its time.
func (t *loopTurn) expire(e *loopEffect) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e == nil || e.over || t.over {
		return
	}
	e.over = true
	if t.ledger == nil {
		t.ledger = errEffectUnknown
	}
	t.cancel(t.ledger)
}

// A loopLimit is the time limit of a call of a tool.
type loopLimit struct {
	within *loopLimit // the call of the agent that makes this one, if that is a tool
	fixed  bool       // it holds for an agent, too
	timer  *time.Timer
}

type loopLimitKey struct{}

// limitOf returns the limit of the call that has the context ctx, nil outside of calls.
func limitOf(ctx context.Context) *loopLimit {
	l, _ := ctx.Value(loopLimitKey{}).(*loopLimit)
	return l
}

// lift removes the limits of the calls that ask the model: they have the time of the turn.
func (l *loopLimit) lift() {
	for ; l != nil; l = l.within {
		if !l.fixed {
			l.timer.Stop()
		}
	}
}
