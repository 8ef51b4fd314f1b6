package invoke

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"reflect"
	"slices"
	"testing"
	"time"

	"example.com/gatehouse/session"
	"example.com/gatehouse/session/sessiontest"
)

// Who watches a run after a mirror of it has ended begins another one: from the first it would
// learn at once that the run has moved, and look again, for as long as one of its watchers does
// not read.
func TestAMirrorThatHasEndedIsNotJoined(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	key := runKey{session.Key{Owner: "owner", ID: "0123456789abcdef"}, session.NewID()}
	m := &mirror{key: key, out: &output{}, watchers: 1, cancel: cancel}
	ms := &mirrors{byKey: map[runKey]*mirror{key: m}}
	ms.end(m, outcome{moved: true})
	if ms.join(key) != nil || ctx.Err() == nil || !m.out.over() {
		t.Error("it is joined, or it goes on")
	}
}

// A run goes on from where it has waited: a client that resumes behind the wait follows it, and
// is not told that nothing is left.
func TestResumeOfARunThatHasWaited(t *testing.T) {
	t.Parallel()
	store := session.NewMemory(time.Hour, 1<<20, time.Now, slog.New(slog.DiscardHandler))
	s := &Service{Config: Config{Store: store, Now: time.Now}}
	key := runKey{session.Key{Owner: "owner", ID: session.NewID()}, session.NewID()}
	parts := []session.Part{{Kind: session.KindText, Text: "One moment."}}
	if _, err := store.SaveRun(t.Context(), &session.Run{
		Key: key.session, ID: key.id, Turn: 1, State: session.Working, Holder: session.Queued, Request: json.RawMessage("{}"), Parts: parts,
	}); err != nil {
		t.Fatal(err)
	}
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	resumed, at, started := false, Position{Part: len(parts), Offset: endOffset}, true
	_, err := s.follow(ctx, key, &at, &started, func(e Event) error {
		resumed = e.Kind == "" && e.Part.Kind == ""
		leave()
		return nil
	})
	if !resumed || errors.Is(err, errNothingLeft) {
		t.Errorf("resumed: %t, %v", resumed, err)
	}
}

// Who takes a run over takes back what its holder may have shown beside the record. A run that
// has waited has no holder, and nothing is taken back of it.
func TestWhatATakeoverTakesBack(t *testing.T) {
	t.Parallel()
	store := session.NewMemory(time.Hour, 1<<20, time.Now, slog.New(slog.DiscardHandler))
	s := &Service{Config: Config{Store: store, Now: time.Now}}
	parts := []session.Part{{Kind: session.KindText, Text: "one"}, {Kind: session.KindReasoning, Text: "two"}}
	for name, tt := range map[string]struct {
		holder string
		parts  int
		want   []session.Reset
	}{
		"of a run that has waited":             {"", 1, nil},
		"of one whose last step broke":         {"", 2, []session.Reset{{Step: 3, Part: 1}}},
		"of a dead holder":                     {"dead", 1, []session.Reset{{Step: 3, Part: 1}}},
		"of a dead holder that has shown more": {"dead", 2, []session.Reset{{Step: 3, Part: 1}}},
	} {
		record, err := store.SaveRun(t.Context(), &session.Run{
			Key: session.Key{Owner: "owner", ID: session.NewID()}, ID: session.NewID(), Turn: 1, State: session.Working, Holder: tt.holder, Parts: parts[:tt.parts],
			Request:    json.RawMessage(`{"request":{"query":"Pay Ann."}}`),
			Checkpoint: json.RawMessage(`{"contents":[{"role":"user","parts":[{"text":"Pay Ann."}]}],"step":2,"parts":1}`),
		})
		if err != nil {
			t.Fatal(err)
		}
		r, err := s.takeOver(t.Context(), record, false)
		if err != nil {
			t.Fatal(err)
		}
		if shown, resets := r.out.shown(); !reflect.DeepEqual(resets, tt.want) || !reflect.DeepEqual(shown, parts[:1]) {
			t.Errorf("%s: %+v after the resets %+v", name, shown, resets)
		}
	}
}

// A run that has waited, gone on and ended without a turn leaves what came later in its record
// only: who has seen that is taken back to the end of the turn.
func TestARunThatFailedAfterItHadWaited(t *testing.T) {
	t.Parallel()
	store := session.NewMemory(time.Hour, 1<<20, time.Now, slog.New(slog.DiscardHandler))
	s := &Service{Config: Config{Store: store, Now: time.Now}}
	key, turn := session.Key{Owner: "owner", ID: session.NewID()}, sessiontest.Turn("Pay Ann.")
	turn.FinishReason = finishWaiting
	if _, err := session.Commit(t.Context(), store, session.New(key), turn, session.Conditions{}); err != nil {
		t.Fatal(err)
	}
	parts := turn.Shown()
	end := len(parts)
	resets := []session.Reset{{Step: 2, Part: end}}
	for name, tt := range map[string]struct {
		parts []session.Part
		want  []session.Reset
	}{
		"and took it back":   {parts, resets},
		"and had shown more": {append(slices.Clip(parts), session.Part{Kind: session.KindText, Text: "more"}), append(slices.Clip(resets), session.Reset{Part: end})},
	} {
		record := &session.Run{Key: key, ID: turn.ID, State: session.Failed, Turn: 1, Epoch: 1, Parts: tt.parts, Resets: resets}
		out := &output{}
		if goesOn, err := s.showEnded(t.Context(), runKey{key, turn.ID}, record, out); goesOn != nil || err != nil {
			t.Fatal(goesOn, err)
		}
		if shown, got := out.shown(); !reflect.DeepEqual(got, tt.want) || !reflect.DeepEqual(shown, parts) {
			t.Errorf("%s: %+v after the resets %+v", name, shown, got)
		}
	}
}
