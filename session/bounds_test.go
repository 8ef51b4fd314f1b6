package session_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"example.com/gatehouse/session"
)

func TestValidID(t *testing.T) {
	t.Parallel()
	for id, want := range map[string]bool{
		strings.Repeat("a", 15): false, strings.Repeat("a", 16): true, strings.Repeat("Z", 64): true, strings.Repeat("0", 65): false,
		"0123456789abc-_Z": true, "0123456789abc.def": false, "0123456789abcdef\n": false, "0123456789abcdé": false, "": false,
		"has a space in it": false, "../../../../etc/passwd": false,
	} {
		if got := session.ValidID(id); got != want {
			t.Errorf("%q is an id: %t", id, got)
		}
	}
	for range 100 {
		if id := session.NewID(); !session.ValidID(id) {
			t.Errorf("NewID made %q, which is not valid", id)
		}
	}
}

// Records of runs share a part of the memory: the oldest go first, and one that is written
// again counts once.
func TestMemoryBoundsRuns(t *testing.T) {
	t.Parallel()
	m := session.NewMemory(time.Hour, 4<<20, time.Now, slog.New(slog.DiscardHandler)) // a quarter is the runs'
	owner := session.OwnerOf("ada", "")
	request := json.RawMessage(`"` + strings.Repeat("x", 100<<10) + `"`)
	result := json.RawMessage(`"` + strings.Repeat("x", 90<<10) + `"`)
	save := func(r *session.Run) *session.Run {
		t.Helper()
		saved, err := m.SaveRun(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		return saved
	}
	newRun := func() *session.Run {
		return &session.Run{Key: session.Key{Owner: owner, ID: session.NewID()}, ID: session.NewID(), State: session.Working, Request: request}
	}
	kept := func() int {
		t.Helper()
		all, _, err := m.ListRuns(t.Context(), owner, session.RunFilter{}, 100, "")
		if err != nil {
			t.Fatal(err)
		}
		return len(all)
	}
	first := save(newRun())
	for range 30 { // one run, written again and again
		first = save(first)
	}
	for range 5 {
		save(newRun())
	}
	if got := kept(); got != 6 {
		t.Errorf("%d of 6 runs are kept, of which one was written often", got)
	}
	for range 30 {
		save(newRun())
	}
	if got := kept(); got != 10 {
		t.Errorf("%d runs of 100 KiB are kept in a MiB", got)
	}
	if _, err := m.LoadRun(t.Context(), first.Key, first.ID); !errors.Is(err, session.ErrNotFound) {
		t.Errorf("the oldest: %v", err)
	}
	if _, err := m.SaveRun(t.Context(), first); !errors.Is(err, session.ErrNoRun) {
		t.Errorf("the oldest is written again: %v", err)
	}

	// One that is larger than the part is there until the next.
	for range 2 {
		r := newRun()
		r.Request = json.RawMessage(`"` + strings.Repeat("x", 2<<20) + `"`)
		save(r)
	}
	if got := kept(); got != 1 {
		t.Errorf("%d runs of 2 MiB are kept in a MiB", got)
	}

	// What effects have returned counts as well.
	for range 30 {
		r := newRun()
		r.Request, r.Effects = nil, map[string]session.Effect{"e": {Name: "t", Step: 1, Done: true, Result: result}}
		save(r)
	}
	if got := kept(); got > 11 {
		t.Errorf("%d runs whose effects have results of 90 KiB are kept in a MiB", got)
	}
}

// States of users share another part: the least recently used go first, and one that is
// written again counts once.
func TestMemoryBoundsUsers(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	m := session.NewMemory(time.Hour, 4<<20, time.Now, slog.New(slog.NewTextHandler(&log, nil))) // a quarter is the users'
	value := json.RawMessage(`"` + strings.Repeat("x", 64<<10-2) + `"`)
	const kept = 1 << 20 / (64<<10 + 512 + len("n"))
	owner := func(i int) session.Owner { return session.OwnerOf("caller", fmt.Sprint(i)) }
	set := func(i int) {
		t.Helper()
		err := session.UpdateUser(t.Context(), m, owner(i), "n", time.Now(), func(json.RawMessage) (json.RawMessage, error) { return value, nil })
		if err != nil {
			t.Fatal(err)
		}
	}
	for range 30 {
		set(0)
	}
	for i := range kept {
		set(i)
	}
	there := func() (n int) {
		for i := range 2 * kept {
			u, err := m.LoadUser(t.Context(), owner(i))
			if err != nil {
				t.Fatal(err)
			}
			n += len(u.Values)
		}
		return n
	}
	if n := there(); n != kept || strings.Contains(log.String(), "evicted") {
		t.Errorf("%d of %d states that fit are there: %s", n, kept, &log)
	}
	for i := range kept {
		set(kept + i)
	}
	if u, err := m.LoadUser(t.Context(), owner(0)); err != nil || len(u.Values) != 0 {
		t.Errorf("the oldest: %+v, %v", u.Values, err)
	}
	if n := there(); n != kept || strings.Count(log.String(), "evicted") != 1 {
		t.Errorf("%d states are kept of %d that fit: %s", n, kept, &log)
	}

	// One that is larger than the part is there until the next.
	m = session.NewMemory(time.Hour, 64<<10, time.Now, slog.New(slog.DiscardHandler))
	for i := range 2 {
		if set(i); there() != 1 {
			t.Errorf("%d of %d states are there that are larger than their part", there(), i+1)
		}
	}
}

func TestARunAsItIsWritten(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)
	late := now.Add(3 * session.RunLife)
	waiting := []session.Pending{{CallID: "a", ExpiresAt: now.Add(time.Hour)}, {CallID: "b", ExpiresAt: late}, {CallID: "c", ExpiresAt: now}}
	begun := now.Add(-time.Hour)
	for name, tt := range map[string]struct {
		run              session.Run
		created, expires time.Time
	}{
		"a new one":                       {session.Run{State: session.Working}, now, now.Add(session.RunLife)},
		"a stop of one that nobody knows": {session.Run{State: session.Stopped, Stop: true}, now, now.Add(time.Hour)},
		"one that is stopped":             {session.Run{State: session.Stopped, Revision: 1, CreatedAt: begun}, begun, now.Add(session.RunLife)},
		"one that is stored":              {session.Run{State: session.Working, Revision: 1, CreatedAt: begun, Silent: time.Hour}, begun, now.Add(session.RunLife)},
		"one that waits":                  {session.Run{State: session.Waiting, Pending: waiting}, now, late},
		"one that has waited":             {session.Run{State: session.Working, Pending: waiting}, now, now.Add(session.RunLife)},
		"one that waits not so long":      {session.Run{State: session.Waiting, Pending: waiting[:1]}, now, now.Add(session.RunLife)},
		"one that has shown two images":   {session.Run{Parts: []session.Part{{Kind: session.KindText, Text: "a"}, {Kind: session.KindFile, Data: []byte("b")}, {Kind: session.KindFile, Data: []byte("c")}}}, now, now.Add(session.RunLife)},
	} {
		parts := slices.Clone(tt.run.Parts)
		w := tt.run.Written(now)
		if !w.CreatedAt.Equal(tt.created) || !w.UpdatedAt.Equal(now) || !w.ExpiresAt.Equal(tt.expires) || w.Silent != 0 {
			t.Errorf("%s: created %v, updated %v, expires %v, silent %v", name, w.CreatedAt, w.UpdatedAt, w.ExpiresAt, w.Silent)
		}
		for i, p := range w.Parts {
			if p.Data != nil || p.Kind != parts[i].Kind || p.Text != parts[i].Text {
				t.Errorf("%s: the part %+v", name, p)
			}
			if string(tt.run.Parts[i].Data) != string(parts[i].Data) {
				t.Errorf("%s: the run itself was changed", name)
			}
		}
	}
}

