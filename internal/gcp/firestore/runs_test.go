package firestore_test

import (
	"encoding/json"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	cloudfirestore "cloud.google.com/go/firestore"
	"cloud.google.com/go/firestore/apiv1/firestorepb"
	"google.golang.org/api/option"

	"example.com/gatehouse/internal/gcp/emulator"
	"example.com/gatehouse/internal/gcp/firestore"
	"example.com/gatehouse/session"
	"example.com/gatehouse/session/sessiontest"
)

// largeRun returns a record whose checkpoint gets a document below it.
func largeRun() *session.Run {
	return &session.Run{
		Key: session.Key{Owner: session.OwnerOf("caller", session.NewID()), ID: session.NewID()}, ID: session.NewID(),
		State: session.Working, Holder: "holder", Request: json.RawMessage(`{}`),
		Checkpoint: json.RawMessage(`"` + strings.Repeat("c", 710<<10) + `"`),
	}
}

func saveRun(t *testing.T, store session.Store, r *session.Run, change func(*session.Run)) *session.Run {
	t.Helper()
	next := *r
	change(&next)
	saved, err := store.SaveRun(t.Context(), &next)
	if err != nil {
		t.Fatal(err)
	}
	return saved
}

// steps returns the document below a record, nil if there is none.
func steps(t *testing.T, client *cloudfirestore.Client, r *session.Run) *cloudfirestore.DocumentSnapshot {
	t.Helper()
	name := session.Key{Owner: r.Key.Owner, ID: session.RunID(r.Key.ID, r.ID)}.Hash()
	snapshots, err := client.GetAll(t.Context(), []*cloudfirestore.DocumentRef{client.Collection(firestore.RunsCollection).Doc(name).Collection("steps").Doc("finished")})
	if err != nil {
		t.Fatal(err)
	}
	if !snapshots[0].Exists() {
		return nil
	}
	return snapshots[0]
}

// A run that waits for days goes on from its checkpoint, which is a document with its own
// expiry. A sign of life does not write it.
func TestACheckpointLivesAsLongAsItsRecord(t *testing.T) {
	var w wire
	host, project := emulator.Host(t), emulator.Project()
	clock, client := sessiontest.NewClock(), emulator.Connect(t, host, project)
	store := firestore.NewSessions(emulator.Connect(t, host, project, w.options()...), sessiontest.TTL, clock.Now)
	r := largeRun()
	same := func(*session.Run) {}
	for _, step := range []struct {
		name   string
		after  time.Duration
		change func(*session.Run)
		writes int
	}{
		{"its first write", 0, same, 2},
		{"a sign of life", time.Second, same, 1},
		{"a sign of life of a long run", 59 * time.Minute, same, 1},
		{"a sign of life of a longer one", 2 * time.Minute, same, 2},
		{"it waits for a person", time.Second, func(r *session.Run) {
			r.State, r.Holder = session.Waiting, ""
			r.Pending = []session.Pending{{CallID: "c", ExpiresAt: clock.Now().Add(72 * time.Hour)}}
		}, 2},
		{"it is answered, and kept for a day", 71 * time.Hour, func(r *session.Run) { r.State, r.Holder, r.Pending = session.Working, "another", nil }, 2},
		{"a sign of life after the answer", time.Second, same, 1},
	} {
		clock.Advance(step.after)
		r = saveRun(t, store, r, step.change)
		if c := w.cost(); c.writes != step.writes {
			t.Errorf("%s: %d writes, want %d", step.name, c.writes, step.writes)
		}
		loaded, err := store.LoadRun(t.Context(), r.Key, r.ID)
		if err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		end := steps(t, client, r).Data()["expires_at"].(time.Time)
		if end.Before(loaded.ExpiresAt) || end.After(loaded.ExpiresAt.Add(time.Hour)) {
			t.Errorf("%s: the checkpoint expires at %v, its record at %v", step.name, end, loaded.ExpiresAt)
		}
		r = loaded
		w.cost()
	}
}

