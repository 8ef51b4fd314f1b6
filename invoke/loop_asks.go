package invoke

import (
	"errors"
	"fmt"

	"google.golang.org/genai"

	"example.com/gatehouse/internal/loop"
	"example.com/gatehouse/internal/truncate"
)

func (t *loopTurn) Wait(questions []loop.Question, results []*genai.FunctionResponse) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.over:
		return loop.ErrOver
	case !t.CanAsk():
		return errNobodyToAsk
	case len(t.steps) != 1 || !t.steps[0].added:
		return errors.New("agents that run side by side cannot ask a person")
	}
	step, g := t.steps[0], t.g
	for _, q := range questions {
		if open, i := t.find(q.ID); open != step || step.calls[i].Name != q.Name {
			return fmt.Errorf("there is no open call of %s with this id", truncate.Text(q.Name, 64))
		}
	}
	room := newAllowance(g.room()-reserve(t.s.maxTokens(&t.req)), len(results))
	for _, result := range results {
		if open, i := t.find(result.ID); open == step {
			t.endCall(step, i, result, room)
		}
	}
	g.pending = nil
	for _, q := range questions {
		_, i := t.find(q.ID)
		p := t.s.pendingCall(step.ids[i].Shown, q.Name, q.Args, q.Text)
		g.pending = append(g.pending, p)
		g.run.out.add(approvalPart(p))
	}
	g.ends, g.shown, g.looped.IDs = step.ends, true, step.ids
	t.waits = true
	return nil
}
