package session

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// A record is renewed only for its holder: another epoch, or another holder who began it or
// left it, has fenced this one off, and a record that has come to another end is over.
func TestTheRecordUnderWhichATurnIsAppended(t *testing.T) {
	t.Parallel()
	unavailable := fmt.Errorf("lost: %w", ErrUnavailable)
	for name, tt := range map[string]struct {
		change   func(own, stored *Run)
		err      error // of the read
		want     error
		revision any
		state    RunState
	}{
		"as it was":                         {want: nil, revision: 2, state: Done},
		"it cannot be read now":             {err: unavailable, revision: 1, state: Done},
		"it was never stored":               {change: func(own, _ *Run) { own.Revision = nil }, err: ErrNoRun, state: Done},
		"it is gone":                        {err: ErrNoRun, want: ErrNoRun, revision: 1, state: Done},
		"it was never stored, but deleted":  {change: func(own, _ *Run) { own.Revision = nil }, err: ErrRunDeleted, want: ErrRunDeleted, state: Done},
		"another epoch":                     {change: func(_, stored *Run) { stored.Epoch++ }, want: ErrFenced, revision: 1, state: Done},
		"another holder":                    {change: func(_, stored *Run) { stored.Holder = "b" }, want: ErrFenced, revision: 1, state: Done},
		"the queue, of which it was taken":  {change: func(_, stored *Run) { stored.Holder = Queued }, revision: 2, state: Done},
		"nobody, left by another":           {change: func(_, stored *Run) { stored.Holder = "" }, want: ErrFenced, revision: 1, state: Done},
		"another, before it was asked":      {change: func(_, stored *Run) { stored.Holder, stored.Request = "b", nil }, want: ErrFenced, revision: 1, state: Done},
		"nobody, before it was asked":       {change: func(_, stored *Run) { stored.Holder, stored.Request = "", nil }, revision: 2, state: Done},
		"nobody, of a run that waits":       {change: func(own, stored *Run) { stored.Holder, stored.State, own.State = "", Waiting, Waiting }, want: ErrFenced, revision: 1, state: Waiting},
		"a run without a holder":            {change: func(own, stored *Run) { own.Holder, stored.Holder = "", "b" }, want: ErrFenced, revision: 1, state: Done},
		"another end":                       {change: func(_, stored *Run) { stored.State = Failed }, want: errOver, revision: 1, state: Done},
		"the same end":                      {change: func(_, stored *Run) { stored.State = Done }, revision: 2, state: Done},
		"another end, before it was asked":  {change: func(_, stored *Run) { stored.State, stored.Request = Failed, nil }, revision: 2, state: Done},
		"a stop of a run that ends":         {change: func(_, stored *Run) { stored.Stop = true }, revision: 2, state: Done},
		"a stop of a run that was to wait":  {change: func(own, stored *Run) { own.State, stored.Stop = Waiting, true }, revision: 2, state: Stopped},
		"no stop of a run that was to wait": {change: func(own, _ *Run) { own.State = Waiting }, revision: 2, state: Waiting},
	} {
		own := &Run{State: Done, Holder: "a", Epoch: 3, Revision: 1, Request: []byte("{}"), Pending: []Pending{{CallID: "c"}}}
		stored := &Run{State: Working, Holder: "a", Epoch: 3, Revision: 2, Request: []byte("{}"), Deliveries: []byte("[1]")}
		if tt.change != nil {
			tt.change(own, stored)
		}
		got, err := own.renew(t.Context(), stand{run: stored, err: tt.err})
		if !errors.Is(err, tt.want) || tt.want == nil && err != nil {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
		if got != own || own.Revision != tt.revision || own.State != tt.state || (len(own.Pending) == 0) != (tt.state == Stopped) {
			t.Errorf("%s: %+v", name, own)
		}
		if delivers := string(own.Deliveries) == "[1]"; delivers != (tt.revision == 2) {
			t.Errorf("%s: what is to be delivered is %s", name, own.Deliveries)
		}
	}
}

// stand is a store of which each read has one answer, and which keeps the last change.
type stand struct {
	Store
	run     *Run
	page    *Session
	records []Record
	err     error
	change  *Change
}

func (s stand) LoadRun(context.Context, Key, string) (*Run, error) { return s.run, s.err }

func (s stand) Load(context.Context, Key) (*Session, error) { return s.page, s.err }

func (s stand) Turns(_ context.Context, _ Key, after, limit int) (Meta, []Record, error) {
	return Meta{}, slices.DeleteFunc(slices.Clone(s.records), func(r Record) bool { return r.Number <= after || r.Number > after+limit }), s.err
}

func (s stand) Apply(_ context.Context, of *Session, c Change) (*Session, error) {
	*s.change = c
	return of, s.err
}

// A run holds its key by the entry that names it, until its turn is stored; one that waits has
// a turn already.
func TestTheClaimOfARun(t *testing.T) {
	t.Parallel()
	const run = "run"
	for name, tt := range map[string]struct {
		hash  string
		entry *KeyEntry
		claim bool
		want  error
	}{
		"no key":                         {"", &KeyEntry{Run: run}, false, nil},
		"its key":                        {"k", &KeyEntry{Run: run}, true, nil},
		"a key that is not there":        {"k", nil, false, ErrTakenOver},
		"a key of another run":           {"k", &KeyEntry{Run: "other"}, false, ErrTakenOver},
		"a key of its turn, which waits": {"k", &KeyEntry{Turn: 1, ID: run}, false, nil},
		"a key of another turn":          {"k", &KeyEntry{Turn: 1, ID: "other", Run: run}, false, ErrTakenOver},
	} {
		s := &Session{Keys: map[string]KeyEntry{}}
		if tt.entry != nil {
			s.Keys["k"] = *tt.entry
		}
		claim, err := ClaimOf(s, &Run{ID: run, KeyHash: tt.hash})
		if !errors.Is(err, tt.want) || tt.want == nil && err != nil || (claim != nil) != tt.claim {
			t.Errorf("%s: %+v, %v", name, claim, err)
		}
		if claim != nil && (claim.Hash() != "k" || !claim.holds(s)) {
			t.Errorf("%s: it does not hold the key by %+v", name, claim)
		}
	}
}

// The turn of a key is the one that was stored with it, recent or archived, and no other of
// the same number.
func TestTheTurnOfAKey(t *testing.T) {
	t.Parallel()
	of := func(number int, data string) []Record { return []Record{{Number: number, Data: []byte(data)}} }
	away := errors.New("away")
	for name, tt := range map[string]struct {
		id               string
		recent, archived []Record
		err              error // of the archive
		want             error
	}{
		"recent":                            {"a", of(3, `{"id":"a"}`), nil, away, nil},
		"archived":                          {"a", of(5, `{"id":"b"}`), slices.Concat(of(2, `{"id":"b"}`), of(3, `{"id":"a"}`), of(4, `{"id":"b"}`)), nil, nil},
		"of an earlier release, without id": {"", of(3, `{"id":"a"}`), nil, nil, nil},
		"replaced":                          {"a", of(3, `{"id":"b"}`), nil, nil, ErrReplaced},
		"replaced, and archived":            {"a", nil, of(3, `{"id":"b"}`), nil, ErrReplaced},
		"not there":                         {"a", nil, nil, nil, ErrReplaced},
		"not there, and another is":         {"a", nil, of(4, `{"id":"a"}`), nil, ErrReplaced},
		"in an archive that cannot be read": {"a", nil, nil, away, away},
	} {
		record, err := recordOf(t.Context(), stand{records: tt.archived, err: tt.err}, &Session{Recent: tt.recent}, KeyEntry{Turn: 3, ID: tt.id})
		if !errors.Is(err, tt.want) || tt.want == nil && (err != nil || record.Number != 3) {
			t.Errorf("%s: %+v, %v", name, record, err)
		}
	}
	if _, err := recordOf(t.Context(), nil, &Session{Recent: of(3, `{"id":7}`)}, KeyEntry{Turn: 3, ID: "a"}); err == nil || errors.Is(err, ErrReplaced) {
		t.Errorf("a turn that cannot be read: %v", err)
	}
}

// A session with as many keys as it may have moves the oldest that no call holds to its page,
// where it is before it leaves the session.
func TestRoomForAnotherKey(t *testing.T) {
	t.Parallel()
	const most = 2000
	full := func(oldest string, entry KeyEntry) *Session {
		s := &Session{Keys: map[string]KeyEntry{}}
		for i := range most - 1 {
			s.Keys[fmt.Sprint("k", i)] = KeyEntry{Turn: 1, At: noon.Add(-time.Minute)}
		}
		s.Keys[oldest] = entry
		return s
	}
	old := KeyEntry{Turn: 1, At: noon.Add(-time.Hour), Until: noon.Add(time.Hour)}
	over := KeyEntry{Turn: 1, At: noon.Add(-KeyLife)}
	held := &Session{Keys: map[string]KeyEntry{}}
	for i := range most {
		held.Keys[fmt.Sprint("k", i)] = KeyEntry{Until: noon.Add(1), At: noon}
	}
	fewer := full("o", old)
	delete(fewer.Keys, "k0")
	away := errors.New("away")
	for name, tt := range map[string]struct {
		s     *Session
		page  *Session
		err   error // of the store
		want  error
		drop  []string
		moved bool
	}{
		"fewer":                                  {s: fewer},
		"the oldest":                             {s: full("o", old), page: &Session{}, drop: []string{"o"}, moved: true},
		"one that is over":                       {s: full("o", over), drop: []string{"o"}},
		"the oldest has no turn and is not held": {s: full("o", KeyEntry{Until: noon, At: old.At}), page: &Session{}, drop: []string{"o"}, moved: true},
		"all are held":                           {s: held},
		"the page is as full as it may be":       {s: full("o", old), page: full("p", old), want: ErrTooManyKeys},
		"the page has it already":                {s: full("o", old), page: full("o", old), drop: []string{"o"}, moved: true},
		"the page has one that is over":          {s: full("o", old), page: full("p", over), drop: []string{"o"}, moved: true},
		"the page has room for one":              {s: full("o", old), page: fewer, drop: []string{"o"}, moved: true},
		"there is no page yet":                   {s: full("o", old), err: ErrNotFound, want: ErrNotFound, moved: true},
		"the page cannot be read":                {s: full("o", old), err: away, want: away},
	} {
		var change Change
		drop, err := makeRoom(t.Context(), stand{page: tt.page, err: tt.err, change: &change}, tt.s, noon, "kept")
		if !errors.Is(err, tt.want) || tt.want == nil && err != nil || fmt.Sprint(drop) != fmt.Sprint(tt.drop) {
			t.Errorf("%s: %v, %v", name, drop, err)
		}
		if (change.Key == "o") != tt.moved {
			t.Errorf("%s: moved %q", name, change.Key)
		}
		if over := tt.page != nil && len(tt.page.expired(noon, "o")) > 0; tt.moved && over != (len(change.Drop) == 1) {
			t.Errorf("%s: of the page goes %v", name, change.Drop)
		}
	}
	var kept Change
	o := &opening{store: stand{page: full("p", old), change: &kept}, now: func() time.Time { return noon }, claim: &Claim{key: "new"}}
	if _, err := o.take(t.Context(), full("o", old)); !errors.Is(err, ErrTooManyKeys) || kept.Key != "" {
		t.Errorf("a key without room: %v, written %q", err, kept.Key)
	}
	many := full("o", old) // as many as there are pages of, and room for one
	delete(many.Keys, "k0")
	o.store = stand{err: away, change: &kept}
	if _, err := o.take(t.Context(), many); !errors.Is(err, away) || kept.Key != "" {
		t.Errorf("a key whose page cannot be read: %v, written %q", err, kept.Key)
	}
	// The key that is asked for stays, if it is the oldest.
	var change Change
	s := full("kept", old)
	s.Keys["k7"] = KeyEntry{Turn: 1, At: noon.Add(-2 * time.Minute)}
	if drop, err := makeRoom(t.Context(), stand{page: &Session{}, change: &change}, s, noon, "kept"); err != nil || fmt.Sprint(drop) != "[k7]" {
		t.Errorf("beside the oldest: %v, %v", drop, err)
	}
}

// Names of the form __…__ are Firestore's own: none is made.
func TestNamesThatAreReserved(t *testing.T) {
	t.Parallel()
	ones, zeros := "\xff\xff\xff", "\x00\x00\x00"
	for bits, want := range map[string]string{
		ones + ones:         "-_______",
		ones + zeros + ones: "-___AAAA____",
		ones + zeros:        "____AAAA",
		zeros + ones:        "AAAA____",
		zeros:               "AAAA",
	} {
		if got := name([]byte(bits)); got != want {
			t.Errorf("%x is named %s, want %s", bits, got, want)
		}
	}
}

// What is read of a record without decoding it is its member, or an error.
func TestMembersOfARecord(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		data     string
		id       string // "": an error
		question string
		loop     string
		epoch    int
		prompt   int64 // -1: none
	}{
		"all":                      {`{"id":"i","question_id":"q","prompt":{"bytes":3},"loop":[1],"contents":[],"epoch":2}`, "i", "q", "[1]", 2, 3},
		"none but the id":          {`{"id":"i","contents":[]}`, "i", "", "", 0, -1},
		"behind the contents":      {`{"contents":[],"id":"i","question_id":"q","loop":[1],"prompt":{"bytes":3},"epoch":2}`, "", "", "", 0, -1},
		"of other types":           {`{"id":7,"question_id":7,"prompt":7,"files":[7],"contents":[]}`, "", "", "", 0, -1},
		"an epoch in a text":       {`{"id":"i","contents":["\"epoch\":2"]}`, "i", "", "", 0, -1},
		"an epoch of another type": {`{"id":"i","contents":[],"epoch":"2"}`, "i", "", "", -1, -1},
		"an id twice":              {`{"id":"i","id":"j"}`, "i", "", "", 0, -1},
	} {
		r := Record{Number: 3, Data: []byte(tt.data)}
		id, err := r.ID()
		if id != tt.id || (err == nil) != (tt.id != "") {
			t.Errorf("%s: id %q, %v", name, id, err)
		}
		if got := r.QuestionID(); got != tt.question {
			t.Errorf("%s: question %q", name, got)
		}
		if got := r.Loop(); string(got) != tt.loop {
			t.Errorf("%s: loop %s", name, got)
		}
		if p, ok := r.Prompt(); ok != (tt.prompt >= 0) || ok && p.Bytes != tt.prompt {
			t.Errorf("%s: prompt %+v, %t", name, p, ok)
		}
		if files, err := r.Files(); err == nil {
			t.Errorf("%s: files %+v", name, files)
		}
		past, err := r.Past()
		if (err == nil) != (tt.id != "" && tt.epoch >= 0) || err == nil && (past != PastTurn{ID: tt.id, Number: 3, Epoch: tt.epoch}) {
			t.Errorf("%s: %+v, %v", name, past, err)
		}
	}
}

