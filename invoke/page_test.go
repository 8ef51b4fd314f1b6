package invoke

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"testing"
	"time"

	"example.com/gatehouse/session"
)

// A storeWithoutRuns cannot read the records of runs.
type storeWithoutRuns struct{ session.Store }

func (storeWithoutRuns) LoadRun(context.Context, session.Key, string) (*session.Run, error) {
	return nil, session.ErrUnavailable
}

// A page no longer waits for the latest of its answers, if that is still worked on, here or
// elsewhere.
func TestWhatAPageNoLongerWaitsFor(t *testing.T) {
	t.Parallel()
	store := session.NewMemory(time.Hour, 1<<20, time.Now, slog.New(slog.DiscardHandler))
	key := session.Key{Owner: "owner", ID: session.NewID()}
	run := func(in session.Key, state session.RunState) string {
		t.Helper()
		record := &session.Run{Key: in, ID: session.NewID(), Turn: 1, State: state, Holder: "elsewhere", Request: json.RawMessage("{}")}
		if _, err := store.SaveRun(t.Context(), record); err != nil {
			t.Fatal(err)
		}
		return session.RunID(in.ID, record.ID)
	}
	works, ended := run(key, session.Working), run(key, session.Done)
	for name, tt := range map[string]struct {
		page  Page
		store session.Store
		want  string // the run that it no longer waits for
		err   error
	}{
		"a run that works elsewhere":          {Page{Runs: []string{ended, works}}, store, works, nil},
		"one whose message it regenerates":    {Page{MessageID: works}, store, works, nil},
		"one that has ended":                  {Page{Runs: []string{works, ended}}, store, "", nil},
		"one that nobody knows":               {Page{Runs: []string{session.RunID(key.ID, session.NewID())}}, store, "", nil},
		"one of another session":              {Page{Runs: []string{run(session.Key{Owner: "owner", ID: session.NewID()}, session.Working)}}, store, "", nil},
		"one that is no run's":                {Page{Runs: []string{"m-1"}}, store, "", nil},
		"none":                                {Page{}, store, "", nil},
		"one whose record cannot be read now": {Page{Runs: []string{works}}, storeWithoutRuns{store}, "", session.ErrUnavailable},
	} {
		s := &Service{Config: Config{Store: tt.store, Now: time.Now}}
		got, working, err := s.superseded(t.Context(), session.New(key), &Request{Options: Options{Page: &tt.page}})
		if !errors.Is(err, tt.err) || working != (tt.want != "") || working && session.RunID(got.session.ID, got.id) != tt.want {
			t.Errorf("%s: %+v, %t, %v", name, got, working, err)
		}
	}
}
