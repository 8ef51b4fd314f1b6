package invoke

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/session"
)

// The output is what makes a run independent of its clients. Its log is append-only, with one
// exception, a reset, which is recorded beside it. So a position (how many resets, which
// part, which byte of its text) names the same place on every instance and after the run, and
// a watcher that comes late, or comes back, reads the log from its position on like any
// other.
//
// Appending must cost the same however long the text is. The text of the last part grows in a
// strings.Builder whose String shares its memory: what was written is never changed, so a
// string that a watcher took earlier stays valid without the lock. Likewise, a reset clips
// the slices instead of reusing what lies behind them. Most answers come whole, as one piece,
// which is not copied.

// A growingText is a text that comes in pieces. The zero growingText is empty.
type growingText struct {
	text    string
	builder *strings.Builder // of text; nil for one piece
}

func (t *growingText) String() string { return t.text }
func (t *growingText) Len() int       { return len(t.text) }

// WriteString appends a piece.
func (t *growingText) WriteString(piece string) {
	if t.text == "" {
		t.text = piece
		return
	}
	if t.builder == nil {
		t.builder = &strings.Builder{}
		t.builder.WriteString(t.text)
	}
	t.builder.WriteString(piece)
	t.text = t.builder.String()
}

// An output is what a run shows, in order. The run only adds to it; whoever watches the
// run follows it at its own pace, so that neither waits for the other. It is safe for
// concurrent use.
type output struct {
	mu      sync.Mutex
	run     string    // id of the run
	begun   time.Time // when it was admitted
	start   *Start    // nil until the run is admitted
	log     shown
	text    growingText   // the text of the last part
	bytes   int           // of log as a turn stores it, about
	ended   bool          // nothing is added any more
	result  outcome       // once it has ended
	changed chan struct{} // closed at the next change; nil if nobody waits
}

// An outcome is how a run has ended: with a response, with a failure, or, for this
// process, elsewhere.
type outcome struct {
	response *Response
	failure  *api.Error
	moved    bool
}

// shown are the parts that a run has shown.
type shown struct {
	parts  []session.Part
	ends   [][]int // for each part, where the pieces end that its text came in; nil: one piece
	resets []session.Reset
}

// partOverhead is about what a stored part takes beside its texts, in bytes.
const partOverhead = 96

// begin makes start the first event. Later calls do nothing. The time is when the run began
// in this process, which for one that was taken over is later than its record's.
func (o *output) begin(start Start) {
	o.change(func() {
		if o.start == nil {
			o.run, o.start, o.begun = start.RunID, &start, time.Now()
		}
	})
}

// change calls f under the lock and wakes whoever watches. A channel is made only if somebody
// waits, so that a run without watchers makes none, and closing it wakes any number.
func (o *output) change(f func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	f()
	if o.changed != nil {
		close(o.changed)
		o.changed = nil
	}
}

// appendText appends text of the kind: to the last part, if that is of the same kind.
func (o *output) appendText(kind session.Kind, text string) {
	if text == "" {
		return
	}
	o.change(func() {
		last := len(o.log.parts) - 1
		if last < 0 || o.log.parts[last].Kind != kind || o.text.Len() == 0 {
			o.append(session.Part{Kind: kind})
			last++
		}
		if before := o.text.Len(); before > 0 {
			if o.log.ends[last] == nil {
				o.log.ends[last] = append(o.log.ends[last], before)
			}
			o.log.ends[last] = append(o.log.ends[last], before+len(text))
		}
		o.text.WriteString(text)
		o.log.parts[last].Text = o.text.String() // shares its memory
		// A stored turn has the text of the answer in its contents, which are counted where
		// they are added; reasoning is stored nowhere but in the part.
		if kind == session.KindReasoning {
			o.bytes += len(text)
		}
	})
}

// add adds a whole part.
func (o *output) add(p session.Part) { o.change(func() { o.append(p) }) }