// Contents are stored byte for byte, and none are null.
func TestContentsAreStoredAsTheyAre(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ loop, contents string }{
		"white space and signs of HTML":   {"", `[ {"text": "a < b & c"} ]`},
		"none":                            {"", ""},
		"beside a framework's null":       {`{"contents":null}`, `[{"text":"a"}]`},
		"none, beside a framework's null": {`{"contents":null}`, ""},
	} {
		turn := Turn{ID: "i", Contents: []byte(tt.contents)}
		if tt.contents == "" {
			turn.Contents = nil
		}
		if tt.loop != "" {
			turn.Loop = []byte(tt.loop)
		}
		r, err := turn.Record(1)
		if err != nil {
			t.Fatal(name, err)
		}
		back, err := r.Turn()
		if want := strings.TrimSpace(tt.contents); err != nil || string(back.Contents) != want && (want != "" || string(back.Contents) != "null") || string(back.Loop) != tt.loop {
			t.Errorf("%s: %s, %v", name, r.Data, err)
		}
	}
}

// The question and the answer of a turn that is not as this service writes it are empty.
func TestTextsOfATurn(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct{ contents, output, query, response string }{
		"a question and an answer":            {`[{"role":"user","parts":[{"text":"a"},{"text":"b"}]},{"role":"model","parts":[{"text":"t","thought":true},{"text":"c"}]},{"role":"user","parts":[{"text":"x"}]},{"role":"model","parts":[{"text":"d"}]}]`, "", "ab", "c\n\nd"},
		"an answer of a type":                 {`[{"role":"user","parts":[{"text":"a"}]},{"role":"model","parts":[{"text":"c"}]}]`, `{"n":1}`, "a", `{"n":1}`},
		"no question, of a type":              {`{"parts":[{"text":"a"}]}`, `1`, "", "1"},
		"a broken one, of a type":             {`[7]`, `1`, "", "1"},
		"one of which a part is broken":       {`[{"role":"user","parts":[{"text":"a"},{"text":7}]}]`, `1`, "", "1"},
		"one of another type":                 {`[{"role":7,"parts":[{"text":"a"}]}]`, `1`, "", "1"},
		"an empty one, of a type":             {`[]`, `1`, "", "1"},
		"an object":                           {`{"parts":[{"text":"a"}]}`, "", "", ""},
		"a broken one at the end":             {`[{"role":"user","parts":[{"text":"a"}]},7]`, "", "", ""},
		"an answer without a text at its end": {`[{"role":"user","parts":[{"text":"a"}]},{"role":"model","parts":[{"text":"c"}]},{"role":"model","parts":[{"text":"t","thought":true}]}]`, "", "a", "c"},
	} {
		turn := Turn{Contents: []byte(tt.contents)}
		if tt.output != "" {
			turn.Output = []byte(tt.output)
		}
		if query, response := turn.Texts(); query != tt.query || response != tt.response {
			t.Errorf("%s: %q, %q", name, query, response)
		}
	}
}