// The checkpoint is the conversation: it goes with the run's end, and with a deletion, even if
// the record does not know of it.
func TestACheckpointGoesWithItsRun(t *testing.T) {
	client := emulator.Client(t)
	store := firestore.NewSessions(client, sessiontest.TTL, sessiontest.NewClock().Now)
	end := func(r *session.Run) { r.State, r.Checkpoint = session.Done, nil }
	r := saveRun(t, store, largeRun(), func(*session.Run) {})
	stored := steps(t, client, r)
	r = saveRun(t, store, r, end)
	if steps(t, client, r) != nil {
		t.Error("the checkpoint is left after the run's end")
	}
	// As the holder's write between a deletion's query and its removal leaves it.
	if _, err := stored.Ref.Set(t.Context(), stored.Data()); err != nil {
		t.Fatal(err)
	}
	if err := store.DeleteAll(t.Context(), r.Key.Owner); err != nil {
		t.Fatal(err)
	}
	if steps(t, client, r) != nil {
		t.Error("the checkpoint is left after the deletion")
	}
}

// before returns the options of a client that calls do once, just before it first sends a
// request that names a document of a collection.
func before(collection string, do func()) []option.ClientOption {
	var done atomic.Bool
	return emulator.Tap(func(_ string, request any) {
		var names []string
		switch r := request.(type) {
		case *firestorepb.BatchGetDocumentsRequest:
			names = r.Documents
		case *firestorepb.CommitRequest:
			for _, w := range r.Writes {
				names = append(names, w.GetUpdate().GetName())
			}
		}
		for _, name := range names {
			if strings.Contains(name, "/"+collection+"/") && done.CompareAndSwap(false, true) {
				do()
			}
		}
	})
}

// The end of a run comes between the read of its record and of its checkpoint.
func TestARunThatEndsWhileItIsLoaded(t *testing.T) {
	host, project := emulator.Host(t), emulator.Project()
	clock := sessiontest.NewClock()
	other := firestore.NewSessions(emulator.Connect(t, host, project), sessiontest.TTL, clock.Now)
	r := saveRun(t, other, largeRun(), func(*session.Run) {})
	client := emulator.Connect(t, host, project, before("steps", func() {
		saveRun(t, other, r, func(r *session.Run) { r.State, r.Checkpoint = session.Done, nil })
	})...)
	got, err := firestore.NewSessions(client, sessiontest.TTL, clock.Now).LoadRun(t.Context(), r.Key, r.ID)
	if err != nil || got.State != session.Done || got.Checkpoint != nil {
		t.Errorf("%+v, %v", got, err)
	}
}

// A checkpoint that somebody has replaced by a value of another type is no checkpoint, and its
// run can be ended.
func TestACheckpointOfAnotherType(t *testing.T) {
	host, project := emulator.Host(t), emulator.Project()
	client := emulator.Connect(t, host, project)
	store := firestore.NewSessions(client, sessiontest.TTL, time.Now)
	for name, below := range map[string]bool{"in the record": false, "below it": true} {
		for _, value := range []any{"a text", int64(7), map[string]any{"step": int64(1)}, []any{int64(1)}} {
			r := largeRun()
			if !below {
				r.Checkpoint = json.RawMessage(`{}`)
			}
			saveRun(t, store, r, func(*session.Run) {})
			document := client.Collection(firestore.RunsCollection).Doc(session.Key{Owner: r.Key.Owner, ID: session.RunID(r.Key.ID, r.ID)}.Hash())
			if below {
				document = document.Collection("steps").Doc("finished")
			}
			if _, err := document.Update(t.Context(), []cloudfirestore.Update{{Path: "checkpoint", Value: value}}); err != nil {
				t.Fatal(err)
			}
			got, err := store.LoadRun(t.Context(), r.Key, r.ID)
			if err != nil || len(got.Checkpoint) == 0 || json.Valid(got.Checkpoint) {
				t.Fatalf("%s, %v: %+v, %v", name, value, got, err)
			}
			saveRun(t, store, got, func(r *session.Run) { r.State, r.Checkpoint = session.Failed, nil })
			if got, err := store.LoadRun(t.Context(), r.Key, r.ID); err != nil || got.State != session.Failed || got.Checkpoint != nil || steps(t, client, r) != nil {
				t.Errorf("%s, %v: ended as %+v, %v", name, value, got, err)
			}
		}
	}
}

