package session_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/gatehouse/session"
)

// FuzzStoredTurn checks the readers of a turn that anything may have been written to, as by hand:
// each returns an error or what decoding the whole turn returns, and a turn that was read is
// written so that it reads the same.
func FuzzStoredTurn(f *testing.F) {
	for _, seed := range []string{
		`{"id":"0123456789abcdef","prompt":{"bytes":3,"tokens":1},"span":{"bytes":75,"prompt":20},"contents":[{"role":"user","parts":[{"text":"q"}]},{"role":"model","parts":[{"text":"a"}]}],"usage":{},"parts":[{"kind":"delta","size":1}]}`,
		`{"id":"i","question_id":"q","files":[{"type":"image/png","bytes":1,"tokens":2}],"loop":{"contents":[]},"contents":[{"parts":[{"functionCall":{"args":{"n":12345678901234567890}}}]},{"parts":[{"functionResponse":{"response":{"x":1}}}]}],"tool_calls":[{"name":"t","ok":true}],"epoch":2}`,
		`{"id":"i","contents":[],"parts":[{"kind":"tool_call","id":"c"},{"kind":"tool_result","id":"c","shown":true},{"kind":"delta","size":-1}]}`,
		`{"id":"i","contents":[{"role":"user","parts":[{"text":"é"}]},{"role":"model","parts":[{"text":"né"}]}],"parts":[{"kind":"delta","size":2},{"kind":"delta","size":999}],"output":{"a":1}}`,
		`{"contents":[{"role":"model","parts":[null,{"thought":true,"text":"t"}]},null],"id":"i","epoch":1}`,
		`{"id":"i","contents":[{"parts":[{"text":"q"}]},{"role":"model","parts":[{"text":"a"}]}],"parts":[]}`,
		`{"id":"i","loop":{},"contents":[{"role":"user","parts":[ {"text":"<&>"} ]}]}`,
		`{"id":7}`, `{"id":"i","contents":null}`, `[]`, `null`, `{`, ``, `{"i\u0064":"i","contents":[]}`, `{"id":"i","span":{"bytes":2,"prompt":0},"contents":[],"span":{"bytes":9,"prompt":0}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r := session.Record{Number: 3, Data: data}
		_, _ = r.ID()
		_, _ = r.Past()
		_, _ = r.Contents()
		_, _ = r.Files()
		_, _ = r.Loop(), r.QuestionID()
		_, _ = r.Prompt()
		if exact, ok := r.Exact(); ok && !bytes.Contains(data, exact.Contents) {
			t.Errorf("contents %s are not of %s", exact.Contents, data)
		}
		turn, err := r.Turn()
		if err != nil {
			return
		}
		query, answer := turn.Texts()
		shown := turn.Shown()
		said := ""
		for _, p := range shown {
			if p.Kind == session.KindText && len(turn.Parts) > 0 {
				said += p.Text
			}
		}
		if !strings.HasPrefix(answer, said) {
			t.Errorf("%q was shown, the answer is %q", said, answer)
		}

		// The readers of one member take the first of a name, the decoder the last, and in any case.
		again, err := turn.Record(3)
		if err != nil {
			t.Fatalf("%s was read and cannot be written: %v", data, err)
		}
		twice, err := again.Turn()
		if err != nil {
			t.Fatalf("%s became %s: %v", data, again.Data, err)
		}
		if len(turn.Contents) == 0 {
			turn.Contents = json.RawMessage("null")
		}
		turn.Span, twice.Span = session.Span{}, session.Span{}
		if a, b := encode(t, turn), encode(t, twice); a != b {
			t.Errorf("%s became %s", a, b)
		}
		if q, a := twice.Texts(); q != query || a != answer {
			t.Errorf("%q and %q became %q and %q", query, answer, q, a)
		}
		if diff := cmp.Diff(shown, twice.Shown()); diff != "" {
			t.Errorf("what was shown (-first +second):\n%s", diff)
		}
		if got, err := again.ID(); err != nil || got != turn.ID {
			t.Errorf("the id is %q, and read as %q: %v", turn.ID, got, err)
		}
		if got, err := again.Past(); err != nil || got.ID != turn.ID || got.Epoch != turn.Epoch || got.Number != 3 {
			t.Errorf("%+v of the epoch %d: %v", got, turn.Epoch, err)
		}
		// Beside a loop the encoder writes "&" as "\u0026".
		if got, err := again.Contents(); err != nil || encode(t, json.RawMessage(got)) != encode(t, turn.Contents) {
			t.Errorf("contents %s, and read as %s: %v", turn.Contents, got, err)
		}
		if got, _ := again.Files(); len(got) != len(turn.Files) {
			t.Errorf("%d files, and read as %d", len(turn.Files), len(got))
		}
	})
}

func encode(t *testing.T, v any) string {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// FuzzContentsBySpan checks that contents are found by their span as decoding finds them, with
// any texts around them.
func FuzzContentsBySpan(f *testing.F) {
	f.Add("i", `[{"role":"user","parts":[{"text":"q"}]}]`, `"contents":[`, 0)
	f.Add(`","span":{"bytes":2,"prompt":1},"contents":[]`, `[]`, "x", 1)
	f.Add("i", `[[],{},"],"]`, "", -3)
	f.Fuzz(func(t *testing.T, id, contents, name string, by int) {
		if !json.Valid([]byte(contents)) || !strings.HasPrefix(contents, "[") || !strings.HasSuffix(contents, "]") {
			return
		}
		turn := session.Turn{ID: id, Contents: json.RawMessage(contents), Span: session.Span{Bytes: len(contents), Prompt: 5}, Model: name}
		if by%2 == 1 {
			turn.Files = []session.File{{Name: name, Type: "text/plain"}}
		}
		r, err := turn.Record(1)
		if err != nil {
			t.Fatal(err)
		}
		exact, ok := r.Exact()
		if !ok && len(contents) < 1e9 {
			t.Fatalf("%s has a span that is not found", r.Data)
		}
		if string(exact.Contents) != contents || exact.Prompt != 5 || exact.Files != (turn.Files != nil) {
			t.Fatalf("%s became %+v", contents, exact)
		}
		decoded, err := r.Turn()
		if err != nil || string(decoded.Contents) != contents {
			t.Fatalf("%s is decoded as %s: %v", contents, decoded.Contents, err)
		}
	})
}

// FuzzCursor checks that a page's cursor is refused as one, or names a place in the list: the
// pages hold every session once when they begin at the start, and never one twice.
func FuzzCursor(f *testing.F) {
	store := session.NewMemory(time.Hour, 1<<20, time.Now, slog.New(slog.DiscardHandler))
	owner := session.OwnerOf("ada", "")
	for range 5 {
		s := session.New(session.Key{Owner: owner, ID: session.NewID()})
		if _, err := session.Commit(f.Context(), store, s, session.Turn{ID: session.NewID(), Contents: json.RawMessage(`[]`)}, session.Conditions{}); err != nil {
			f.Fatal(err)
		}
	}
	_, next, err := store.List(f.Context(), owner, 2, "")
	if err != nil || next == "" {
		f.Fatalf("%q, %v", next, err)
	}
	for _, seed := range []string{next, "", "x", "MS5pZA", "LTEuMDEyMzQ1Njc4OWFiY2RlZg", strings.Repeat("A", 500), "OTIyMzM3MjAzNjg1NDc3NTgwNy4wMTIzNDU2Nzg5YWJjZGVm"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, cursor string) {
		seen := map[string]bool{}
		for pages := 0; ; pages++ {
			metas, next, err := store.List(t.Context(), owner, 2, cursor)
			if err != nil {
				if !errors.Is(err, session.ErrCursor) {
					t.Errorf("error %v", err)
				}
				return
			}
			for _, m := range metas {
				if seen[m.ID] {
					t.Fatalf("session %s is on two pages", m.ID)
				}
				seen[m.ID] = true
			}
			if next == "" {
				break
			}
			if pages == 5 {
				t.Fatal("the pages do not end")
			}
			cursor = next
		}
	})
}

// FuzzSplitRunID checks that a run's id has one reading.
func FuzzSplitRunID(f *testing.F) {
	for _, seed := range []string{"0123456789abcdef.0123456789abcdef", "", ".", "0123456789abcdef", "0123456789abcdef.0123456789abcdef.x", "0123456789abcdef.0123456789abcdé\n"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, id string) {
		sessionID, turnID, ok := session.SplitRunID(id)
		if !ok {
			return
		}
		if session.RunID(sessionID, turnID) != id || !session.ValidID(sessionID) || !session.ValidID(turnID) {
			t.Errorf("%q is of the session %q and the turn %q", id, sessionID, turnID)
		}
		if strings.ContainsAny(id, "/ \n\x00") || len(id) > 129 {
			t.Errorf("%q is a run's id", id)
		}
	})
}
