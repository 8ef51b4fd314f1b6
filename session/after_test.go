package session

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"strings"
	"testing"
	"time"
)

var noon = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)

// asked returns a turn with a question.
func asked(question string) Turn {
	contents, err := json.Marshal([]storedContent{{Role: "user", Parts: []struct {
		Text    string `json:"text"`
		Thought bool   `json:"thought"`
	}{{Text: question}}}})
	if err != nil {
		panic(err)
	}
	return Turn{ID: "turn", Contents: contents, Usage: Usage{TotalTokens: 5}}
}

func TestTheTitleOfASession(t *testing.T) {
	t.Parallel()
	for question, want := range map[string]string{
		"":                                "",
		" two\n\twords ":                  "two words",
		"I need help":                     "I need help",
		strings.Repeat("ä", 80):           strings.Repeat("ä", 80),
		strings.Repeat("ä", 81):           strings.Repeat("ä", 79) + "…",
		strings.Repeat("ä", 78) + " more": strings.Repeat("ä", 78) + "…",
	} {
		if got := titleOf(question); got != want {
			t.Errorf("%q has the title %q, want %q", question, got, want)
		}
	}
}

// What a change makes of a session's times: it is kept for its time to live, and not before
// its keys are over, a call holds one, or its last turn waits.
func TestHowLongASessionIsKept(t *testing.T) {
	t.Parallel()
	const ttl = time.Hour
	turn := func(pending ...time.Duration) *Turn {
		turn := asked("q")
		for _, in := range pending {
			turn.Pending = append(turn.Pending, Pending{ExpiresAt: noon.Add(in)})
		}
		return &turn
	}
	entry := func(turn int, until time.Duration) *KeyEntry {
		return &KeyEntry{Turn: turn, Until: noon.Add(until), At: noon}
	}
	stored := Session{Meta: Meta{Turns: 2, CreatedAt: noon.Add(-time.Hour), UpdatedAt: noon.Add(-time.Minute), ExpiresAt: noon.Add(time.Minute), Title: "t"}}
	keyed := stored
	keyed.Keys = map[string]KeyEntry{"old": {Turn: 1, At: noon.Add(-22 * time.Hour)}}
	over := stored
	over.Keys = map[string]KeyEntry{"old": {Turn: 1, At: noon.Add(-KeyLife + time.Minute)}}
	held := stored
	held.Keys = map[string]KeyEntry{"held": {Until: noon.Add(time.Minute), At: noon}}
	for name, tt := range map[string]struct {
		s       Session
		c       Change
		ttl     time.Duration
		expires time.Duration
		updated bool
	}{
		"a turn":                              {stored, Change{Turn: turn()}, ttl, time.Hour, true},
		"a turn that waits longer":            {stored, Change{Turn: turn(2*time.Hour, 3*time.Hour, time.Minute)}, ttl, 3 * time.Hour, true},
		"a turn that waits not so long":       {stored, Change{Turn: turn(time.Minute)}, ttl, time.Hour, true},
		"a key of a session":                  {stored, Change{Key: "k", Entry: entry(0, time.Second)}, ttl, time.Minute, false},
		"a key that is held longer":           {stored, Change{Key: "k", Entry: entry(0, time.Hour)}, ttl, time.Hour, false},
		"a key whose turn is stored":          {stored, Change{Key: "k", Entry: entry(3, 2*time.Hour)}, ttl, time.Minute, false},
		"a key and its turn":                  {stored, Change{Turn: turn(), Key: "k", Entry: entry(3, 0)}, ttl, KeyLife, true},
		"a turn before an older key is over":  {keyed, Change{Turn: turn()}, ttl, 2 * time.Hour, true},
		"a turn after a key is nearly over":   {over, Change{Turn: turn()}, ttl, time.Hour, true},
		"a turn beside a key that is held":    {held, Change{Turn: turn()}, ttl, time.Hour, true},
		"a turn of a session kept for longer": {keyed, Change{Turn: turn(), Key: "k", Entry: entry(3, 0)}, 48 * time.Hour, 48 * time.Hour, true},
		"the first key of a new session":      {Session{}, Change{Key: "k", Entry: entry(0, time.Second)}, ttl, KeyLife, true},
		"a title":                             {stored, Change{Title: "new"}, ttl, time.Minute, false},
	} {
		after, record, err := tt.s.After(tt.c, noon, tt.ttl)
		if err != nil {
			t.Fatal(name, err)
		}
		updated := tt.s.UpdatedAt
		if tt.updated {
			updated = noon
		}
		if !after.ExpiresAt.Equal(noon.Add(tt.expires)) || !after.UpdatedAt.Equal(updated) {
			t.Errorf("%s: kept until %v, updated %v", name, after.ExpiresAt, after.UpdatedAt)
		}
		created := tt.s.CreatedAt
		if tt.s.Turns == 0 {
			created = noon
		}
		if !after.CreatedAt.Equal(created) || (record != nil) != (tt.c.Turn != nil) {
			t.Errorf("%s: created %v, record %v", name, after.CreatedAt, record)
		}
		if record != nil && (record.Number != tt.s.Turns+1 || after.Turns != tt.s.Turns+1 || after.TotalTokens != 5 || len(after.Recent) != 1) {
			t.Errorf("%s: turn %d, %+v", name, record.Number, after)
		}
		if want := map[string]string{"a title": "new", "the first key of a new session": ""}; tt.s.Turns > 0 && after.Title != "t" && after.Title != want[name] {
			t.Errorf("%s: title %q", name, after.Title)
		}
	}
}

