package firestore

import (
	"encoding/json"
	"time"

	"example.com/gatehouse/session"
)

// The types of package session as documents hold them. The fields are those of the
// session's types, in order, so that a conversion maps them: a field that is added
// there does not compile here until it has a name in documents. Names within maps are
// short, since a document holds up to 2 000 keys.

// While a delivery moves traffic, two revisions read and write the same documents. So a field
// keeps its name and its kind for good: the tests of the stored format hold this code to
// documents as earlier revisions wrote them.

// storedKey is a session.KeyEntry in a document.
type storedKey struct {
	Body  string    `firestore:"b"`
	Lease string    `firestore:"l"`
	Until time.Time `firestore:"u"`
	Turn  int       `firestore:"t"`
	ID    string    `firestore:"i,omitempty"`
	At    time.Time `firestore:"a"`
	Run   string    `firestore:"r,omitempty"`
}

// storedPast is a session.PastTurn in a document.
type storedPast struct {
	ID     string `firestore:"i"`
	Number int    `firestore:"n"`
	Epoch  int    `firestore:"e,omitempty"`
}

// storedFeedback is a session.Feedback in a document.
type storedFeedback struct {
	Score   int       `firestore:"score"`
	Comment string    `firestore:"comment,omitempty"`
	At      time.Time `firestore:"at"`
}

// The functions below convert between the session's types and those of the documents, which
// have Firestore's tags. nil stays nil: an absent field is not written.

func storedKeys(keys map[string]session.KeyEntry) map[string]storedKey {
	if keys == nil {
		return nil
	}
	stored := make(map[string]storedKey, len(keys))
	for hash, entry := range keys {
		stored[hash] = storedKey(entry)
	}
	return stored
}

func loadedKeys(stored map[string]storedKey) map[string]session.KeyEntry {
	if stored == nil {
		return nil
	}
	keys := make(map[string]session.KeyEntry, len(stored))
	for hash, entry := range stored {
		keys[hash] = session.KeyEntry(entry)
	}
	return keys
}

func storedPasts(past []session.PastTurn) []storedPast {
	if past == nil {
		return nil
	}
	stored := make([]storedPast, len(past))
	for i, turn := range past {
		stored[i] = storedPast(turn)
	}
	return stored
}

func loadedPast(stored []storedPast) []session.PastTurn {
	if stored == nil {
		return nil
	}
	past := make([]session.PastTurn, len(stored))
	for i, turn := range stored {
		past[i] = session.PastTurn(turn)
	}
	return past
}

// storedState returns nil for an empty state as well: no values and no field are the same.
func storedState(state map[string]json.RawMessage) map[string][]byte {
	if len(state) == 0 {
		return nil
	}
	stored := make(map[string][]byte, len(state))
	for name, value := range state {
		stored[name] = value
	}
	return stored
}

func loadedState(stored map[string][]byte) map[string]json.RawMessage {
	if len(stored) == 0 {
		return nil
	}
	state := make(map[string]json.RawMessage, len(stored))
	for name, value := range stored {
		state[name] = value
	}
	return state
}
