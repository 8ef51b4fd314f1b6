package firestore_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"testing"
	"time"

	cloudfirestore "cloud.google.com/go/firestore"
	"github.com/google/go-cmp/cmp"

	"example.com/gatehouse/internal/gcp/emulator"
	"example.com/gatehouse/internal/gcp/firestore"
	"example.com/gatehouse/session"
	"example.com/gatehouse/session/sessiontest"
)

// While a delivery moves traffic, the old and the new revision serve the same
// sessions: what either writes, the other must read, and must not lose when it
// appends. These tests hold today's code against documents as they were stored,
// kept in testdata. They are never changed when the format changes; a new file
// is added beside them, by -record.

var record = flag.Bool("record", false, "write testdata/session.json from what this code stores")

// The files of testdata, by when their session expires, and the latest, which
// -record writes.
var formats = map[string]time.Time{
	"testdata/session.json": formatBegin.Add(2*time.Minute + sessiontest.TTL),
	latestFormat:            formatBegin.Add(2*time.Minute + session.KeyLife), // since it lives as long as its key
}

const latestFormat = "testdata/session-2.json"

// The session in testdata.
var (
	formatKey   = session.Key{Owner: session.OwnerOf("caller-of-the-format-test", "ada"), ID: "session-of-the-format-test"}
	formatBegin = time.Date(2026, 11, 24, 8, 0, 0, 0, time.UTC)
)

// A value is one of Firestore's, in a form that JSON keeps.
type value struct {
	Bytes  []byte           `json:"bytes,omitempty"`
	Time   *time.Time       `json:"time,omitempty"`
	Int    *int64           `json:"int,omitempty"`
	Float  *float64         `json:"float,omitempty"`
	String *string          `json:"string,omitempty"`
	Bool   *bool            `json:"bool,omitempty"`
	List   []value          `json:"list,omitempty"`
	Map    map[string]value `json:"map,omitempty"`
}

func freeze(t *testing.T, v any) value {
	t.Helper()
	switch v := v.(type) {
	case []byte:
		return value{Bytes: v}
	case time.Time:
		v = v.UTC()
		return value{Time: &v}
	case int64:
		return value{Int: &v}
	case float64:
		return value{Float: &v}
	case string:
		return value{String: &v}
	case bool:
		return value{Bool: &v}
	case []any:
		list := value{List: []value{}}
		for _, element := range v {
			list.List = append(list.List, freeze(t, element))
		}
		return list
	case map[string]any:
		m := value{Map: map[string]value{}}
		for name, element := range v {
			m.Map[name] = freeze(t, element)
		}
		return m
	}
	t.Fatalf("a %T in a session's document", v)
	return value{}
}

func (v value) thaw() any {
	switch {
	case v.Bytes != nil:
		return v.Bytes
	case v.Time != nil:
		return *v.Time
	case v.Int != nil:
		return *v.Int
	case v.Float != nil:
		return *v.Float
	case v.String != nil:
		return *v.String
	case v.Bool != nil:
		return *v.Bool
	case v.List != nil:
		list := []any{}
		for _, element := range v.List {
			list = append(list, element.thaw())
		}
		return list
	}
	m := map[string]any{}
	for name, element := range v.Map {
		m[name] = element.thaw()
	}
	return m
}

// stored puts the session of testdata into a store, with more in its document,
// and returns the store at a moment shortly after.
func stored(t *testing.T, file string, more map[string]any) (*firestore.Sessions, *cloudfirestore.DocumentRef) {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var frozen value
	if err := json.Unmarshal(raw, &frozen); err != nil {
		t.Fatal(err)
	}
	document := frozen.thaw().(map[string]any)
	for name, element := range more {
		document[name] = element
	}
	client := emulator.Client(t)
	ref := client.Collection(firestore.SessionsCollection).Doc(formatKey.Hash())
	if _, err := ref.Set(t.Context(), document); err != nil {
		t.Fatal(err)
	}
	return firestore.NewSessions(client, sessiontest.TTL, func() time.Time { return formatBegin.Add(10 * time.Minute) }), ref
}

// shape is v without its values: the names of fields, and the kinds of what they hold.
func (v value) shape() any {
	switch {
	case v.Map != nil:
		m := map[string]any{}
		for name, element := range v.Map {
			m[name] = element.shape()
		}
		return m
	case v.List != nil:
		list := []any{}
		for _, element := range v.List {
			list = append(list, element.shape())
		}
		return list
	}
	return fmt.Sprintf("bytes %t, time %t, int %t, float %t, string %t, bool %t",
		v.Bytes != nil, v.Time != nil, v.Int != nil, v.Float != nil, v.String != nil, v.Bool != nil)
}

