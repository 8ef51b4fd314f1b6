package sessiontest

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/gatehouse/session"
)

// newRun returns a record that is not stored.
func newRun(key session.Key) *session.Run {
	return &session.Run{
		Key: key, ID: session.NewID(), State: session.Working, Holder: "holder", Turn: 1,
		Request: json.RawMessage(`{"query":"hello"}`),
		Parts:   []session.Part{{Kind: session.KindText, Text: "Hel"}},
	}
}

func saveRun(t *testing.T, store session.Store, r *session.Run) *session.Run {
	t.Helper()
	saved, err := store.SaveRun(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return saved
}

func loadRun(t *testing.T, store session.Store, r *session.Run) *session.Run {
	t.Helper()
	loaded, err := store.LoadRun(t.Context(), r.Key, r.ID)
	if err != nil {
		t.Fatal(err)
	}
	return loaded
}

// sameRun fails unless got is what was saved as want.
//
// Revision, Silent and the times are the store's to set. The rest is compared as JSON, in which
// a float64 in the place of a json.Number shows.
func sameRun(t *testing.T, got, want *session.Run) {
	t.Helper()
	a, b := *got, *want
	for _, r := range []*session.Run{&a, &b} {
		r.Revision, r.Silent, r.CreatedAt, r.UpdatedAt, r.ExpiresAt = nil, 0, time.Time{}, time.Time{}, time.Time{}
	}
	encode := func(r session.Run) string { raw, _ := json.Marshal(r); return string(raw) }
	if diff := cmp.Diff(encode(a), encode(b)); diff != "" {
		t.Errorf("a record (-got +want):\n%s", diff)
	}
}

// runGrows: a store may send only what has changed since the last write, and each step here is
// a change that such a store could miss: no change at all, a longer list, a shorter one, a part
// or a checkpoint of another text and the same size, fields that are emptied, and a record that
// begins again after its end. After each the record reads as it was written.
func runGrows(t *testing.T, store session.Store, _ *Clock) {
	r := newRun(newKey())
	if _, err := store.LoadRun(t.Context(), r.Key, r.ID); !errors.Is(err, session.ErrNoRun) || !errors.Is(err, session.ErrNotFound) {
		t.Errorf("before it is stored: %v", err)
	}
	r = saveRun(t, store, r)
	change := func(f func(*session.Run)) {
		t.Helper()
		next := *r
		next.Parts = slices.Clone(r.Parts)
		f(&next)
		r = saveRun(t, store, &next)
		sameRun(t, loadRun(t, store, r), r)
	}
	change(func(r *session.Run) { r.Parts[0].Text = "Hello." })
	change(func(*session.Run) {}) // a sign of life
	change(func(r *session.Run) {
		r.Parts = append(r.Parts, session.Part{Kind: session.KindToolCall, ID: "c", Name: "tool", Args: map[string]any{"n": json.Number("9007199254740993")}})
		r.Checkpoint = json.RawMessage(`{"steps":1}`)
		r.Effects = map[string]session.Effect{"e": {Name: "tool", Step: 1}}
	})
	change(func(r *session.Run) { // of one size with what it replaces
		r.Checkpoint = json.RawMessage(`{"steps":2}`)
	})
	change(func(r *session.Run) { // the second step is begun again
		r.Parts, r.Resets = r.Parts[:1], []session.Reset{{Step: 2, Part: 1}}
		r.Epoch, r.Holder = 1, "another"
	})
	change(func(r *session.Run) {
		r.Parts = append(r.Parts, session.Part{Kind: session.KindText, Text: "of the size"})
	})
	change(func(r *session.Run) { // of one size with what it replaces
		r.Parts[1].Text, r.Resets = "ezis eht fo", append(slices.Clone(r.Resets), session.Reset{Step: 2, Part: 1})
	})
	change(func(r *session.Run) {
		r.State, r.Parts, r.Checkpoint, r.Result = session.Failed, nil, nil, json.RawMessage(`{"success":false}`)
	})
	change(func(r *session.Run) { // a retry begins again
		r.State, r.Epoch, r.Holder, r.Result = session.Working, 2, "a third", nil
	})
}

// runPrecondition: a stop is a write to the record, and the holder learns of it because its own
// next write fails. It catches a store whose holder writes unconditionally: the stop would be
// overwritten, and the model would go on being paid for.
func runPrecondition(t *testing.T, store session.Store, _ *Clock) {
	first := saveRun(t, store, newRun(newKey()))
	again := *first
	again.Revision = nil
	if _, err := store.SaveRun(t.Context(), &again); !errors.Is(err, session.ErrChanged) {
		t.Errorf("a second first write: %v", err)
	}
	stop := *loadRun(t, store, first)
	stop.Stop = true
	saveRun(t, store, &stop)
	if _, err := store.SaveRun(t.Context(), first); !errors.Is(err, session.ErrChanged) {
		t.Errorf("a holder's write after a stop: %v", err)
	}
	if !loadRun(t, store, first).Stop {
		t.Error("the stop was overwritten")
	}
	if _, err := store.LoadRun(t.Context(), session.Key{Owner: "stranger", ID: first.Key.ID}, first.ID); !errors.Is(err, session.ErrNoRun) {
		t.Errorf("a stranger's read: %v", err)
	}
}

// Session and record are written together or not at all.
// A run that has ended without its turn would be answered from nothing, and a turn whose run
// goes on would be made, and paid for, once more by whoever takes the run over. It catches a
// store that makes two writes of it, of which the second can fail.
func runWithTurn(t *testing.T, store session.Store, _ *Clock) {
	for _, test := range []struct {
		name    string
		between func(session.Store, *session.Session, *session.Run) // after both were loaded
		want    error
	}{
		{"undisturbed", nil, nil},
		{"another turn came first", func(store session.Store, s *session.Session, _ *session.Run) { add(t, store, s.Key, "first") }, session.ErrChanged},
		{"another holder took it over", func(store session.Store, _ *session.Session, r *session.Run) {
			taken := *loadRun(t, store, r)
			taken.Epoch++
			saveRun(t, store, &taken)
		}, session.ErrChanged},
	} {
		key := newKey()
		add(t, store, key, "zero")
		s := load(t, store, key)
		r := saveRun(t, store, newRun(key))
		if test.between != nil {
			test.between(store, s, r)
		}
		// The number of turns is taken after the disturbance, which may have added one.
		before, done := load(t, store, key).Turns, *r
		done.State = session.Done
		turn := Turn("one")
		_, err := store.Apply(t.Context(), s, session.Change{Turn: &turn, Run: &done})
		if !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", test.name, err, test.want)
		}
		appended := load(t, store, key).Turns == before+1
		ended := loadRun(t, store, r).State == session.Done
		if appended != (test.want == nil) || ended != appended {
			t.Errorf("%s: appended %t, ended %t", test.name, appended, ended)
		}
	}
	// The first turn of a session.
	key := newKey()
	r := saveRun(t, store, newRun(key))
	done := *r
	done.State = session.Done
	turn := Turn("one")
	if _, err := store.Apply(t.Context(), session.New(key), session.Change{Turn: &turn, Run: &done}); err != nil {
		t.Fatal(err)
	}
	if got := loadRun(t, store, r); got.State != session.Done || load(t, store, key).Turns != 1 {
		t.Errorf("after a first turn: %+v", got)
	}
}

