package firestore_test

import (
	"encoding/json"
	"testing"
	"time"

	cloudfirestore "cloud.google.com/go/firestore"

	"example.com/gatehouse/internal/gcp/emulator"
	"example.com/gatehouse/internal/gcp/firestore"
	"example.com/gatehouse/session"
	"example.com/gatehouse/session/sessiontest"
)

// What a revision without runs reads of a session's document, of its keys and of its
// turns. These types are not changed when the format is.
type (
	olderSession struct {
		Owner   string              `firestore:"owner"`
		ID      string              `firestore:"session_id"`
		Turns   int                 `firestore:"turns"`
		Tokens  int64               `firestore:"total_tokens"`
		Title   string              `firestore:"title"`
		Log     map[string][]byte   `firestore:"log"`
		Keys    map[string]olderKey `firestore:"keys,omitempty"`
		Deleted bool                `firestore:"deleted,omitempty"`
	}
	olderKey struct {
		Body  string    `firestore:"b"`
		Lease string    `firestore:"l"`
		Until time.Time `firestore:"u"`
		Turn  int       `firestore:"t"`
		ID    string    `firestore:"i,omitempty"`
		At    time.Time `firestore:"a"`
	}
	olderTurn struct {
		ID       string `json:"id"`
		Contents []struct {
			Role  string
			Parts []struct{ Text string }
		} `json:"contents"`
		ToolCalls    []session.ToolCall `json:"tool_calls,omitempty"`
		Usage        session.Usage      `json:"usage"`
		FinishReason string             `json:"finish_reason"`
		Warnings     []string           `json:"warnings,omitempty"`
	}
)

// While a delivery moves traffic, a revision that knows no runs serves sessions that have
// some: it reads their turns, waits for the keys that runs hold, and its own turns are
// read here.
func TestARevisionWithoutRunsReadsSessionsWithThem(t *testing.T) {
	client := emulator.Client(t)
	now := time.Now().Truncate(time.Millisecond)
	store := firestore.NewSessions(client, sessiontest.TTL, func() time.Time { return now })
	key := session.Key{Owner: session.OwnerOf("caller", ""), ID: session.NewID()}
	idem := session.Idempotency{Key: "key", Body: "body", Lease: time.Minute, Create: true}
	opened, err := session.Open(t.Context(), store, key.Owner, key.ID, idem, nil, func() time.Time { return now })
	if err != nil {
		t.Fatal(err)
	}
	turn := sessiontest.Turn("first")
	turn.FinishReason, turn.Effects, turn.Epoch = "WAITING", true, 2
	turn.Parts = []session.Part{{Kind: session.KindText, Text: "Shall I?"}}
	turn.Resets = []session.Reset{{Step: 1}}
	turn.Pending = []session.Pending{{CallID: "c", Name: "pay", Args: map[string]any{}, Question: "Pay?", ExpiresAt: now.Add(time.Hour)}}
	record := &session.Run{Key: key, ID: session.NewID(), State: session.Working, Holder: "holder", KeyHash: opened.Claim.Hash(), Request: json.RawMessage("{}")}
	s, _, err := session.Begin(t.Context(), store, opened.Session, opened.Claim, record)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := session.Commit(t.Context(), store, s, turn, session.Conditions{}); err != nil {
		t.Fatal(err)
	}

	ref := client.Collection(firestore.SessionsCollection).Doc(key.Hash())
	snapshot, err := ref.Get(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var old olderSession
	if err := snapshot.DataTo(&old); err != nil {
		t.Fatal(err)
	}
	if old.ID != key.ID || old.Turns != 1 || len(old.Log) != 1 || old.Deleted {
		t.Errorf("%+v", old)
	}
	var oldTurn olderTurn
	if err := json.Unmarshal(old.Log["t000000001"], &oldTurn); err != nil {
		t.Fatal(err)
	}
	if oldTurn.ID != turn.ID || len(oldTurn.Contents) != 2 || oldTurn.Contents[0].Parts[0].Text != "first" || oldTurn.Usage.TotalTokens != turn.Usage.TotalTokens {
		t.Errorf("%+v", oldTurn)
	}
	// The run holds its key for as long as it may go on.
	if held := old.Keys[opened.Claim.Hash()]; held.Lease == "" || held.Turn != 0 || held.Until.Before(now.Add(session.RunLife-time.Minute)) {
		t.Errorf("the key %+v", held)
	}

	// A turn of the older revision: what it does not know stays in the document.
	raw, err := json.Marshal(map[string]any{"id": "older", "contents": json.RawMessage(turn.Contents), "usage": turn.Usage, "model": "m", "finish_reason": "STOP", "request_id": "r", "created_at": now})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ref.Update(t.Context(), []cloudfirestore.Update{{Path: "turns", Value: 2}, {FieldPath: cloudfirestore.FieldPath{"log", "t000000002"}, Value: raw}}); err != nil {
		t.Fatal(err)
	}
	after, err := store.Load(t.Context(), key)
	if err != nil || after.Turns != 2 || len(after.Recent) != 2 {
		t.Fatal(after, err)
	}
	for i, want := range []string{turn.ID, "older"} {
		if got, err := after.Recent[i].Turn(); err != nil || got.ID != want || len(got.Shown()) == 0 {
			t.Errorf("turn %d: %+v, %v", i+1, got, err)
		}
	}
	if e := after.Keys[opened.Claim.Hash()]; e.Run != record.ID {
		t.Errorf("the key %+v", e)
	}
}