// Turns that another replaces are remembered once, but for the one that goes on under its id.
func TestTurnsThatAreReplacedAreRemembered(t *testing.T) {
	t.Parallel()
	s := New(Key{Owner: "o", ID: "0123456789abcdef"})
	for _, id := range []string{"a", "b", "c"} {
		turn := asked("q " + id)
		turn.ID = id
		var err error
		if s, _, err = s.After(Change{Turn: &turn}, noon, time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	for name, tt := range map[string]struct {
		id   string
		keep int
		want []PastTurn
	}{
		"the last":               {"x", 2, []PastTurn{{ID: "c", Number: 3}}},
		"the last two":           {"x", 1, []PastTurn{{ID: "b", Number: 2}, {ID: "c", Number: 3}}},
		"one that goes on":       {"c", 2, nil},
		"all, one of which goes": {"b", 0, []PastTurn{{ID: "a", Number: 1}, {ID: "c", Number: 3}}},
	} {
		before, _, err := Before(t.Context(), nil, s, tt.keep+1)
		if err != nil {
			t.Fatal(err)
		}
		turn := asked("again")
		turn.ID = tt.id
		after, record, err := s.After(Change{Turn: &turn, Before: before}, noon.Add(time.Minute), time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(after.Past) != fmt.Sprint(tt.want) || record.Number != tt.keep+1 || after.TotalTokens != int64(5*tt.keep+5) || !after.CreatedAt.Equal(noon) {
			t.Errorf("%s: %+v", name, after)
		}
	}
	all := make([]PastTurn, 70)
	for i := range all {
		all[i].Number = i
	}
	if past := Remember(all[:1], all[1:]...); len(past) != 64 || past[0].Number != 6 || past[63].Number != 69 {
		t.Errorf("%d past turns, from %+v", len(past), past[0])
	}
}

// A state holds twelve names and 64 KiB of names and values; a value is removed by null.
func TestTheBoundsOfAState(t *testing.T) {
	t.Parallel()
	names := func(n int) map[string]json.RawMessage {
		state := map[string]json.RawMessage{}
		for i := range n {
			state[fmt.Sprint(i)] = json.RawMessage("1")
		}
		return state
	}
	of := func(n int) map[string]json.RawMessage {
		return map[string]json.RawMessage{"n": json.RawMessage(strings.Repeat("1", n-1))}
	}
	for name, tt := range map[string]struct {
		state map[string]json.RawMessage
		want  error
	}{
		"none": {nil, nil}, "twelve names": {names(12), nil}, "thirteen": {names(13), ErrTooLarge},
		"64 KiB": {of(64 << 10), nil}, "a byte more": {of(64<<10 + 1), ErrTooLarge},
	} {
		if err := CheckState(tt.state); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, tt := range map[string]struct {
		change UserChange
		want   error
	}{
		"a name that is there": {UserChange{ID: "w", Name: "3", Value: json.RawMessage("2")}, nil},
		"one more":             {UserChange{ID: "w", Name: "n", Value: json.RawMessage("2")}, ErrTooLarge},
		"none more":            {UserChange{ID: "w", Name: "n"}, nil},
		"a value of 64 KiB":    {UserChange{ID: "w", Name: "3", Value: json.RawMessage(strings.Repeat("1", 64<<10))}, nil},
		"a larger value":       {UserChange{ID: "w", Name: "3", Value: json.RawMessage(strings.Repeat("1", 64<<10+1))}, ErrTooLarge},
	} {
		u, err := (&User{Owner: "o", Values: names(12)}).After(tt.change, noon)
		if !errors.Is(err, tt.want) || err == nil && (len(u.Values) != 12 || !u.ExpiresAt.Equal(noon.Add(UserLife)) || !u.UpdatedAt.Equal(noon)) {
			t.Errorf("a user's, %s: %+v, %v", name, u, err)
		}
	}
	before := map[string]json.RawMessage{"a": json.RawMessage("1"), "b": json.RawMessage("2")}
	after, undo := changeState(before, map[string]json.RawMessage{"a": nil, "b": json.RawMessage("2"), "c": json.RawMessage("3")})
	if fmt.Sprintf("%s", after) != "map[b:2 c:3]" || len(undo) != 2 || string(undo["a"]) != "1" || undo["c"] != nil || len(before) != 2 {
		t.Errorf("%s, undone by %s", after, undo)
	}
	if again, _ := changeState(after, undo); fmt.Sprintf("%s", again) != "map[a:1 b:2]" {
		t.Errorf("undone: %s", again)
	}
}

// The ids of an owner's changes are kept for the tries of one update: the latest 64.
func TestWritesOfAUserAreBounded(t *testing.T) {
	t.Parallel()
	u := &User{Owner: "o"}
	for i := range 70 {
		var err error
		if u, err = u.After(UserChange{ID: fmt.Sprint(i), Name: "n", Value: json.RawMessage("1")}, noon); err != nil {
			t.Fatal(err)
		}
		if want := min(i+1, 64); len(u.Writes) != want || u.Writes[want-1] != fmt.Sprint(i) {
			t.Fatalf("after %d changes: %v", i+1, u.Writes)
		}
	}
}

// The mark of a deletion keeps a key's time until a retry of it cannot come.
func TestTheMarkOfADeletion(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		keyed time.Time
		kept  bool
	}{
		"no key":                {time.Time{}, false},
		"a key":                 {noon.Add(-KeyLife + 1), true},
		"a key of a day before": {noon.Add(-KeyLife), false},
	} {
		mark := (&Session{Key: Key{Owner: "o", ID: "i"}, KeyedAt: tt.keyed, Meta: Meta{Turns: 3}}).Mark(noon)
		if mark.Exists() || !mark.Deleted || mark.Reusable() == tt.kept || !mark.ExpiresAt.Equal(noon.Add(KeyLife)) || !mark.UpdatedAt.Equal(noon) {
			t.Errorf("%s: %+v", name, mark)
		}
	}
	if (&Session{Meta: Meta{Turns: 3}}).Reusable() {
		t.Error("a session may start where one is")
	}
}

// What may be of a deleted owner: a record that was written once, by a holder that is
// silent, before the deletion.
func TestWhichRecordsMayBeLate(t *testing.T) {
	t.Parallel()
	silent := Run{State: Working, Holder: "h", Silent: LeaseTime + 1, CreatedAt: noon, UpdatedAt: noon}
	again, alive := silent, silent
	again.UpdatedAt, alive.Silent = noon.Add(1), LeaseTime
	for name, tt := range map[string]struct {
		run     Run
		deleted time.Time
		want    bool
	}{
		"nothing deleted":      {silent, time.Time{}, false},
		"deleted before":       {silent, noon.Add(-1), false},
		"deleted at its time":  {silent, noon, true},
		"deleted after":        {silent, noon.Add(1), true},
		"written again":        {again, noon.Add(1), false},
		"its holder is alive":  {alive, noon.Add(1), false},
		"one that is not held": {Run{State: Working, CreatedAt: noon, UpdatedAt: noon}, noon, true},
	} {
		if got := tt.run.mayBeLate() && tt.run.late(&User{DeletedAt: tt.deleted}); got != tt.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

// What a commit finds of its turn after a write whose response was lost.
func TestATurnIsFound(t *testing.T) {
	t.Parallel()
	record := func(number int, id string, epoch int) Record {
		turn := asked("q")
		turn.ID, turn.Epoch = id, epoch
		r, err := turn.Record(number)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	s := &Session{Meta: Meta{Turns: 6}, Recent: []Record{record(4, "d", 0), record(5, "e", 2), record(6, "f", 0)}, Past: []PastTurn{{ID: "b", Number: 2}, {ID: "c", Number: 3, Epoch: 2}}}
	for name, tt := range map[string]struct {
		id     string
		epoch  int
		after  int
		number int // 0: not found
		fenced bool
	}{
		"the last":                           {"f", 0, 3, 6, false},
		"one that another followed":          {"d", 0, 3, 4, false},
		"one that was there before":          {"d", 0, 4, 0, false},
		"none":                               {"x", 0, 0, 0, false},
		"one that has waited":                {"e", 3, 3, 0, false},
		"that of the same holder":            {"e", 2, 3, 5, false},
		"that of another holder":             {"e", 1, 3, 0, true},
		"an archived one":                    {"b", 0, 3, 2, false},
		"an archived one that has waited":    {"c", 3, 3, 0, false},
		"an archived one of another holder":  {"c", 1, 3, 0, true},
		"an archived one of the same holder": {"c", 2, 3, 3, false},
		"one that is archived under its id":  {"b", 0, 6, 2, false},
	} {
		meta, found, err := s.find(&Turn{ID: tt.id, Epoch: tt.epoch}, tt.after)
		if found != (tt.number > 0) || errors.Is(err, ErrFenced) != tt.fenced || found && meta.Turns != tt.number {
			t.Errorf("%s: %t, %+v, %v", name, found, meta, err)
		}
	}
}

// Of the keys of a session, those that are over go first, a hundred at once, and never the
// one that is asked for.
func TestKeysThatAreOver(t *testing.T) {
	t.Parallel()
	s := &Session{Keys: map[string]KeyEntry{}}
	for i := range 150 {
		s.Keys[fmt.Sprint("old", i)] = KeyEntry{At: noon.Add(-KeyLife)}
	}
	s.Keys["new"] = KeyEntry{At: noon.Add(-KeyLife + 1)}
	if old := s.expired(noon, "old0"); len(old) != 100 {
		t.Errorf("%d of 150 at once", len(old))
	}
	few := &Session{Keys: map[string]KeyEntry{"a": {At: noon.Add(-KeyLife)}, "kept": {At: noon.Add(-KeyLife)}, "new": {At: noon}}}
	if old := few.expired(noon, "kept"); len(old) != 1 || old[0] != "a" {
		t.Errorf("%v", old)
	}
	after := few.keysAfter(Change{Key: "k", Entry: &KeyEntry{Turn: 1}, Drop: []string{"a"}})
	if len(after) != 3 || after["k"].Turn != 1 || len(few.Keys) != 3 {
		t.Errorf("%v", after)
	}
	if after := few.keysAfter(Change{Key: "new"}); len(after) != 2 {
		t.Errorf("%v", after)
	}
	if after := (&Session{}).keysAfter(Change{Key: "k", Entry: &KeyEntry{}}); !maps.Equal(after, map[string]KeyEntry{"k": {}}) {
		t.Errorf("%v", after)
	}
}

// The size of a stored run and of an owner's state are those of what grows in them.
func TestSizesInMemory(t *testing.T) {
	t.Parallel()
	r := &Run{Request: []byte("1"), Checkpoint: []byte("22"), Deliveries: []byte("333"), Result: []byte("4444"),
		Parts: []Part{{Text: "12345", Error: "123456"}, {}}, Effects: map[string]Effect{"e": {Result: []byte("1234567")}}}
	if got, want := r.size(), 10+5+6+2*256+7+128; got != want {
		t.Errorf("a run has %d bytes, want %d", got, want)
	}
	u := &User{Values: map[string]json.RawMessage{"ab": []byte("123"), "c": []byte("4")}}
	if got := u.bytes(); got != 512+2+3+1+1 {
		t.Errorf("a state has %d bytes", got)
	}
	s := &memorySession{state: &Session{Keys: map[string]KeyEntry{"a": {}, "b": {}}, Recent: []Record{{Data: []byte("123")}, {Data: []byte("4")}},
		State: map[string]json.RawMessage{"s": []byte("12345")}}, feedback: map[int]Feedback{1: {Comment: "12"}}}
	if got := s.size(); got != 512+2*256+4+5+2+64 {
		t.Errorf("a session has %d bytes", got)
	}
}

// Archived turns are read again as far as the model still knows them.
func TestWhatIsReadAgainOfArchivedTurns(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		turns, bytes, first int
		want                int // recent turns of the session before
	}{
		"all of few":              {50, 10, 41, 40},
		"a hundred of many":       {250, 10, 201, 100},
		"as many as fit":          {50, 64 << 10, 41, 4},
		"none that is too large":  {50, 256<<10 + 1, 41, 0},
		"none before the first":   {50, 10, 1, 0},
		"one before the second":   {50, 10, 2, 1},
		"more than one step back": {250, 10, 21, 20},
	} {
		store := archive{Store: NewMemory(time.Hour, 1<<30, func() time.Time { return noon }, slog.New(slog.DiscardHandler)), bytes: tt.bytes}
		s := &Session{Meta: Meta{Turns: tt.turns, TotalTokens: int64(tt.turns)}, Key: Key{Owner: "o", ID: "i"}}
		before, effects, err := Before(t.Context(), store, s, tt.first)
		if err != nil || before.Turns != tt.first-1 || before.TotalTokens != int64(tt.first-1) || len(before.Recent) != tt.want || !effects {
			t.Errorf("%s: %d recent turns of %+v, %v", name, len(before.Recent), before.Meta, err)
		}
		if tt.want > 0 && (before.Recent[tt.want-1].Number != tt.first-1 || before.Recent[0].Feedback != nil) {
			t.Errorf("%s: up to turn %d", name, before.Recent[tt.want-1].Number)
		}
	}
	for _, first := range []int{0, 6} {
		if _, _, err := Before(t.Context(), nil, &Session{Meta: Meta{Turns: 5}}, first); !errors.Is(err, ErrReplaced) {
			t.Errorf("turn %d of 5: %v", first, err)
		}
	}
	for reads := range 3 { // two of turns to undo, one of those before
		store := archive{bytes: 10, left: &reads}
		if _, _, err := Before(t.Context(), store, &Session{Meta: Meta{Turns: 250}}, 101); !errors.Is(err, errAway) {
			t.Errorf("a store that is away after some reads: %v", err)
		}
	}
	few := stand{records: []Record{{Number: 1, Data: []byte("{}")}, {Number: 2, Data: []byte("{}")}}}
	if _, effects, err := Before(t.Context(), few, &Session{Meta: Meta{Turns: 2}}, 1); effects || err != nil {
		t.Errorf("turns without an effect: %t, %v", effects, err)
	}
	// A deletion or a replacement that comes between the reads leaves fewer turns than there were.
	fewer := stand{records: []Record{{Number: 3, Data: []byte("{}")}, {Number: 4, Data: []byte("{}")}}}
	for _, first := range []int{1, 2, 3} {
		_, _, err := Before(t.Context(), fewer, &Session{Meta: Meta{Turns: 5}}, first)
		if !errors.Is(err, ErrChanged) {
			t.Errorf("turn %d of 5, of which two are there: %v", first, err)
		}
	}
}

// archive has any turn, each with a token and as many bytes; one of them has an effect.
type archive struct {
	Store
	bytes int
	left  *int // reads until it is away; nil: it is not
}

var errAway = errors.New("away")

func (a archive) Turns(_ context.Context, _ Key, after, limit int) (Meta, []Record, error) {
	if a.left != nil {
		if *a.left--; *a.left < 0 {
			return Meta{}, nil, errAway
		}
	}
	var records []Record
	for n := after + 1; n <= after+limit; n++ {
		data := fmt.Appendf(nil, `{"effects":%t,"usage":{"total_tokens":1}`, n%10 == 1)
		data = append(data, strings.Repeat(" ", max(0, a.bytes-len(data)-1))...)
		records = append(records, Record{Number: n, Data: append(data, '}'), Feedback: &Feedback{}})
	}
	return Meta{}, records, nil
}