// Commit appends after a turn that came first, passes over a stop that came too late, and
// never stores what a fenced holder has.
// A stop that comes when the answer is there changes nothing: it is stored, since it was paid
// for.
func runCommit(t *testing.T, store session.Store, _ *Clock) {
	for _, test := range []struct {
		name    string
		between func(*session.Session, *session.Run)
		want    error
		turns   int
	}{
		{"undisturbed", func(*session.Session, *session.Run) {}, nil, 2},
		{"another turn came first", func(s *session.Session, _ *session.Run) { add(t, store, s.Key, "first") }, nil, 3},
		{"a stop came", func(_ *session.Session, r *session.Run) {
			stop := *loadRun(t, store, r)
			stop.Stop = true
			saveRun(t, store, &stop)
		}, nil, 2},
		{"another holder took it over", func(_ *session.Session, r *session.Run) {
			taken := *loadRun(t, store, r)
			taken.Epoch++
			saveRun(t, store, &taken)
		}, session.ErrFenced, 1},
		{"another holder took it over and stored its turn", func(s *session.Session, r *session.Run) {
			taken := *loadRun(t, store, r)
			taken.Epoch++
			kept := saveRun(t, store, &taken)
			turn := Turn("theirs")
			turn.ID = r.ID
			if _, err := session.Commit(t.Context(), store, load(t, store, s.Key), turn, session.Conditions{Run: kept}); err != nil {
				t.Fatal(err)
			}
		}, session.ErrFenced, 2},
		{"it came to another end", func(_ *session.Session, r *session.Run) {
			failed := *loadRun(t, store, r)
			failed.State = session.Failed
			saveRun(t, store, &failed)
		}, session.ErrFenced, 1},
		{"the session was deleted", func(s *session.Session, _ *session.Run) { mustDelete(t, store, s.Key) }, session.ErrNotFound, 0},
	} {
		key := newKey()
		add(t, store, key, "zero")
		s := load(t, store, key)
		r := saveRun(t, store, newRun(key))
		test.between(s, r)
		done := *r
		done.State = session.Done
		turn := Turn("one")
		turn.ID = r.ID
		meta, err := session.Commit(t.Context(), store, s, turn, session.Conditions{Run: &done})
		if !errors.Is(err, test.want) {
			t.Errorf("%s: %v, want %v", test.name, err, test.want)
		}
		got, err := store.Load(t.Context(), key)
		if err != nil || got.Turns != test.turns {
			t.Errorf("%s: %v, %d turns, want %d", test.name, err, got.Turns, test.turns)
		}
		if test.want == nil {
			if ended := loadRun(t, store, r); ended.State != session.Done || ended.Turn != meta.Turns {
				t.Errorf("%s: the record has %s, turn %d of %d", test.name, ended.State, ended.Turn, meta.Turns)
			}
		}
	}
}