// A turn that cannot be read is an error for what needs it.
func TestALastTurnThatCannotBeRead(t *testing.T) {
	t.Parallel()
	s := &Session{Meta: Meta{Turns: 2}, Recent: []Record{{Number: 1, Data: []byte(`{"id":"a"}`)}, {Number: 2, Data: []byte(`{"id":"b","epoch":"x"}`)}}}
	if _, ok, err := s.Last(); ok || err == nil {
		t.Errorf("the last: %t, %v", ok, err)
	}
	if _, err := s.WithoutLast(); err == nil {
		t.Error("the session without it is known")
	}
	if _, _, err := s.find(&Turn{ID: "b"}, 0); err == nil {
		t.Error("it is known whether it is found")
	}
	before := *s
	before.Turns, before.Recent = 1, s.Recent[:1]
	turn := asked("q")
	if _, _, err := s.After(Change{Turn: &turn, Before: &before}, noon, time.Hour); err == nil {
		t.Error("it is replaced")
	}
	turn.Loop = []byte("{")
	if _, _, err := s.After(Change{Turn: &turn}, noon, time.Hour); err == nil {
		t.Error("a turn that cannot be written is appended")
	}
	archived := *s
	archived.Turns = 3
	if _, _, err := Before(t.Context(), stand{}, &archived, 1); err == nil || errors.Is(err, ErrChanged) {
		t.Errorf("one that is to be undone: %v", err)
	}
	s.Recent[1].Data = []byte("{")
	if _, _, err := s.find(&Turn{ID: "b"}, 0); err == nil {
		t.Error("one without an id is not the turn that is looked for")
	}
	if _, ok, err := (&Session{}).Last(); ok || err != nil {
		t.Errorf("no turn: %t, %v", ok, err)
	}
}
