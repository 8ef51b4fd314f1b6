package session

import (
	"context"
	"fmt"
	"slices"
)

const (
	// beforeTurns and beforeBytes bound what [Before] reads again of archived turns, so
	// that the model still knows them.
	beforeTurns = 100
	beforeBytes = 256 << 10
	// beforeStep is how many archived turns it reads at once.
	beforeStep = 100
)

// Before returns s as it was before the turn with number first, with respect to turns,
// tokens and state, and whether an effect began in a turn that it leaves out. It reads
// archived turns if first is among them. The error is [ErrReplaced] if there is no such
// turn.
func Before(ctx context.Context, store Store, s *Session, first int) (before *Session, effects bool, err error) {
	oldest := s.Turns - len(s.Recent) + 1 // of Recent
	if first < 1 || first > s.Turns {
		return nil, false, fmt.Errorf("going back to turn %d of %d: %w", first, s.Turns, ErrReplaced)
	}
	copied := *s
	before = &copied
	// What undoes the changes of the state is in each turn, so they go one by one.
	remove := func(records []Record) error {
		for _, r := range slices.Backward(records) {
			t, err := r.Turn()
			if err != nil {
				return err
			}
			effects = effects || t.Effects
			before.undo(t)
		}
		return nil
	}
	kept := max(first-oldest, 0)
	before.Recent = slices.Clip(s.Recent[:kept])
	if err := remove(s.Recent[kept:]); err != nil || first >= oldest {
		return before, effects, err
	}
	for end := oldest - 1; end >= first; end -= beforeStep {
		_, records, err := store.Turns(ctx, s.Key, max(end-beforeStep, first-1), min(beforeStep, end-first+1))
		if err == nil {
			err = remove(records)
		}
		if err != nil {
			return nil, false, fmt.Errorf("going back to turn %d of %d: %w", first, s.Turns, err)
		}
	}
	if before.Turns != first-1 {
		return nil, false, fmt.Errorf("going back to turn %d of %d: %w", first, s.Turns, ErrChanged)
	}
	if first == 1 {
		return before, effects, nil
	}
	_, records, err := store.Turns(ctx, s.Key, max(first-1-beforeTurns, 0), min(beforeTurns, first-1))
	if err != nil {
		return nil, false, fmt.Errorf("going back to turn %d of %d: %w", first, s.Turns, err)
	}
	size := 0
	for i, r := range slices.Backward(records) {
		if size += len(r.Data); size > beforeBytes {
			records = records[i+1:]
			break
		}
	}
	for i := range records {
		records[i].Feedback = nil // only Turns has it
	}
	before.Recent = records
	return before, effects, nil
}

// undo makes s what it was before its last turn, t, except for Recent.
func (s *Session) undo(t Turn) {
	s.Turns--
	s.TotalTokens -= t.Usage.TotalTokens
	s.State, _ = changeState(s.State, t.StateBefore)
}