// runBegins: from its first record on, the run holds the key, long after the lease of the call
// that began it, and a retry learns which run to follow. The turn ends that in the write that
// stores it.
func runBegins(t *testing.T, store session.Store, clock *Clock) {
	owner := session.OwnerOf("caller", session.NewID())
	o := mustOpen(t, store, clock, owner, "", "key", "body")
	r := newRun(o.Session.Key)
	r.KeyHash = o.Claim.Hash()
	s, r, err := session.Begin(t.Context(), store, o.Session, o.Claim, r)
	if err != nil {
		t.Fatal(err)
	}
	clock.Advance(time.Hour) // the call's own lease is long over
	_, err = open(t, store, clock, owner, "", "key", "body")
	held, ok := errors.AsType[*session.InProgressError](err)
	if !ok || held.Run != r.ID || held.Key != r.Key {
		t.Fatalf("a retry: %v", err)
	}
	claim, err := session.ClaimOf(s, r)
	if err != nil {
		t.Fatal(err)
	}
	done := *r
	done.State = session.Done
	turn := Turn("one")
	turn.ID = r.ID
	if _, err := session.Commit(t.Context(), store, s, turn, session.Conditions{Claim: claim, Run: &done}); err != nil {
		t.Fatal(err)
	}
	if again, err := open(t, store, clock, owner, "", "key", "body"); err != nil || again.Replay == nil {
		t.Errorf("a retry after the end: %+v, %v", again, err)
	}
	if found, err := session.Find(t.Context(), store, r.Key, r.ID); err != nil || found.Number != 1 {
		t.Errorf("the turn of the run: %d, %v", found.Number, err)
	}
}

// runList: the filters, on pages that are shorter than the list, and the times: a record is
// listed for a day, one that waits for a person as long as it may be answered.
func runList(t *testing.T, store session.Store, clock *Clock) {
	owner := session.OwnerOf("caller", session.NewID())
	var want []string
	keys := []session.Key{{Owner: owner, ID: session.NewID()}, {Owner: owner, ID: session.NewID()}}
	for i := range 5 {
		r := newRun(keys[i%2])
		r.Checkpoint, r.Result = json.RawMessage("1"), json.RawMessage("2")
		if i == 3 {
			r.State, r.Pending = session.Waiting, []session.Pending{{CallID: "c", ExpiresAt: clock.Now().Add(72 * time.Hour)}}
		}
		saveRun(t, store, r)
		want = append([]string{r.ID}, want...)
	}
	saveRun(t, store, newRun(newKey())) // another owner's
	list := func(filter session.RunFilter) (ids []string) {
		t.Helper()
		for cursor := ""; ; {
			page, next, err := store.ListRuns(t.Context(), owner, filter, 2, cursor)
			if err != nil || len(page) > 2 {
				t.Fatalf("%d records, %v", len(page), err)
			}
			for _, r := range page {
				if ids = append(ids, r.ID); len(r.Parts) > 0 || r.Checkpoint != nil || r.Result != nil {
					t.Errorf("listed with what grows: %+v", r)
				}
			}
			if cursor = next; cursor == "" {
				return ids
			}
		}
	}
	if got := list(session.RunFilter{}); !slices.Equal(got, want) {
		t.Errorf("all: %v, want %v", got, want)
	}
	if got := list(session.RunFilter{SessionID: keys[1].ID}); !slices.Equal(got, []string{want[1], want[3]}) {
		t.Errorf("of a session: %v", got)
	}
	if got := list(session.RunFilter{State: session.Waiting}); !slices.Equal(got, []string{want[1]}) {
		t.Errorf("that wait: %v", got)
	}
	if _, _, err := store.ListRuns(t.Context(), owner, session.RunFilter{}, 2, "not a cursor"); !errors.Is(err, session.ErrCursor) {
		t.Errorf("a bad cursor: %v", err)
	}
	clock.Advance(session.RunLife + time.Hour)
	if got := list(session.RunFilter{}); !slices.Equal(got, []string{want[1]}) {
		t.Errorf("after a day only what waits is there: %v", got)
	}
}

