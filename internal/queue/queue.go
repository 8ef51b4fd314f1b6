// Package queue is about work that outlives the request that asked for it: the form
// of its tasks, and a queue in the process for local runs. Where the service is
// deployed, Cloud Tasks is the queue (package tasks).
//
// A queue delivers a task at least once: twice, late, out of order and side by side
// with itself. So a task holds no work and no credential, only the names of what is
// stored, and whoever takes it looks there for what is left to do.
//
// Nothing here promises an end: a task that fails is delivered again, with growing pauses,
// until the queue gives it up after about a day. What must not happen twice is guarded where it
// happens, by the record of the run (package session), not by the queue.
package queue

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"

	"example.com/gatehouse/session"
)

// A Kind is what a task asks for.
type Kind string

// The kinds of tasks.
const (
	Run     Kind = "run"     // bring a run to its end
	Webhook Kind = "webhook" // report an event of a run to its webhook
	Expire  Kind = "expire"  // end a run that waits, if nobody has answered in time
)

// Path is where the service takes tasks, by POST.
const Path = "/tasks"

// MaxBodyBytes bounds an encoded task. Its names are bounded, so that a longer body is
// no task.
const MaxBodyBytes = 1024

// A Task names what is to be done.
//
// It crosses revisions: one that was added before a delivery may be read by the code after it,
// and the other way round. So a member that is added must be omitted when it is zero.
type Task struct {
	Kind  Kind          `json:"kind"`
	Owner session.Owner `json:"owner"` // of the run
	Run   string        `json:"run"`   // its id

	// Attempt numbers the tasks of one run and kind, of which each follows the one before.
	Attempt int `json:"attempt,omitzero"`

	// Epoch is that of the run when a person has answered what it waited for: what was to
	// be done before is another task.
	Epoch int `json:"epoch,omitzero"`

	// Event is that of a Webhook, such as "run.done", and ID the id by which the
	// receiver recognizes deliveries of one event.
	Event string `json:"event,omitempty"`
	ID    string `json:"id,omitempty"`

	// Created is when the event happened, from which the time for its delivery counts.
	Created time.Time `json:"created,omitzero"`
}

// ErrInvalid is wrapped by the errors of [Parse].
var ErrInvalid = errors.New("not a task")

// maxName bounds each name in a task, in bytes: an owner's hash, a run's id, an event, an
// id. The longest is a run's.
const maxName = 160

// valid reports whether something may be stored under name.
func valid(name string) bool {
	for _, c := range []byte(name) {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_' || c == '-' || c == '.') {
			return false
		}
	}
	return name != "" && len(name) <= maxName
}

// Parse reads a task that [Task.Encode] wrote.
//
// Unknown members are refused: a task of a newer revision, read by an older one, would be taken
// for another. The queue delivers it again, by then perhaps to the newer.
func Parse(body []byte) (Task, error) {
	if len(body) > MaxBodyBytes {
		return Task{}, fmt.Errorf("%w: %d bytes", ErrInvalid, len(body))
	}
	var t Task
	if err := json.Unmarshal(body, &t, json.RejectUnknownMembers(true)); err != nil {
		return Task{}, fmt.Errorf("%w: not its JSON", ErrInvalid)
	}
	return t, t.check()
}

// Encode returns the task as JSON of at most [MaxBodyBytes].
func (t Task) Encode() ([]byte, error) {
	if err := t.check(); err != nil {
		return nil, err
	}
	return json.Marshal(t)
}

func (t Task) check() error {
	texts := []string{string(t.Owner), t.Run}
	switch t.Kind {
	case Run, Expire:
		if t.Event != "" || t.ID != "" {
			return fmt.Errorf("%w: an event of a run to be done", ErrInvalid)
		}
	case Webhook:
		texts = append(texts, t.Event, t.ID)
	default:
		return fmt.Errorf("%w: of no kind", ErrInvalid)
	}
	// A name is what something is stored under, so a text that cannot be one is refused here
	// instead of in the database.
	for _, text := range texts {
		if !valid(text) {
			return fmt.Errorf("%w: a name that nothing is stored under", ErrInvalid)
		}
	}
	return nil
}

// Name is equal for tasks that ask for the same and different for all others. Its
// letters are evenly distributed, as Cloud Tasks asks of names.
//
// Created is not in it: a report that is repeated is the same task. Epoch is in it from 1 on,
// so that tasks of runs that never waited keep the names they had before there was one. Each
// text is preceded by its length, so that no two lists are hashed alike.
func (t Task) Name() string {
	h := sha256.New()
	texts := []string{string(t.Kind), string(t.Owner), t.Run, strconv.Itoa(t.Attempt), t.ID}
	if t.Epoch > 0 {
		texts = append(texts, strconv.Itoa(t.Epoch))
	}
	for _, text := range texts {
		fmt.Fprintf(h, "%d:%s", len(text), text)
	}
	return hex.EncodeToString(h.Sum(nil))
}
