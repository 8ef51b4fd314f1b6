package invoke

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/genai"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/exactjson"
	"example.com/gatehouse/internal/model"
	"example.com/gatehouse/session"
)

// A step is finished when its model call was heard to its end, or when the results of its
// calls are there. What is finished is in the record before an effect begins because of it:
// otherwise whoever takes the run over would ask the model again, which may call another tool
// the second time, with the first one's effect done.

// A checkpoint is what the finished steps of a run have come to. Whoever takes the run
// over goes on from it: the model is not asked again for what it has answered. It is not
// changed once it is made. Its JSON is read by other revisions of the service during a
// rollout, so members are only added.
type checkpoint struct {
	Contents    json.RawMessage            `json:"contents"`
	Parts       int                        `json:"parts"` // shown by the finished steps
	Step        int                        `json:"step"`
	Rounds      int64                      `json:"rounds"` // left
	Calls       []session.ToolCall         `json:"calls,omitempty"`
	Usage       session.Usage              `json:"usage"`
	Asked       string                     `json:"asked"`
	Model       string                     `json:"model"`
	Prompt      session.Prompt             `json:"prompt,omitzero"`
	Finish      string                     `json:"finish,omitempty"`
	Warnings    []string                   `json:"warnings,omitempty"`
	Attempts    int                        `json:"attempts"`
	Timing      session.Timing             `json:"timing,omitzero"`
	Suggestions string                     `json:"suggestions,omitempty"`
	State       map[string]json.RawMessage `json:"state,omitempty"` // of the session, as tools have changed it
	Ends        map[int]json.RawMessage    `json:"ends,omitempty"`  // of a step of which calls wait: the calls that have ended, by place
	Waits       bool                       `json:"waits,omitempty"` // calls of the step wait; all are shown
	Files       []session.File             `json:"files,omitempty"` // that contents refer to, in order
	Loop        *loopState                 `json:"loop,omitempty"`  // of an agent with a Loop that waits

	open []byte // Contents without the closing bracket, shared with the generation
}

// finishStep makes what the run has come to the state that it can go on from. It costs no
// write: the journal's next one takes it along. An agent that is a tool has no steps that
// count here, since its whole run is one call of the turn's.
func (g *generation) finishStep() {
	if g.depth > 0 || g.run.journal == nil {
		return
	}
	ends := map[int]json.RawMessage{}
	for i, end := range g.ends {
		if encoded, err := json.Marshal(end); err == nil { // it came from JSON
			ends[i] = encoded
		}
	}
	var looped *loopState
	if g.looped != nil && g.shown { // only there its loop can go on
		looped = &loopState{g.looped.Kept, g.looped.IDs}
	}
	g.run.journal.finished(&checkpoint{
		Ends: ends, Waits: g.shown, Loop: looped,
		// Slices that the generation goes on appending to are clipped or cloned: the journal
		// encodes the checkpoint later, in its timer's goroutine.
		Parts: g.run.out.last().Part, Step: g.step, Rounds: g.rounds.left.Load(), Calls: slices.Clone(g.calls), Usage: g.usage, Asked: g.asked,
		Model: g.model, Prompt: g.prompt, Finish: string(g.finish), Warnings: slices.Clone(g.warnings), Attempts: g.attempts, Timing: g.timing(),
		Suggestions: g.suggestions, State: g.states.changed(), Files: slices.Clone(g.files.stored), open: slices.Clip(g.encoded),
	})
}

// encode returns c for the record; stored is what it holds, which stays for a nil c. The
// contents are put together only here, since most turns write no record.
func (c *checkpoint) encode(stored json.RawMessage) json.RawMessage {
	if c == nil {
		return stored
	}
	whole := *c
	whole.Contents = append(slices.Clone(c.open), ']')
	encoded, err := json.Marshal(whole)
	if err != nil {
		return stored
	}
	return encoded
}

var errCheckpoint = errors.New("a checkpoint with a place below zero, or whose contents are no list of contents")

// readCheckpoint returns where a record's finished steps have come, nil without any. It
// refuses what encode never writes, and a ledger with a result that is none, which a step could
// neither go on with nor fail by: nothing else checks a record that somebody edited.
func readCheckpoint(record *session.Run) (*checkpoint, error) {
	for _, e := range record.Effects {
		if e.Done {
			if _, err := decodeEnd(e.Result); err != nil {
				return nil, fmt.Errorf("decoding a result of the ledger: %w", err)
			}
		}
	}
	if record.Checkpoint == nil {
		return nil, nil
	}
	c := new(checkpoint)
	if err := json.Unmarshal(record.Checkpoint, c); err != nil {
		return nil, fmt.Errorf("decoding a checkpoint: %w", err)
	}
	if c.Parts < 0 || c.Step < 0 || !bytes.HasPrefix(c.Contents, []byte("[")) {
		return nil, errCheckpoint
	}
	return c, nil
}

// loadRun reads the record of a run for whoever shows it or goes on with it. One that cannot be
// read, and that nobody holds, is ended; the error is that end.
func (s *Service) loadRun(ctx context.Context, key runKey) (*session.Run, error) {
	for range stopTries {
		record, err := session.LoadRun(ctx, s.Store, key.session, key.id)
		if err != nil || !record.Lapsed() && record.State != session.Waiting {
			return record, err
		}
		if _, err = decodeRun(record); err == nil {
			return record, nil
		}
		if err = s.endUnreadable(ctx, record, err); !errors.Is(err, session.ErrChanged) {
			return nil, err
		}
	}
	return nil, session.ErrChanged
}

