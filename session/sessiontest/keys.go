package sessiontest

import (
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"example.com/gatehouse/session"
)

// lease is how long the cases hold a key: what a request of the default 30 s does, with a
// margin.
const lease = 35 * time.Second

// idem returns what identifies a call. Body stands for the whole request.
func idem(key, body string) session.Idempotency {
	return session.Idempotency{Key: key, Body: body, Lease: lease}
}

// open claims a key for an existing session, or for a new one if id is "".
func open(t *testing.T, store session.Store, clock *Clock, owner session.Owner, id, key, body string) (*session.Opened, error) {
	t.Helper()
	return session.Open(t.Context(), store, owner, id, idem(key, body), nil, clock.Now)
}

func mustOpen(t *testing.T, store session.Store, clock *Clock, owner session.Owner, id, key, body string) *session.Opened {
	t.Helper()
	o, err := open(t, store, clock, owner, id, key, body)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// mustCommit commits the turn of a call that holds a key: turn and entry are one write.
func mustCommit(t *testing.T, store session.Store, o *session.Opened, query string) session.Meta {
	t.Helper()
	meta, err := session.Commit(t.Context(), store, o.Session, Turn(query), session.Conditions{Claim: o.Claim})
	if err != nil {
		t.Fatal(err)
	}
	return meta
}

// replayed returns the question of the turn that o replays.
func replayed(t *testing.T, o *session.Opened) string {
	t.Helper()
	if o.Replay == nil {
		t.Fatal("nothing is replayed")
	}
	turn, err := o.Replay.Turn()
	if err != nil {
		t.Fatal(err)
	}
	query, _ := turn.Texts()
	return query
}

// keyLife: the three answers that a key has, in a new session and in one that exists. A second
// call while the first works is refused with the time that is left; after the turn is stored,
// it gets that turn, however many follow. It catches a store that drops the entries of keys
// with the next turn.
func keyLife(t *testing.T, store session.Store, clock *Clock) {
	owner := newKey().Owner
	for _, id := range []string{"", session.NewID()} {
		if id != "" {
			add(t, store, session.Key{Owner: owner, ID: id}, "before")
		}
		first := mustOpen(t, store, clock, owner, id, "key", "body")
		if first.Replay != nil || first.Claim == nil {
			t.Fatalf("the first call got %+v", first)
		}
		_, err := open(t, store, clock, owner, id, "key", "body")
		wantError(t, "a second call change", err, session.ErrInProgress)
		if in, ok := errors.AsType[*session.InProgressError](err); !ok || in.Left <= 0 || in.Left > lease {
			t.Errorf("the second call is told to wait %v", err)
		}
		meta := mustCommit(t, store, first, "question")
		for range 2 {
			again := mustOpen(t, store, clock, owner, id, "key", "body")
			if again.Session.ID != meta.ID || again.Replay.Number != meta.Turns || replayed(t, again) != "question" {
				t.Errorf("a retry got %+v", again)
			}
		}
		key := session.Key{Owner: owner, ID: meta.ID}
		add(t, store, key, "after")
		if got := replayed(t, mustOpen(t, store, clock, owner, id, "key", "body")); got != "question" {
			t.Errorf("after another turn a retry got %q", got)
		}
		want := []string{"question", "after"}
		if id != "" {
			want = append([]string{"before"}, want...)
		}
		if got := queries(t, store, key); !slices.Equal(got, want) {
			t.Errorf("turns = %q, want %q", got, want)
		}
	}
}

// keyScopes: a key belongs to its owner and, if one is named, to the session. It catches a
// store that keeps keys in one namespace, where one client's "1" answers with another's turn.
func keyScopes(t *testing.T, store session.Store, clock *Clock) {
	owner, other := newKey().Owner, newKey().Owner
	began := mustCommit(t, store, mustOpen(t, store, clock, owner, "", "key", "body"), "one")
	inside := mustOpen(t, store, clock, owner, began.ID, "key", "body")
	if inside.Replay != nil {
		t.Error("the key in the session it began replays the beginning")
	}
	mustCommit(t, store, inside, "two")
	theirs := mustOpen(t, store, clock, other, "", "key", "body")
	if theirs.Replay != nil || theirs.Session.ID == began.ID {
		t.Error("somebody else's key is the same key")
	}
	if got := queries(t, store, session.Key{Owner: owner, ID: began.ID}); !slices.Equal(got, []string{"one", "two"}) {
		t.Errorf("turns = %q", got)
	}
}

// keyMismatch: the same key with another body is an error of the caller, while the first call
// works and afterwards. To answer it with the first call's turn would hide that.
func keyMismatch(t *testing.T, store session.Store, clock *Clock) {
	owner := newKey().Owner
	o := mustOpen(t, store, clock, owner, "", "key", "body")
	_, err := open(t, store, clock, owner, "", "key", "another")
	wantError(t, "another body change", err, session.ErrKeyMismatch)
	mustCommit(t, store, o, "one")
	_, err = open(t, store, clock, owner, "", "key", "another")
	wantError(t, "another body afterwards", err, session.ErrKeyMismatch)
}

// keyReleased: a call that failed returns its key, so that a retry need not wait for the lease.
// A session that is only that claim goes with it. A release that comes after the turn was
// stored, as when the commit's response was lost, must not free the key.
func keyReleased(t *testing.T, store session.Store, clock *Clock) {
	owner := newKey().Owner
	existing := session.NewID()
	add(t, store, session.Key{Owner: owner, ID: existing}, "before")
	for _, id := range []string{"", existing} {
		failed := mustOpen(t, store, clock, owner, id, "key", "body")
		if err := session.Release(t.Context(), store, failed.Session, failed.Claim); err != nil {
			t.Fatal(err)
		}
		if _, err := store.Load(t.Context(), failed.Session.Key); id == "" && !errors.Is(err, session.ErrNotFound) {
			t.Errorf("a session that was only the claim: %v", err)
		}
		again := mustOpen(t, store, clock, owner, id, "key", "another body")
		mustCommit(t, store, again, "question")
		// A key whose turn is stored is not released.
		if err := session.Release(t.Context(), store, again.Session, again.Claim); err != nil {
			t.Fatal(err)
		}
		if got := replayed(t, mustOpen(t, store, clock, owner, id, "key", "another body")); got != "question" {
			t.Errorf("a retry got %q", got)
		}
	}
	if got := queries(t, store, session.Key{Owner: owner, ID: existing}); !slices.Equal(got, []string{"before", "question"}) {
		t.Errorf("turns = %q", got)
	}

	// A session of two claims stays for the other one.
	id, held := session.NewID(), map[string]*session.Opened{}
	for _, name := range []string{"a", "b"} {
		create := idem(name, "body")
		create.Create = true
		o, err := session.Open(t.Context(), store, owner, id, create, nil, clock.Now)
		if err != nil {
			t.Fatal(err)
		}
		held[name] = o
	}
	if err := session.Release(t.Context(), store, held["a"].Session, held["a"].Claim); err != nil {
		t.Fatal(err)
	}
	mustCommit(t, store, held["b"], "question")
	if o := mustOpen(t, store, clock, owner, id, "a", "another body"); o.Replay != nil {
		t.Errorf("a key that was given back replays %+v", o.Replay)
	}
}

// keyTakenOver: a call that was paused for longer than its lease (an instance without CPU) is
// alive, and may commit and release at any later time. Both find another holder and change
// nothing.
func keyTakenOver(t *testing.T, store session.Store, clock *Clock) {
	owner := newKey().Owner
	slow := mustOpen(t, store, clock, owner, "", "key", "body")
	clock.Advance(lease)
	fast := mustOpen(t, store, clock, owner, "", "key", "body")
	if fast.Replay != nil || fast.Session.ID != slow.Session.ID {
		t.Fatalf("a lapsed hold returned %+v", fast)
	}
	_, err := session.Commit(t.Context(), store, slow.Session, Turn("slow"), session.Conditions{Claim: slow.Claim})
	wantError(t, "the slow call's commit", err, session.ErrTakenOver)
	if err := session.Release(t.Context(), store, slow.Session, slow.Claim); err != nil {
		t.Fatal(err)
	}
	meta := mustCommit(t, store, fast, "fast")
	_, err = session.Commit(t.Context(), store, slow.Session, Turn("slow"), session.Conditions{Claim: slow.Claim})
	wantError(t, "the slow call's commit, later", err, session.ErrTakenOver)
	if got := queries(t, store, session.Key{Owner: owner, ID: meta.ID}); !slices.Equal(got, []string{"fast"}) {
		t.Errorf("turns = %q", got)
	}
}

// keyLostAnswers is lostAnswer for the two writes of a call with a key: the claim, whose lost
// response must not be taken for another call that holds the key, and the commit.
func keyLostAnswers(t *testing.T, store session.Store, clock *Clock) {
	for _, lose := range [][]bool{{true}, {false}, {false, true}, {true, false}, {true, true, true}} {
		owner := newKey().Owner
		f := &lossyStore{Store: store, lose: slices.Clone(lose)}
		o, err := session.Open(t.Context(), f, owner, "", idem("key", "body"), nil, clock.Now)
		if err != nil {
			t.Fatalf("%v: %v", lose, err)
		}
		f.lose = slices.Clone(lose)
		meta, err := session.Commit(t.Context(), f, o.Session, Turn("one"), session.Conditions{Claim: o.Claim})
		if err != nil || meta.Turns != 1 {
			t.Fatalf("%v: turn %d, %v", lose, meta.Turns, err)
		}
		if got := queries(t, store, session.Key{Owner: owner, ID: meta.ID}); !slices.Equal(got, []string{"one"}) {
			t.Errorf("%v: turns = %q", lose, got)
		}
	}
}

// onlyClaimed: a document with a claim and no turn is for nobody a session. It catches a store
// that lists every document it has, and one that accepts feedback on turn 1 before there is
// one.
func onlyClaimed(t *testing.T, store session.Store, clock *Clock) {
	owner := newKey().Owner
	o := mustOpen(t, store, clock, owner, "", "key", "body")
	key := o.Session.Key
	if s, err := store.Load(t.Context(), key); err != nil || s.Exists() {
		t.Errorf("Load = %+v, %v", s, err)
	}
	_, _, err := store.Turns(t.Context(), key, 0, 10)
	wantError(t, "Turns", err, session.ErrNotFound)
	wantError(t, "Delete", store.Delete(t.Context(), key), session.ErrNotFound)
	wantError(t, "SetFeedback", store.SetFeedback(t.Context(), key, 1, session.Feedback{Score: 1}), session.ErrNotFound)
	if list, next, err := store.List(t.Context(), owner, 10, ""); err != nil || len(list) != 0 || next != "" {
		t.Errorf("List = %v, %q, %v", list, next, err)
	}
	_, err = open(t, store, clock, owner, key.ID, "another", "body")
	wantError(t, "a key in it", err, session.ErrNotFound)
}

// keyDeleted: after a deletion, by either method, a retry of the key that began the session
// must not run the turn once more: who deletes a session and is answered late would find it
// back. For a day the tombstone answers for it, without any content of the turn; then the key
// is free.
func keyDeleted(t *testing.T, store session.Store, clock *Clock) {
	for name, remove := range map[string]func(session.Key) error{
		"Delete":    func(k session.Key) error { return store.Delete(t.Context(), k) },
		"DeleteAll": func(k session.Key) error { return store.DeleteAll(t.Context(), k.Owner) },
	} {
		owner := newKey().Owner
		meta := mustCommit(t, store, mustOpen(t, store, clock, owner, "", name, "body"), "secret")
		key := session.Key{Owner: owner, ID: meta.ID}
		running, err := store.Load(t.Context(), key)
		if err != nil {
			t.Fatal(err)
		}
		if err := remove(key); err != nil {
			t.Fatal(err)
		}
		_, err = open(t, store, clock, owner, "", name, "body")
		wantError(t, name+": a retry", err, session.ErrNotFound)
		create := idem("another", "body")
		create.Create = true
		_, err = session.Open(t.Context(), store, owner, key.ID, create, nil, clock.Now)
		wantError(t, name+": a key in its place", err, session.ErrNotFound)
		wantError(t, name+": Delete again", store.Delete(t.Context(), key), session.ErrNotFound)
		_, err = session.Commit(t.Context(), store, running, Turn("too late"), session.Conditions{})
		wantError(t, name+": a turn that was running", err, session.ErrNotFound)
		if s, err := store.Load(t.Context(), key); err == nil && (s.Exists() || len(s.Recent) > 0 || s.Title != "") {
			t.Errorf("%s: what is left is %+v", name, s)
		}
		if list, _, err := store.List(t.Context(), owner, 10, ""); err != nil || len(list) != 0 {
			t.Errorf("%s: List = %v, %v", name, list, err)
		}
		clock.Advance(session.KeyLife + time.Minute)
		if meta := mustCommit(t, store, mustOpen(t, store, clock, owner, "", name, "body"), "again"); meta.Turns != 1 {
			t.Errorf("%s: a day later the turn is number %d", name, meta.Turns)
		}
	}
}

// keyReusedAfterADay needs sessions that outlive their keys. [TTL] is shorter than
// that, so a turn now and then keeps each session alive.
func keyReusedAfterADay(t *testing.T, store session.Store, clock *Clock) {
	owner := newKey().Owner
	var ids []string
	for round := range 3 {
		meta := mustCommit(t, store, mustOpen(t, store, clock, owner, "", "key", "body"), "one")
		if meta.Turns != 1 || slices.Contains(ids, meta.ID) {
			t.Fatalf("round %d: turn %d of a session that was there", round, meta.Turns)
		}
		if ids = append(ids, meta.ID); len(ids) == 3 {
			break
		}
		for passed := time.Duration(0); passed <= session.KeyLife; passed += TTL * 9 / 10 { // a turn each time keeps a session
			clock.Advance(TTL * 9 / 10)
			for _, id := range ids {
				add(t, store, session.Key{Owner: owner, ID: id}, "again")
			}
		}
	}
}

// keyAfterTurn: a retry with a condition that held for the first try is answered with the turn,
// although that turn has made the condition false.
func keyAfterTurn(t *testing.T, store session.Store, clock *Clock) {
	key := newKey()
	add(t, store, key, "one")
	zero, one := 0, 1
	_, err := session.Open(t.Context(), store, key.Owner, key.ID, idem("key", "body"), &zero, clock.Now)
	wantError(t, "after turn 0 of 1", err, session.ErrTurnCount)
	o, err := session.Open(t.Context(), store, key.Owner, key.ID, idem("key", "body"), &one, clock.Now)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := session.Commit(t.Context(), store, o.Session, Turn("two"), session.Conditions{AfterTurn: &one, Claim: o.Claim}); err != nil {
		t.Fatal(err)
	}
	o, err = session.Open(t.Context(), store, key.Owner, key.ID, idem("key", "body"), &one, clock.Now)
	if err != nil || o.Replay == nil {
		t.Errorf("a retry with the same condition: %+v, %v", o, err)
	}
	_, err = session.Open(t.Context(), store, key.Owner, "", idem("key", "body"), &one, clock.Now)
	wantError(t, "after turn 1 of a new session", err, session.ErrTurnCount)
}

// keyRace: the promise of a key as a client sees it. Every call but one waits and replays; none
// runs a turn and finds only at its commit that it was not needed.
func keyRace(t *testing.T, store session.Store, clock *Clock) {
	owner := newKey().Owner
	const calls = 8
	var mu sync.Mutex
	var committed, replays int
	var id string
	var all sync.WaitGroup
	for range calls {
		all.Go(func() {
			for {
				o, err := session.Open(t.Context(), store, owner, "", idem("key", "body"), nil, clock.Now)
				if errors.Is(err, session.ErrInProgress) {
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				id = o.Session.ID
				mu.Unlock()
				if o.Replay != nil {
					mu.Lock()
					replays++
					mu.Unlock()
					return
				}
				if _, err := session.Commit(t.Context(), store, o.Session, Turn("one"), session.Conditions{Claim: o.Claim}); err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				committed++
				mu.Unlock()
				return
			}
		})
	}
	all.Wait()
	if committed != 1 || replays != calls-1 {
		t.Errorf("%d turns committed and %d replayed, want 1 and %d", committed, replays, calls-1)
	}
	if got := queries(t, store, session.Key{Owner: owner, ID: id}); !slices.Equal(got, []string{"one"}) {
		t.Errorf("turns = %q", got)
	}
}

// feedback: the latest opinion counts, on turns that exist, of the owner. It changes neither
// the number of turns nor what a commit compares, so rating a turn while the next one runs
// fails neither.
func feedback(t *testing.T, store session.Store, clock *Clock) {
	key := newKey()
	add(t, store, key, "one")
	add(t, store, key, "two")
	for _, f := range []session.Feedback{{Score: 1, Comment: "good"}, {Score: -1}} {
		if err := store.SetFeedback(t.Context(), key, 2, f); err != nil {
			t.Fatal(err)
		}
	}
	if _, records, err := store.Turns(t.Context(), key, 0, 10); err != nil || len(records) != 2 || records[0].Feedback != nil ||
		records[1].Feedback == nil || records[1].Feedback.Score != -1 {
		t.Errorf("turns with feedback: %v, %v", records, err)
	}
	for _, turn := range []int{-1, 0, 3} {
		wantError(t, "SetFeedback", store.SetFeedback(t.Context(), key, turn, session.Feedback{}), session.ErrNotFound)
	}
	other := session.Key{Owner: session.OwnerOf("somebody", ""), ID: key.ID}
	wantError(t, "SetFeedback by somebody else", store.SetFeedback(t.Context(), other, 1, session.Feedback{}), session.ErrNotFound)
	// A key and a condition on the number of turns do not conflict.
	base, err := store.Load(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if err := store.SetFeedback(t.Context(), key, 1, session.Feedback{Score: 1}); err != nil {
		t.Fatal(err)
	}
	two := 2
	if _, err := session.Commit(t.Context(), store, base, Turn("three"), session.Conditions{AfterTurn: &two}); err != nil {
		t.Errorf("a turn after feedback: %v", err)
	}
}