// TestStoredFormat compares what this code stores with the latest document of
// testdata, which -record writes: its fields have the same names and kinds.
func TestStoredFormat(t *testing.T) {
	client := emulator.Client(t)
	now := formatBegin
	store := firestore.NewSessions(client, sessiontest.TTL, func() time.Time { return now })
	for _, text := range []string{"What is this?", "And that?"} {
		s, err := store.Load(t.Context(), formatKey)
		if err != nil {
			s = session.New(formatKey)
		}
		turn := sessiontest.Turn(text)
		turn.ID, turn.CreatedAt, turn.Prompt = "turn-"+text, now, session.Prompt{Bytes: 400, Tokens: 100}
		if _, err := session.Commit(t.Context(), store, s, turn, session.Conditions{}); err != nil {
			t.Fatal(err)
		}
		if s, err = store.Load(t.Context(), formatKey); err != nil {
			t.Fatal(err)
		}
		replaced := turn.ID
		turn.ID = "again-" + text
		if _, err := session.Commit(t.Context(), store, s, turn, session.Conditions{Replace: replaced}); err != nil {
			t.Fatal(err)
		}
		now = now.Add(time.Minute)
	}
	opened, err := session.Open(t.Context(), store, formatKey.Owner, formatKey.ID, session.Idempotency{Key: "key", Body: "body", Lease: time.Minute}, nil, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	if _, err := session.Commit(t.Context(), store, opened.Session, sessiontest.Turn("With a key"), session.Conditions{Claim: opened.Claim}); err != nil {
		t.Fatal(err)
	}
	if err := store.SetFeedback(t.Context(), formatKey, 2, session.Feedback{Score: 1, Comment: "good", At: now}); err != nil {
		t.Fatal(err)
	}
	snapshot, err := client.Collection(firestore.SessionsCollection).Doc(formatKey.Hash()).Get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	stored := freeze(t, snapshot.Data())
	if !*record {
		raw, err := os.ReadFile(latestFormat)
		if err != nil {
			t.Fatal(err)
		}
		var want value
		if err := json.Unmarshal(raw, &want); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want.shape(), stored.shape()); diff != "" {
			t.Errorf("the document's form (-want +got):\n%s", diff)
		}
		return
	}
	raw, err := json.MarshalIndent(stored, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(latestFormat, append(raw, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestStoredSessionsAreRead(t *testing.T) {
	for file, expires := range formats {
		t.Run(file, func(t *testing.T) { storedIsRead(t, file, expires) })
	}
}

func storedIsRead(t *testing.T, file string, expires time.Time) {
	store, _ := stored(t, file, nil)
	s, err := store.Load(t.Context(), formatKey)
	if err != nil {
		t.Fatal(err)
	}
	want := session.Meta{
		ID: formatKey.ID, CreatedAt: formatBegin, UpdatedAt: formatBegin.Add(2 * time.Minute),
		ExpiresAt: expires, Turns: 3, TotalTokens: 3 * 7, Title: "What is this?",
	}
	if diff := cmp.Diff(want, s.Meta); diff != "" {
		t.Errorf("meta (-want +got):\n%s", diff)
	}
	for i, question := range []string{"What is this?", "And that?", "With a key"} {
		turn, err := s.Recent[i].Turn()
		if err != nil {
			t.Fatal(err)
		}
		if query, _ := turn.Texts(); query != question || turn.Number != i+1 {
			t.Errorf("turn %d asks %q, want %q", turn.Number, query, question)
		}
	}
	// A retry of what the other revision answered is a replay here.
	opened, err := session.Open(t.Context(), store, formatKey.Owner, formatKey.ID, session.Idempotency{Key: "key", Body: "body", Lease: time.Minute}, nil,
		func() time.Time { return formatBegin.Add(10 * time.Minute) })
	if err != nil || opened.Replay == nil || opened.Replay.Number != 3 {
		t.Errorf("opened %+v, %v, want a replay of turn 3", opened, err)
	}
	// A turn whose answer was lost, and which was replaced since, is not stored again.
	if file == latestFormat {
		late := sessiontest.Turn("And that?")
		late.ID = "turn-And that?"
		base := *s
		base.Revision, base.Turns, base.Recent = nil, 0, nil
		meta, err := session.Commit(t.Context(), store, &base, late, session.Conditions{})
		if err != nil || meta.Turns != 2 {
			t.Errorf("a replaced turn was stored as number %d, %v", meta.Turns, err)
		}
	}
}

// TestWhatANewerRevisionStoredOutlivesAnAppend: an append updates the fields it
// knows, one by one, and a turn that is there is never written again.
func TestWhatANewerRevisionStoredOutlivesAnAppend(t *testing.T) {
	newer := map[string]any{"summary": "of a newer revision", "labels": map[string]any{"a": "b"}}
	store, ref := stored(t, latestFormat, newer)
	before, err := ref.Get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	// A turn with a member that this code does not know, as well.
	log := before.Data()["log"].(map[string]any)
	last := log["t000000003"].([]byte)
	var members map[string]any
	if err := json.Unmarshal(last, &members); err != nil {
		t.Fatal(err)
	}
	members["reasoning"] = "of a newer revision"
	changed, err := json.Marshal(members)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ref.Update(t.Context(), []cloudfirestore.Update{{FieldPath: cloudfirestore.FieldPath{"log", "t000000003"}, Value: changed}}); err != nil {
		t.Fatal(err)
	}

	s, err := store.Load(t.Context(), formatKey)
	if err != nil {
		t.Fatal(err)
	}
	meta, err := session.Commit(t.Context(), store, s, sessiontest.Turn("one more"), session.Conditions{})
	if err != nil || meta.Turns != 4 {
		t.Fatalf("turn %d, %v", meta.Turns, err)
	}
	after, err := ref.Get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range newer {
		if diff := cmp.Diff(want, after.Data()[name]); diff != "" {
			t.Errorf("the field %s (-want +got):\n%s", name, diff)
		}
	}
	if got := after.Data()["log"].(map[string]any)["t000000003"]; !cmp.Equal(got, any(changed)) {
		t.Errorf("the newer revision's turn is %s", got)
	}
}
