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

// converted returns m with its values converted between the session's types and those of the
// documents, which have Firestore's tags. An empty map becomes nil: an absent field is not
// written.
func converted[A, B any](m map[string]A, convert func(A) B) map[string]B {
	if len(m) == 0 {
		return nil
	}
	all := make(map[string]B, len(m))
	for name, value := range m {
		all[name] = convert(value)
	}
	return all
}

func storedKeys(keys map[string]session.KeyEntry) map[string]storedKey {
	return converted(keys, func(e session.KeyEntry) storedKey { return storedKey(e) })
}

func loadedKeys(stored map[string]storedKey) map[string]session.KeyEntry {
	return converted(stored, func(e storedKey) session.KeyEntry { return session.KeyEntry(e) })
}

func storedState(state map[string]json.RawMessage) map[string][]byte {
	return converted(state, func(value json.RawMessage) []byte { return value })
}

func loadedState(stored map[string][]byte) map[string]json.RawMessage {
	return converted(stored, func(value []byte) json.RawMessage { return value })
}

func storedPasts(past []session.PastTurn) (stored []storedPast) {
	for _, turn := range past {
		stored = append(stored, storedPast(turn))
	}
	return stored
}

func loadedPast(stored []storedPast) (past []session.PastTurn) {
	for _, turn := range stored {
		past = append(past, session.PastTurn(turn))
	}
	return past
}