// runDeletedFirst: until its first turn is stored a session has a record, and perhaps the claim
// of a key, which must not make the session after the deletion.
func runDeletedFirst(t *testing.T, store session.Store, clock *Clock) {
	owner := session.OwnerOf("caller", session.NewID())
	claimed := mustOpen(t, store, clock, owner, "", "key", "body").Session.Key
	for name, key := range map[string]session.Key{"a record": {Owner: owner, ID: session.NewID()}, "a record and a claim": claimed} {
		r, other := saveRun(t, store, newRun(key)), saveRun(t, store, newRun(session.Key{Owner: owner, ID: session.NewID()}))
		mustDelete(t, store, key)
		if _, err := store.LoadRun(t.Context(), key, r.ID); !errors.Is(err, session.ErrRunDeleted) {
			t.Errorf("%s: %v", name, err)
		}
		loadRun(t, store, other)
		wantError(t, name+": Delete again", store.Delete(t.Context(), key), session.ErrNotFound)
	}
	// A stop that came before any record: its run goes on, and makes the session.
	stop := &session.Run{Key: session.Key{Owner: owner, ID: session.NewID()}, ID: session.NewID(), State: session.Stopped, Stop: true}
	saveRun(t, store, stop)
	wantError(t, "a stop only: Delete", store.Delete(t.Context(), stop.Key), session.ErrNotFound)
	if _, err := open(t, store, clock, owner, "", "key", "body"); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("a retry of the key: %v", err)
	}
}

// runDeleted: a deletion must reach the records, which hold the question and the answer. The holder
// that is still at work must not write its record back, nor may a write that its caller gave up,
// or of which it has not heard: the first one of a record, alone or with a turn.
func runDeleted(t *testing.T, store session.Store, _ *Clock) {
	owner := session.OwnerOf("caller", session.NewID())
	key, other := session.Key{Owner: owner, ID: session.NewID()}, session.Key{Owner: owner, ID: session.NewID()}
	add(t, store, key, "zero")
	mine, others := saveRun(t, store, newRun(key)), saveRun(t, store, newRun(other))
	mustDelete(t, store, key)
	if _, err := store.LoadRun(t.Context(), key, mine.ID); !errors.Is(err, session.ErrNoRun) {
		t.Errorf("a run of a deleted session: %v", err)
	}
	barred := func(r *session.Run) {
		t.Helper()
		again := *r
		for range 2 {
			if _, err := store.SaveRun(t.Context(), &again); !errors.Is(err, session.ErrChanged) {
				t.Errorf("a write of the record with the revision %v: %v", again.Revision, err)
			}
			again.Revision = nil
		}
		if _, err := store.LoadRun(t.Context(), r.Key, r.ID); !errors.Is(err, session.ErrRunDeleted) {
			t.Errorf("the record: %v", err)
		}
	}
	barred(mine)
	loadRun(t, store, others)
	if err := store.DeleteAll(t.Context(), owner); err != nil {
		t.Fatal(err)
	}
	barred(others)
	barred(mine) // again, although no list has it
	again := *others
	again.Revision = nil
	_, err := session.Commit(t.Context(), store, session.New(other), session.Turn{ID: others.ID, Contents: json.RawMessage(`[]`)}, session.Conditions{Run: &again})
	if !errors.Is(err, session.ErrRunDeleted) {
		t.Errorf("its turn: %v", err)
	}
	if _, err := store.Load(t.Context(), other); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("its session: %v", err)
	}
	if runs, _, err := store.ListRuns(t.Context(), owner, session.RunFilter{}, 10, ""); err != nil || len(runs) > 0 {
		t.Errorf("a list: %v, %v", runs, err)
	}
}

