package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"
)

// A RunState is how far a run is.
type RunState string

// The states of a [Run].
const (
	Working RunState = "working"
	Waiting RunState = "waiting" // for a person
	Done    RunState = "done"
	Failed  RunState = "failed"
	Stopped RunState = "stopped"
)

const (
	// RunLife is how long the record of a run is kept after its last write. One that
	// waits is kept until what it waits for expires.
	RunLife = 24 * time.Hour
	// stopLife is how long the record of a stop is kept whose run nobody knows: longer than
	// any request may take. A run that has no record by then does not come.
	stopLife = time.Hour
	// LeaseTime is how long the holder of a run may be silent before another may take the
	// run over.
	LeaseTime = 5 * time.Second
	// Queued is the Holder of a run that a queue is to begin. Whoever gets it from there
	// in time begins it without a write: with the first one it is the holder, and a task
	// that was delivered twice has one.
	Queued = "queue"
)

// A Run is the record of a run that outlives its request, or may have to. Its holder
// writes it about once a second. That one write is the journal of what was shown, the
// sign that the holder lives, and its check that nobody has stopped the run or taken it
// over: both are writes of the same record, after which the holder's next write fails.
//
// A run whose turn is in its session is over, even if its record differs: the two are
// written in one step, see [Change.Run]. A Run is not changed once it was passed to a
// store.
type Run struct {
	Key Key    // of the session
	ID  string // of the turn, see [RunID]

	State  RunState
	Holder string // which execution works on it, or did last; "": none, so that anybody may take it over
	Epoch  int    // grows whenever it is taken over
	Stop   bool   // the holder is to stop

	Turn                            int       // the number of its turn; expected, until it is stored
	CreatedAt, UpdatedAt, ExpiresAt time.Time // set by the store

	Request json.RawMessage // what was asked, by whom and for whom; never a credential
	KeyHash string          // of the idempotency key, "" for none

	Parts      []Part          // shown so far
	Resets     []Reset         // begun again
	Checkpoint json.RawMessage // what the finished steps have come to

	Effects    map[string]Effect // of tools that change the world, by id
	Pending    []Pending         // what it waits for
	Answers    map[string]Answer // of persons, by call id; each is given once
	Deliveries json.RawMessage   // what is to be delivered, such as a webhook
	Result     json.RawMessage   // of a run that leaves no turn: the envelope

	// Revision is set by the store and compared by its conditional writes. It is nil for
	// a record that is not stored.
	Revision any
	// Silent is how long the record had not been written when it was read, by the store's
	// clock only: the clocks of instances may differ by minutes.
	Silent time.Duration
}

// An Effect is the entry of a tool call that changes the world. It is stored before the
// call begins.
type Effect struct {
	Name   string          `json:"name"`             // of the tool
	Step   int             `json:"step"`             // model call of the run, from 1
	Call   int             `json:"call"`             // its place in the step, from 0
	Done   bool            `json:"done,omitempty"`   // its end is known
	Result json.RawMessage `json:"result,omitempty"` // of one whose end is known, for the model
}

// An Answer is a person's to what a run waits for.
type Answer struct {
	Approve bool      `json:"approve"`
	Reason  string    `json:"reason,omitempty"`
	By      string    `json:"by"` // id of the principal
	At      time.Time `json:"at"`
}

// Over reports whether r goes on no more.
func (r *Run) Over() bool { return r.State != Working && r.State != Waiting }

// Lapsed reports whether r has no live holder, so that another may take it over.
func (r *Run) Lapsed() bool {
	return r.State == Working && (r.Holder == "" || r.Silent > LeaseTime)
}

// Written returns r as it is after a write at now: with its times, and without what no
// record holds.
func (r *Run) Written(now time.Time) Run {
	w := *r
	if w.Revision == nil {
		w.CreatedAt = now
	}
	w.UpdatedAt, w.ExpiresAt, w.Silent = now, now.Add(RunLife), 0
	if w.Revision == nil && w.State == Stopped {
		w.ExpiresAt = now.Add(stopLife)
	}
	if w.State == Waiting {
		w.ExpiresAt = waitsUntil(w.ExpiresAt, w.Pending)
	}
	for i, p := range w.Parts {
		if p.Data != nil { // a file in the record would be in it at each write
			w.Parts = slices.Clone(w.Parts)
			w.Parts[i].Data = nil
		}
	}
	return w
}

// HeldBy reports whether r, as it is stored, is still that of the execution which took it in
// an epoch as holder. Until that has written it, it may be the queue's, or of a stop that came
// before any record.
func (r *Run) HeldBy(holder string, epoch int) bool {
	return r.Epoch == epoch && (r.Holder == holder || r.Holder == Queued || r.Holder == "" && r.Request == nil)
}

// size returns about how many bytes r takes.
func (r *Run) size() int {
	n := len(r.Request) + len(r.Checkpoint) + len(r.Deliveries) + len(r.Result)
	for _, p := range r.Parts {
		n += len(p.Text) + len(p.Error) + 256
	}
	for _, e := range r.Effects {
		n += len(e.Result) + 128
	}
	return n
}

// Begins reports whether a queue's task may begin r without a write. The time that is
// left of the lease is for the first one.
func (r *Run) Begins() bool {
	return r.State == Working && r.Holder == Queued && r.Silent < LeaseTime-2*time.Second
}

