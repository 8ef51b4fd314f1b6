package invoke

import (
	"log/slog"
	"testing"
	"time"

	"example.com/gatehouse/internal/telemetry"
	"example.com/gatehouse/session"
	"example.com/gatehouse/session/sessiontest"
)

// The audit hears of the turn before the call's own, which may have no entry, also if
// another call appended it after the session was loaded.
func TestPreviousTurn(t *testing.T) {
	t.Parallel()
	store := session.NewMemory(time.Hour, 1<<20, time.Now, slog.New(slog.DiscardHandler))
	s := &Service{Config: Config{Store: store, Now: time.Now}}
	key := session.Key{Owner: session.Owner("owner"), ID: session.NewID()}
	first, second, own := sessiontest.Turn("first"), sessiontest.Turn("second"), sessiontest.Turn("own")
	if _, err := session.Commit(t.Context(), store, session.New(key), first, session.Conditions{}); err != nil {
		t.Fatal(err)
	}
	loaded, err := store.Load(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	record := &telemetry.Record{}
	ctx := telemetry.WithRecord(t.Context(), record)
	recordPreviousTurn(ctx, key, loaded.Recent)
	if earlier, ok := record.Earlier(); !ok || earlier.ID != first.ID || earlier.Session != key.Hash() {
		t.Errorf("as loaded: %+v, want turn %s of %s", earlier, first.ID, key.Hash())
	}
	if _, err := session.Commit(t.Context(), store, loaded, second, session.Conditions{}); err != nil {
		t.Fatal(err)
	}
	if number, err := s.commit(ctx, &session.Opened{Session: loaded}, own, session.Conditions{}); err != nil || number != 3 {
		t.Fatalf("commit = %d, %v", number, err)
	}
	if earlier, ok := record.Earlier(); !ok || earlier.ID != second.ID || earlier.Number != 2 {
		t.Errorf("as stored: %+v, want turn %s", earlier, second.ID)
	}
}