// endUnreadable ends the run of a record that cannot be read, because somebody has edited it.
// Who asks next reads how it has ended, and nobody tries again. The error is that end, with
// cause for the log, or [session.ErrChanged].
func (s *Service) endUnreadable(ctx context.Context, record *session.Run, cause error) error {
	ctx, cancel := detach(ctx, storeTimeout)
	defer cancel()
	failed := api.Fail(api.Internal, fmt.Errorf("the record of a run cannot be read: %w", cause))
	failed.Message = "This answer cannot go on: what is stored of it cannot be read. Ask again."
	if len(record.Effects) > 0 {
		failed.Message = "This answer cannot go on: what is stored of it cannot be read. Check what has been done before you ask again."
	}
	next := *record
	next.State, next.Holder, next.Stop, next.Pending, next.Checkpoint = session.Failed, "", false, nil, nil
	next.Epoch++                                            // for a holder that is only late
	next.Result, _ = json.Marshal(api.Failure(ctx, failed)) // of strings
	untold(&next, true)
	saved, err := s.Store.SaveRun(ctx, &next)
	if err != nil {
		return err
	}
	s.found(ctx, saved)
	return failed
}

// restore brings g to where a record's finished steps have come. Without any, g begins
// with the question. Its error means that this revision cannot read the record; the run then
// fails instead of going on from somewhere else.
func (g *generation) restore(record *session.Run) error {
	c, err := readCheckpoint(record)
	if err != nil {
		return err
	}
	if c == nil {
		g.resetText(record.Parts)
		return nil
	}
	// The arguments of calls that wait are what a person approves.
	if err := exactjson.Unmarshal(c.Contents, &g.contents); err != nil {
		return err
	}
	if len(g.contents) == 0 || slices.ContainsFunc(g.contents, func(c *genai.Content) bool { return c == nil || slices.Contains(c.Parts, nil) }) {
		return errCheckpoint
	}
	exact, err := model.Restore(c.Contents) // one of an earlier release is not
	if err != nil {
		return err
	}
	// Without the closing bracket, as add appends to it.
	g.encoded = slices.Clone(exact[:len(exact)-1])
	g.step, g.calls, g.usage, g.asked, g.model, g.prompt = c.Step, orEmpty(c.Calls), c.Usage, c.Asked, c.Model, c.Prompt
	g.finish, g.warnings, g.attempts, g.suggestions = genai.FinishReason(c.Finish), orEmpty(c.Warnings), c.Attempts, c.Suggestions
	g.run.loadTime += time.Duration(c.Timing.Load) * time.Millisecond
	g.modelTime, g.toolTime = time.Duration(c.Timing.Model)*time.Millisecond, time.Duration(c.Timing.Tools)*time.Millisecond
	g.rounds.left.Store(c.Rounds)
	g.states.restore(c.State)
	g.shown, g.files.stored, g.looped = c.Waits, c.Files, c.Loop
	g.ends = make(map[int]callEnd, len(c.Ends))
	for i, encoded := range c.Ends {
		if g.ends[i], err = decodeEnd(encoded); err != nil {
			return err
		}
	}
	// What lies beyond is the broken step's: shown, and not in contents.
	g.resetText(record.Parts[:min(c.Parts, len(record.Parts))])
	g.said = g.text.Len()
	g.resetText(record.Parts)
	return nil
}

// resetText makes the answer the text among parts.
func (g *generation) resetText(parts []session.Part) {
	g.text = growingText{}
	for _, p := range parts {
		if p.Kind == session.KindText {
			g.text.WriteString(p.Text)
		}
	}
}

// openCalls returns the calls of the last content, which have no results yet, when g was
// restored there.
func (g *generation) openCalls() []*genai.FunctionCall {
	if n := len(g.contents); n > 0 && g.contents[n-1].Role == genai.RoleModel {
		return model.Calls(g.contents[n-1])
	}
	return nil
}

// stop ends g where it is: with all the text that was shown. It reports false if there
// was none. A stopped turn is stored with the text that its page has shown, so that page,
// session and the model's next prompt agree.
func (g *generation) stop() (bool, error) {
	text := g.text.String()
	if strings.TrimSpace(text) == "" || len(g.contents) == 0 {
		return false, nil
	}
	if len(g.openCalls()) > 0 { // without results, they would be refused in every later prompt
		last := withoutCalls(g.contents[len(g.contents)-1])
		contents := g.contents[:len(g.contents)-1]
		if len(last.Parts) > 0 {
			contents = append(slices.Clone(contents), last)
		}
		g.contents, g.encoded = nil, nil
		for _, content := range contents {
			encoded, err := model.Encode(content)
			if err != nil {
				return false, err
			}
			g.append(content, encoded)
		}
	}
	if rest := g.unsaid(); rest != "" {
		if err := g.addText(genai.NewContentFromText(rest, genai.RoleModel)); err != nil {
			return false, err
		}
	}
	g.finish = finishStopped
	if g.usage.Source == "" {
		g.usage.Source = session.Estimated
	}
	return true, nil
}