// runLate: the first write of a record that is sent before a deletion of all and takes place
// after it leaves a record that nobody goes on with. Its holder may: it lives, and its next
// write makes the record one like others.
func runLate(t *testing.T, store session.Store, clock *Clock) {
	owner := session.OwnerOf("caller", session.NewID())
	first := func() *session.Run {
		r := newRun(session.Key{Owner: owner, ID: session.NewID()})
		r.Holder = "" // so that it has lapsed
		return saveRun(t, store, r)
	}
	if err := store.DeleteAll(t.Context(), owner); err != nil {
		t.Fatal(err)
	}
	after := first()
	clock.Advance(-time.Second)
	late, goesOn := first(), first()
	clock.Advance(time.Second)
	goesOn = saveRun(t, store, goesOn)
	seen := func(want ...*session.Run) {
		t.Helper()
		var ids, got []string
		for _, r := range want {
			ids = append(ids, r.ID)
		}
		runs, _, err := session.ListRuns(t.Context(), store, owner, session.RunFilter{}, 10, "")
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range runs {
			got = append(got, r.ID)
		}
		slices.Sort(ids)
		if slices.Sort(got); !slices.Equal(got, ids) {
			t.Errorf("listed: %v, want %v", got, ids)
		}
		for _, r := range want {
			if _, err := session.LoadRun(t.Context(), store, r.Key, r.ID); err != nil {
				t.Error(err)
			}
		}
	}
	seen(after, goesOn)
	if _, err := session.LoadRun(t.Context(), store, late.Key, late.ID); !errors.Is(err, session.ErrRunDeleted) {
		t.Errorf("the late one: %v", err)
	}
	loadRun(t, store, late) // it is there until it expires
	clock.Advance(session.RunLife - time.Minute)
	seen(after, goesOn)
	clock.Advance(time.Minute)
	if r, err := store.LoadRun(t.Context(), late.Key, late.ID); !errors.Is(err, session.ErrNoRun) {
		t.Errorf("a day later: %v, %v", r, err)
	}
}

// What passes a document's size moves below it, and comes back.
// Checkpoint and parts have 640 and 440 KiB: together more than the 1 MiB that Firestore takes
// as one document, so that the checkpoint needs one below. The record is changed there and
// shrinks with its turn; a piece that was moved away and is then read from two places, or from
// none, shows in the comparison.
func runLarge(t *testing.T, store session.Store, _ *Clock) {
	r := newRun(newKey())
	r.Checkpoint = json.RawMessage(`"` + strings.Repeat("c", 640<<10) + `"`)
	for range 10 {
		r.Parts = append(r.Parts, session.Part{Kind: session.KindText, Text: strings.Repeat("t", 44<<10)}, session.Part{Kind: session.KindToolCall, ID: "c"})
	}
	r = saveRun(t, store, r)
	sameRun(t, loadRun(t, store, r), r)
	next := *loadRun(t, store, r)
	next.Checkpoint = json.RawMessage(`"` + strings.Repeat("d", 641<<10) + `"`)
	r = saveRun(t, store, &next)
	sameRun(t, loadRun(t, store, r), r)
	next = *loadRun(t, store, r)
	next.Checkpoint = json.RawMessage(`"` + strings.Repeat("e", 641<<10) + `"`) // of one size
	r = saveRun(t, store, &next)
	sameRun(t, loadRun(t, store, r), r)
	done := *r
	done.State, done.Parts, done.Checkpoint = session.Done, nil, nil
	turn := Turn("one")
	if _, err := store.Apply(t.Context(), session.New(r.Key), session.Change{Turn: &turn, Run: &done}); err != nil {
		t.Fatal(err)
	}
	sameRun(t, loadRun(t, store, r), &session.Run{Key: r.Key, ID: r.ID, State: session.Done, Holder: r.Holder, Turn: 1, Request: r.Request})
}

// A holder is silent by the store's clock, not by any instance's.
// The store must measure the silence by one clock, its own: an instance whose clock is minutes
// ahead would take every run from a holder that lives.
func runLapses(t *testing.T, store session.Store, _ *Clock) {
	r := saveRun(t, store, newRun(newKey()))
	if got := loadRun(t, store, r); got.Lapsed() || got.Silent < 0 || got.Silent > session.LeaseTime {
		t.Errorf("just written: silent for %v", got.Silent)
	}
	free := *r
	free.Holder = ""
	if got := saveRun(t, store, &free); !got.Lapsed() {
		t.Error("a run without a holder is not free")
	}
	if (&session.Run{State: session.Waiting, Silent: time.Hour}).Lapsed() {
		t.Error("a run that waits has lapsed")
	}
}