// A RunFilter selects runs of an owner.
type RunFilter struct {
	SessionID string   // "": any
	State     RunState // "": any
}

// Errors about runs.
var (
	// ErrFenced: another holder has taken the run over.
	ErrFenced = errors.New("another holder has taken the run over")
	// ErrNoRun: this owner has no record of such a run. It wraps [ErrNotFound].
	ErrNoRun = fmt.Errorf("the run has no record: %w", ErrNotFound)
	// ErrRunDeleted: the record was deleted with its session, or with everything of its
	// owner. It wraps [ErrNoRun].
	ErrRunDeleted = fmt.Errorf("%w: it was deleted", ErrNoRun)
)

// KeyedRun returns where the record of a run without a session lies that has an
// idempotency key: a retry on any instance finds it. A key whose record has expired has
// another one, of the next generation.
func KeyedRun(owner Owner, key string, generation int) (Key, string) {
	of := func(what string) string { return digest(what, string(owner), key, strconv.Itoa(generation)) }
	return Key{Owner: owner, ID: of("session of a keyed run")}, of("keyed run")
}

// Find returns the turn with an id, looking at the recent ones and then at archived
// ones, newest first. It returns ErrNotFound if there is none.
func Find(ctx context.Context, store Store, key Key, id string) (Turn, error) {
	s, err := store.Load(ctx, key)
	if err != nil {
		return Turn{}, err
	}
	return FindIn(ctx, store, s, id)
}

// FindIn is [Find] for a session that is loaded.
func FindIn(ctx context.Context, store Store, s *Session, id string) (Turn, error) {
	match := func(r Record) bool { stored, err := r.ID(); return err == nil && stored == id }
	if n := s.NumberOf(match); n > 0 {
		return s.Recent[n-1-(s.Turns-len(s.Recent))].Turn()
	}
	return FindArchived(ctx, store, s, match)
}

// NumberOf returns the number of the newest of the recent turns that match, 0 for none.
func (s *Session) NumberOf(match func(Record) bool) int {
	for _, r := range slices.Backward(s.Recent) {
		if match(r) {
			return r.Number
		}
	}
	return 0
}

// FindArchived returns the newest of the archived turns of s that match. It returns
// ErrNotFound if there is none.
func FindArchived(ctx context.Context, store Store, s *Session, match func(Record) bool) (Turn, error) {
	for end := s.Turns - len(s.Recent); end > 0; end -= findStep {
		first := max(end-findStep, 0)
		_, records, err := store.Turns(ctx, s.Key, first, end-first)
		if err != nil {
			return Turn{}, err
		}
		for _, r := range slices.Backward(records) {
			if match(r) {
				return r.Turn()
			}
		}
	}
	return Turn{}, fmt.Errorf("finding a turn: %w", ErrNotFound)
}

// findStep is how many archived turns are read at once.
const findStep = 50

// Begin stores the first record of a run whose call holds a key: in the same write the
// key's entry becomes valid as long as the record. From then on only its holder's sign of
// life decides who works on it. It returns the session and the record as stored. The error is
// [ErrTakenOver] if the call no longer holds the key, [ErrFenced] if another has taken the run
// over since, [ErrChanged] if there is a record, and [ErrRunDeleted] if one was deleted.
func Begin(ctx context.Context, store Store, s *Session, c *Claim, r *Run) (*Session, *Run, error) {
	for try := 1; ; try++ {
		entry := c.entry
		entry.Run, entry.Until = r.ID, c.entry.At.Add(RunLife)
		after, err := store.Apply(ctx, s, Change{Key: c.key, Entry: &entry, Run: r})
		if err == nil {
			stored, err := store.LoadRun(ctx, r.Key, r.ID)
			if err == nil && !stored.HeldBy(r.Holder, r.Epoch) {
				return after, nil, ErrFenced
			}
			return after, stored, err
		}
		if !again(err) || try == commitTries {
			return s, nil, err
		}
		switch _, found := store.LoadRun(ctx, r.Key, r.ID); {
		case errors.Is(found, ErrRunDeleted):
			return s, nil, found // no write passes its tombstone
		case !errors.Is(found, ErrNotFound):
			return s, nil, errors.Join(ErrChanged, found)
		}
		if err := pause(ctx, try); err != nil {
			return s, nil, err
		}
		next, err := store.Load(ctx, s.Key)
		switch {
		case errors.Is(err, ErrUnavailable):
			continue
		case err != nil:
			return s, nil, err
		case !c.holds(next):
			return s, nil, ErrTakenOver
		}
		s = next
	}
}

// ClaimOf returns the claim by which the run of r holds its key in s, nil for a run
// without a key, and [ErrTakenOver] if it does not hold it.
func ClaimOf(s *Session, r *Run) (*Claim, error) {
	if r.KeyHash == "" {
		return nil, nil
	}
	e := s.Keys[r.KeyHash]
	if e.ID == r.ID { // of its turn, which waits
		return nil, nil
	}
	if e.Turn != 0 || e.Run != r.ID { // or there is none
		return nil, ErrTakenOver
	}
	return &Claim{key: r.KeyHash, entry: e}, nil
}

// Hash returns the hash of the claimed key.
func (c *Claim) Hash() string { return c.key }