// A record that somebody has edited in Firestore so that it cannot be read is a run that nobody
// holds, of a request that is none, and the write that ends it makes it whole. Others are listed
// beside it.
func TestARecordThatCannotBeRead(t *testing.T) {
	host, project := emulator.Host(t), emulator.Project()
	client := emulator.Connect(t, host, project)
	store := firestore.NewSessions(client, sessiontest.TTL, time.Now)
	set := func(path string, value any) []cloudfirestore.Update {
		return []cloudfirestore.Update{{Path: path, Value: value}}
	}
	for name, test := range map[string]struct {
		edit  []cloudfirestore.Update
		large bool
	}{
		"a head that is a text":         {edit: set("head", "a text")},
		"a head that is a number":       {edit: set("head", int64(7))},
		"a head that is a map":          {edit: set("head", map[string]any{"id": "x"})},
		"a head that is null":           {edit: set("head", nil)},
		"no head":                       {edit: set("head", cloudfirestore.Delete)},
		"a head that is no JSON":        {edit: set("head", []byte(`{"id":`))},
		"a head that is empty":          {edit: set("head", []byte(`{}`))},
		"a head with a text as epoch":   {edit: set("head", []byte(`{"id":"x","epoch":"one"}`))},
		"a head above a checkpoint":     {edit: set("head", "a text"), large: true},
		"a part that is a text":         {edit: set("parts.p000000", "a text")},
		"a part that is no JSON":        {edit: set("parts.p000000", []byte(`{`))},
		"a part that is missing":        {edit: set("parts", map[string]any{"p000001": []byte(`{}`)})},
		"parts that are a list":         {edit: set("parts", []any{"a"})},
		"an expiry that is a text":      {edit: set("expires_at", "tomorrow")},
		"a state that is a number":      {edit: set("state", int64(1))},
		"a result that is a text":       {edit: set("result", "a text")},
		"a head and all that is beside": {edit: append(set("head", int64(1)), append(set("parts", int64(1)), append(set("below", "a text"), set("created_at", time.Now().Add(-time.Hour))...)...)...)},
	} {
		t.Run(name, func(t *testing.T) {
			r := largeRun()
			r.Parts, r.Effects = []session.Part{{Kind: session.KindText, Text: "one"}}, map[string]session.Effect{"e": {Name: "pay"}}
			if !test.large {
				r.Checkpoint = json.RawMessage(`{}`)
			}
			saveRun(t, store, r, func(*session.Run) {})
			other := saveRun(t, store, &session.Run{Key: r.Key, ID: session.NewID(), State: session.Working, Holder: "h", Request: json.RawMessage(`{}`)}, func(*session.Run) {})
			document := client.Collection(firestore.RunsCollection).Doc(session.Key{Owner: r.Key.Owner, ID: session.RunID(r.Key.ID, r.ID)}.Hash())
			if _, err := document.Update(t.Context(), test.edit); err != nil {
				t.Fatal(err)
			}
			got, err := store.LoadRun(t.Context(), r.Key, r.ID)
			var object map[string]any
			if err != nil || got.Key != r.Key || got.ID != r.ID || !got.Lapsed() || json.Unmarshal(got.Request, &object) == nil || len(got.Effects) == 0 {
				t.Fatalf("%+v, %v", got, err)
			}
			if runs, _, err := store.ListRuns(t.Context(), r.Key.Owner, session.RunFilter{}, 10, ""); err != nil || len(runs) == 0 || runs[0].ID != other.ID {
				t.Errorf("the list: %+v, %v", runs, err)
			}
			saveRun(t, store, got, func(r *session.Run) { r.State, r.Result = session.Failed, json.RawMessage(`{"error":"internal"}`) })
			ended, err := store.LoadRun(t.Context(), r.Key, r.ID)
			if err != nil || ended.State != session.Failed || string(ended.Result) != `{"error":"internal"}` || len(ended.Effects) == 0 || ended.Checkpoint != nil || steps(t, client, r) != nil {
				t.Errorf("ended as %+v, %v", ended, err)
			}
			if runs, _, err := store.ListRuns(t.Context(), r.Key.Owner, session.RunFilter{}, 10, ""); err != nil || len(runs) != 2 {
				t.Errorf("the list after its end: %+v, %v", runs, err)
			}
			// A write of before the edit has no effect.
			if _, err := store.SaveRun(t.Context(), got); err == nil {
				t.Error("it was written by whoever had read it before its end")
			}
		})
	}
}