// append adds a part. The caller holds mu.
func (o *output) append(p session.Part) {
	o.log.parts = append(o.log.parts, p)
	o.log.ends = append(o.log.ends, nil)
	o.text = growingText{}
	// Other arguments and results are in the turn's contents, see [session.Part.Stored].
	if p.Own {
		o.bytes += len(encode(p.Args)) + len(encode(p.Result))
	}
	o.bytes += partOverhead + len(p.Text) + len(p.ID) + len(p.Name) + len(p.Error) + len(p.Title) + len(p.URI) + len(p.Question) + len(p.Reason)
}

// A mark is where a step begins in an output.
type mark struct{ parts, bytes int }

// mark returns where the next part begins.
func (o *output) mark() mark {
	o.mu.Lock()
	defer o.mu.Unlock()
	return mark{len(o.log.parts), o.bytes}
}

// reset makes what was shown since the mark of a step void. Each watcher of the attempt gets
// an event that takes it back.
func (o *output) reset(to mark, step int) {
	o.change(func() {
		if to.parts >= len(o.log.parts) {
			return // nothing was
		}
		o.log.parts = o.log.parts[:to.parts:to.parts] // watchers may read what lies behind
		o.log.ends = o.log.ends[:to.parts:to.parts]
		o.log.resets = append(o.log.resets, session.Reset{Step: step, Part: to.parts})
		o.text, o.bytes = growingText{}, to.bytes
	})
}

// restore makes o show what the stored turn or the record of a run has shown. The slices stay
// the caller's to read, and must not change any more. A watcher keeps its position, which
// holds in the new log as in the old one.
func (o *output) restore(parts []session.Part, resets []session.Reset) {
	o.change(func() {
		// Clipped, because a run that goes on appends, and others may hold the same slices.
		o.log = shown{parts: slices.Clip(parts), ends: make([][]int, len(parts)), resets: slices.Clip(resets)}
		o.text = growingText{}
	})
}

// end makes o end: nothing is added after it. Later calls do nothing. The first outcome
// stands: a mirror that has seen the run's end is not moved afterwards.
func (o *output) end(as outcome) {
	o.change(func() {
		if !o.ended {
			o.ended, o.result = true, as
		}
	})
}

// outcome returns how the run has ended.
func (o *output) outcome() outcome {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.result
}

// over reports whether the run has ended.
func (o *output) over() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.ended
}

// reaches reports whether a position is within what was shown, or at its end. In a mirror,
// whose record may be a second behind, one beyond it may be right.
func (o *output) reaches(p Position) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch n := len(o.log.parts); {
	case p.Attempt != len(o.log.resets):
		return p.Attempt < len(o.log.resets) // of an earlier attempt: it gets a reset
	case p.Part < n: // endOffset: the run has waited there, and gone on
		return p.Offset <= len(o.log.parts[p.Part].Text) || p.Offset == endOffset
	default:
		return p.Part == n && (p.Offset == 0 || p.Offset == endOffset)
	}
}

// id returns the id of the run, "" before it is admitted.
func (o *output) id() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.run
}

// turn returns the expected number of the run's turn, 0 before it is admitted.
func (o *output) turn() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.start == nil {
		return 0
	}
	return o.start.Turn
}

// since returns when the run was admitted.
func (o *output) since() time.Time {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.begun
}

// started reports whether a watcher has been or will be shown an event.
func (o *output) started() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.start != nil
}

// spoke reports whether text of the answer was shown.
func (o *output) spoke() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.ContainsFunc(o.log.parts, func(p session.Part) bool { return p.Kind == session.KindText })
}

// last returns the position of the event that ends the run.
func (o *output) last() Position {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.log.last()
}

// endOffset is in the position of an event that ends a run, so that none of a text is
// taken for it. The run may go on after it: when it has waited, or elsewhere after an
// error.
const endOffset = maxPosition

// last returns the position of the event that ends a run which has shown all of s.
func (s *shown) last() Position {
	return Position{Attempt: len(s.resets), Part: len(s.parts), Offset: endOffset}
}

// size returns about how many bytes a stored turn takes for o.
func (o *output) size() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.bytes
}