// Contents are not found by a span once somebody has changed the record: it is decoded then.
func TestASpanThatIsWrong(t *testing.T) {
	t.Parallel()
	const contents = `[{"role":"user","parts":[{"text":"a question"}]}]`
	turn := session.Turn{ID: "i", Contents: json.RawMessage(contents), Span: session.Span{Bytes: len(contents), Prompt: 9}}
	r, err := turn.Record(1)
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string][2]string{
		"a longer text":         {"a question", "a longer question"},
		"a shorter text":        {"a question", "q"},
		"one letter more":       {"a question", "a questions"},
		"one letter less":       {"a question", "question"},
		"a space behind":        {contents, contents + " "},
		"a space before":        {contents, " " + contents},
		"a brace":               {contents, "{" + contents[1:]},
		"a brace at its end":    {contents, contents[:len(contents)-1] + "}"},
		"an object":             {contents, `{"role":"user","parts":[{"text":"a question"},0]}`},
		"no prompt":             {`,"prompt":9}`, `}`},
		"a member in the span":  {`,"prompt":9}`, `,"prompt":9,"more":1}`},
		"a loop before":         {`,"span":`, `,"loop":{},"span":`},
		"nothing":               {contents, ``},
		"a span below zero":     {`"bytes":`, `"bytes":-`},
		"a span without digits": {`"bytes":49`, `"bytes":`},
		"no digits of a prompt": {`"prompt":9`, `"prompt":`},
	} {
		data := strings.Replace(string(r.Data), change[0], change[1], 1)
		if data == string(r.Data) {
			t.Fatalf("%s: nothing is changed in %s", name, data)
		}
		if exact, ok := (session.Record{Data: []byte(data)}).Exact(); ok {
			t.Errorf("%s: %s is found", name, exact.Contents)
		}
	}
	for name, change := range map[string][2]string{
		"another member behind": {contents, contents + `,"more":[1]`},
		"as it was":             {"", ""},
	} {
		data := strings.Replace(string(r.Data), change[0], change[1], 1)
		if exact, ok := (session.Record{Data: []byte(data)}).Exact(); !ok || string(exact.Contents) != contents || exact.Prompt != 9 {
			t.Errorf("%s: %+v, %t", name, exact, ok)
		}
	}
}

// The newest of the turns that match is the one that is meant.
func TestNumberOf(t *testing.T) {
	t.Parallel()
	s := &session.Session{Meta: session.Meta{Turns: 7}, Recent: []session.Record{{Number: 5, Data: []byte("a")}, {Number: 6, Data: []byte("b")}, {Number: 7, Data: []byte("a")}}}
	for text, want := range map[string]int{"a": 7, "b": 6, "c": 0} {
		if got := s.NumberOf(func(r session.Record) bool { return string(r.Data) == text }); got != want {
			t.Errorf("%q is of turn %d, want %d", text, got, want)
		}
	}
}