// shown returns what was shown so far. The slices are the caller's: a record or a turn is
// written from them while the run goes on.
func (o *output) shown() ([]session.Part, []session.Reset) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.log.parts), slices.Clone(o.log.resets)
}

// attached returns the sources and files that were shown.
func (o *output) attached() (parts []session.Part) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, p := range o.log.parts {
		if p.Kind == session.KindSource || p.Kind == session.KindFile {
			parts = append(parts, p)
		}
	}
	return parts
}

// stored returns what was shown, as a turn stores it. One that has shown nothing but a
// text stores no parts: they follow from its contents. Most turns are such.
func (o *output) stored() ([]session.Part, []session.Reset) {
	if o.plain() {
		return nil, nil
	}
	parts, resets := o.shown()
	for i, p := range parts {
		parts[i] = p.Stored()
	}
	return parts, resets
}

// plain reports whether one text is all that was shown.
func (o *output) plain() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.log.parts) == 1 && o.log.parts[0].Kind == session.KindText && len(o.log.resets) == 0
}

// each calls show with all events from a position on, until the run is over or show
// returns an error, and moves the position along. The first is start, unless it was
// shown before. show is called without the lock: a client that does not read holds up nobody
// but itself. at and started are the watcher's until each returns.
func (o *output) each(ctx context.Context, at *Position, started *bool, show func(Event) error) error {
	for {
		e, ok, change := o.next(at, started)
		if ok {
			if err := show(e); err != nil {
				return err
			}
			continue
		}
		if change == nil {
			return nil
		}
		select {
		case <-change:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// next returns the event at a position and moves the position behind it. Without one, it
// returns what is closed at the next change, nil if there will be none.
func (o *output) next(at *Position, started *bool) (e Event, ok bool, change <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.start != nil {
		if !*started {
			*started = true
			return Event{Kind: KindStart, Run: o.run, At: *at, Start: o.start}, true, nil
		}
		if e, ok := o.log.next(at); ok {
			e.Run = o.run
			return e, true, nil
		}
	}
	if o.ended {
		return Event{}, false, nil
	}
	// It is made under the lock under which the log was read, so no change falls between the
	// look and the wait.
	if o.changed == nil {
		o.changed = make(chan struct{})
	}
	return Event{}, false, o.changed
}

// next returns the event at a position and moves the position behind it. A position of
// an earlier attempt gets a reset, and goes back to where that begins again. Of several
// resets that a watcher has missed, one event covers all: it is the one that reaches back
// furthest.
func (s *shown) next(at *Position) (Event, bool) {
	if at.Attempt < len(s.resets) {
		first := slices.MinFunc(s.resets[at.Attempt:], func(a, b session.Reset) int { return a.Part - b.Part })
		at.Attempt = len(s.resets)
		if at.Part >= first.Part {
			at.Part, at.Offset = first.Part, 0
		}
		return Event{Kind: KindReset, At: *at, Reset: first}, true
	}
	if at.Part < len(s.parts) && at.Offset == endOffset {
		at.Offset = 0 // it went on
	}
	for ; at.Part < len(s.parts); at.Part, at.Offset = at.Part+1, 0 {
		p := s.parts[at.Part]
		if !p.Grows() {
			e := Event{Kind: p.Kind, Part: p}
			at.Part, at.Offset = at.Part+1, 0
			e.At = *at
			return e, true
		}
		if at.Offset < len(p.Text) {
			end := len(p.Text)
			if ends := s.ends[at.Part]; ends != nil {
				// The piece that holds the next byte. Each watcher gets the pieces as the
				// model wrote them, however late it reads them.
				i, _ := slices.BinarySearch(ends, at.Offset+1)
				end = ends[i]
			}
			e := Event{Kind: p.Kind, Part: session.Part{Kind: p.Kind, Text: p.Text[at.Offset:end]}}
			at.Offset = end
			e.At = *at
			return e, true
		}
		if at.Part == len(s.parts)-1 {
			return Event{}, false // it may still grow
		}
	}
	return Event{}, false
}
