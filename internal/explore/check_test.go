package explore_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing/synctest"
	"time"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/limit"
	"example.com/gatehouse/invoke"
	"example.com/gatehouse/session"
)

// run lets a world happen from its beginning to its end and returns it. It must be called
// in a bubble of synctest.
func run(s scenario, g guide) *world {
	w := newWorld(s, g)
	ctx, end := context.WithCancel(context.Background())
	defer end()
	w.end = ctx
	w.start("A")
	w.start("B")
	if s.existing {
		turn := session.Turn{ID: session.NewID(), Contents: []byte(`[{"parts":[{"text":"q0 talk"}],"role":"user"},{"parts":[{"text":"Zero."}],"role":"model"}]`), FinishReason: "STOP", CreatedAt: time.Now()}
		if _, err := session.Commit(ctx, w.memory, session.New(existing), turn, session.Conditions{}); err != nil {
			panic(err) // the memory store is broken
		}
	}
	w.open()
	w.explore()
	if !w.pruned && len(w.wrong) == 0 {
		w.settles()
		w.recover()
		w.check()
	}
	// Nothing reaches the world any more, and all waits of those who are left end by
	// themselves.
	w.mu.Lock()
	w.direct = true
	for _, p := range w.processes {
		p.alive = false
	}
	for _, s := range w.steps {
		s.reply <- errDead
	}
	w.steps = nil
	w.mu.Unlock()
	end()
	time.Sleep(time.Hour)
	synctest.Wait()
	w.release()
	return w
}

// settles checks what the processes that live owe to the limits.
func (w *world) settles() {
	w.mu.Lock()
	w.direct = true
	w.mu.Unlock()
	whole := true
	for _, p := range w.processes {
		if whole = whole && p.alive; p.alive {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			p.Limiter.Close(ctx)
			cancel()
			p.Limiter = limit.New(limit.Config{Counters: w.limits, MaxInstances: 3, Now: time.Now, Log: p.Log})
		}
	}
	budgets := limits.Budgets(owner)
	reader := limit.New(limit.Config{Counters: w.limits, MaxInstances: 3, Now: time.Now, Log: w.processes[0].Log})
	for _, budget := range budgets {
		report, err := reader.Report(context.Background(), nil, []limit.Budget{budget})
		if err != nil || len(report.States) != 1 {
			w.violated("the budget cannot be read: %v", err)
			return
		}
		charged := report.States[0].Limit - report.States[0].Left
		w.mu.Lock()
		asked, heard := w.asked, w.heard
		w.mu.Unlock()
		least, most := int64(heard*tokens), int64(heard*tokens+(asked-heard)*1000)
		if charged < least || whole && charged > most {
			w.violated("the budget %s is charged %d tokens, want %d to %d for %d calls of which %d were heard to their end", budget.Name, charged, least, most, asked, heard)
		}
	}
}

// call makes a call at a process in the world's end. Nothing is in its way.
func (w *world) call(p *process, f func(ctx context.Context) (*invoke.Response, error)) (*invoke.Response, error) {
	ctx, cancel := context.WithTimeout(w.end, patience)
	defer cancel()
	ctx, release := p.context(ctx, "the end")
	defer release()
	return f(ctx)
}

// recover lets clients come back: those who watch a run until it ends, and the one who
// wants an answer under its key.
func (w *world) recover() {
	p := w.start("Z")
	time.Sleep(silence)
	if w.queued && w.recovers%3 == 2 {
		w.empty(p, false)
	}
	retry := func() {
		if w.keyed && !w.gone {
			w.retry(p)
		}
	}
	if w.recovers%2 == 0 {
		retry()
	}
	for i := 0; i < len(w.order); i++ {
		w.follow(p, w.runs[w.order[i]])
	}
	if w.recovers%2 == 1 {
		retry()
		for i := 0; i < len(w.order); i++ {
			w.follow(p, w.runs[w.order[i]])
		}
	}
	if w.queued {
		w.empty(p, true)
	}
}

// retry asks the first question again until there is an answer.
func (w *world) retry(p *process) {
	begun, stopped := time.Now(), false
	for time.Since(begun) < patience {
		response, err := w.call(p, func(ctx context.Context) (*invoke.Response, error) { return w.asksFirst(ctx, p, nil) })
		c := &client{name: "the last retry", what: retries, process: p, begun: true, answered: true, response: response, err: err}
		w.clients = append(w.clients, c)
		switch code := codeOf(err); code {
		case api.IdempotencyInProgress:
			time.Sleep(time.Second)
			continue
		case api.SessionConflict:
			if slices.ContainsFunc(w.visits, func(v visit) bool { return v.what == stops || v.what == edits }) && !stopped {
				stopped = true // it took the run over and met its stop; the key is free then
				continue
			}
			// An edit has taken its turn away, or its key stays that of a stopped or expired run.
			if len(w.replaced) == 0 && (w.without == "" || !stopped && !w.expires) {
				w.violated("the last retry of the key fails with %s: %v", code, err)
			}
		case "":
		default:
			if w.failedSince(code) == nil {
				w.violated("the last retry of the key fails with %s: %v", code, err)
			}
		}
		return
	}
	w.violated("the key is held for ever")
}

// failedSince returns a run that has failed with a code since a person answered what it waited
// for, or without a session since an effect began, nil for none: that is its end, for whoever
// watches it and under its key.
func (w *world) failedSince(code api.Code) *known {
	for _, id := range w.order {
		record, err := w.memory.LoadRun(background, w.runs[id].key, id)
		if err == nil && record.State == session.Failed && (len(record.Answers) > 0 || w.without != "" && len(record.Effects) > 0) && strings.Contains(string(record.Result), `"`+string(code)+`"`) {
			return w.runs[id]
		}
	}
	return nil
}

func codeOf(err error) api.Code {
	if failed, ok := errors.AsType[*api.Error](err); ok {
		return failed.Code
	}
	if err != nil {
		return api.Internal
	}
	return ""
}

// follow watches a run to its end.
func (w *world) follow(p *process, k *known) {
	for range 10 {
		_, err := w.call(p, func(ctx context.Context) (*invoke.Response, error) { return p.Watch(ctx, k.runID(), "", nil) })
		info, failed := p.Read(mustContext(p), k.runID())
		code := codeOf(failed)
		if code == api.NotFound || code == "" && info.State != session.Working {
			return
		}
		if code != "" {
			w.violated("a run cannot be read: %v", failed)
			return
		}
		if err != nil {
			time.Sleep(silence)
		}
	}
	w.violated("a run works for ever")
}

func mustContext(p *process) context.Context {
	ctx, _ := p.context(context.Background(), "the end")
	return ctx
}

// check checks what must hold at the end.
func (w *world) check() {
	p := w.processes[len(w.processes)-1]
	if w.without != "" {
		w.checkSessionless(p)
		return
	}
	key := existing
	if w.target != nil {
		key = w.target.key
	}
	stored, err := w.memory.Load(background, key)
	if err != nil && !errors.Is(err, session.ErrNotFound) {
		w.violated("the session cannot be read: %v", err)
		return
	}
	var turns []session.Turn
	if stored != nil {
		for i, record := range stored.Recent {
			turn, err := record.Turn()
			if err != nil || turn.Number != i+1 {
				w.violated("turn %d is stored as number %d: %v", i+1, turn.Number, err)
			}
			turns = append(turns, turn)
		}
		if stored.Turns != len(turns) {
			w.violated("the session has %d turns and counts %d", len(turns), stored.Turns)
		}
	}
	byID := map[string]session.Turn{}
	asked := map[string]int{}
	for _, turn := range turns {
		if _, ok := byID[turn.ID]; ok {
			w.violated("a turn is stored twice")
		}
		byID[turn.ID] = turn
		query, _ := turn.Texts()
		asked[query]++
	}
	for id, turn := range byID {
		record, err := w.memory.LoadRun(background, key, id)
		if err == nil && turn.FinishReason == "WAITING" && record.Over() && record.Turn > turn.Number && record.Turn <= len(turns) {
			byID[id] = turns[record.Turn-1] // it went on after another question
			query, _ := turn.Texts()
			asked[query]--
		}
	}
	for query, n := range asked {
		if n > 1 {
			w.violated("%q has %d turns", query, n)
		}
	}
	if w.gone && stored != nil && stored.Exists() {
		w.violated("the session is there after its deletion")
	}
	w.checkRuns(p, byID)
	w.checkEffects(asked)
	w.checkAnswers(byID, asked)
}

// checkRuns checks that records fit to turns, and what was watched to both.
func (w *world) checkRuns(p *process, turns map[string]session.Turn) {
	for _, id := range w.order {
		k := w.runs[id]
		// What nobody sees expires, and one that failed unknowingly may be there for its day.
		record, err := session.LoadRun(mustContext(p), p.Store, k.key, id)
		if w.gone && err == nil && !record.Over() {
			w.violated("a run is %s after the deletion of its session", record.State)
		}
		turn, stored := turns[id]
		if err == nil && stored && record.Request != nil { // not only the record of a stop that the run never met
			want := session.Done
			switch turn.FinishReason {
			case "STOPPED":
				want = session.Stopped
			case "WAITING":
				want = session.Waiting
			case "FAILED":
				want = session.Failed
			}
			wentOn := want == session.Waiting && record.Over() // in a later turn, or it was denied, stopped or failed
			if record.State != want && !wentOn {
				w.violated("a run is %s, and its turn ended with %s", record.State, turn.FinishReason)
			}
		}
		if err == nil && !stored && record.State == session.Done && !w.replaced[id] {
			w.violated("a run is done, and has no turn")
		}
		if !stored {
			continue
		}
		whole := &view{}
		_, err = w.call(p, func(ctx context.Context) (*invoke.Response, error) {
			return p.Watch(ctx, k.runID(), "", func(e invoke.Event) error {
				if problem := whole.add(e); problem != "" {
					w.violated("the replay shows %s", problem)
				}
				return nil
			})
		})
		if err != nil {
			if w.failedSince(codeOf(err)) != k {
				w.violated("a stored run cannot be watched: %v", err)
			}
			continue
		}
		_, text := turn.Texts()
		if whole.text() != text {
			w.violated("the replay shows %q, and %q is stored", whole.text(), text)
		}
		for _, c := range w.clients {
			if c.view != nil && c.view.run == k.runID() {
				w.checkView(c, whole, turn)
				w.checkResume(p, c, whole)
			}
		}
	}
}

// checkSessionless checks runs without a session: their records are all that there is of them.
func (w *world) checkSessionless(p *process) {
	began, late := false, false
	responses := map[string]*invoke.Response{}
	for _, id := range w.order {
		k := w.runs[id]
		record, err := w.memory.LoadRun(background, k.key, id)
		switch {
		case err != nil && k.writes > 0 && !k.deleted:
			w.violated("the record of a run is gone: %v", err)
		case err == nil && k.deleted:
			w.violated("a run is %s after its deletion", record.State)
		}
		if err != nil || record.Request == nil { // a stop wrote it, and the run never met it
			continue
		}
		began, late = began || len(record.Effects) > 0, late || k.late
		info, err := p.Read(mustContext(p), k.runID())
		if err != nil {
			if !k.late {
				w.violated("a run that is %s cannot be read: %v", record.State, err)
			}
			continue
		}
		response := info.Response()
		switch {
		case info.State == session.Waiting && !time.Now().Before(k.expires):
			w.violated("a run waits whose time to be approved is over")
		case info.State == session.Done && response == nil:
			w.violated("a run is done, and has no answer")
		case info.State == session.Failed && response == nil && info.Failure().Code == "":
			w.violated("a run has failed, and nobody knows why")
		}
		if response == nil {
			continue
		}
		// Without a key, an answer goes out even if it cannot be stored, and who takes the run over
		// makes another.
		if !w.keyed && record.Epoch > 0 {
			continue
		}
		responses[k.runID()] = response
		whole := &view{}
		if _, err := w.call(p, func(ctx context.Context) (*invoke.Response, error) {
			return p.Watch(ctx, k.runID(), "", func(e invoke.Event) error {
				if problem := whole.add(e); problem != "" {
					w.violated("the replay shows %s", problem)
				}
				return nil
			})
		}); err != nil {
			w.violated("a run that is %s cannot be watched: %v", record.State, err)
			continue
		}
		if whole.text() != response.Response {
			w.violated("the replay shows %q, and %q is stored", whole.text(), response.Response)
		}
		for _, c := range w.clients {
			if c.view != nil && c.view.run == k.runID() {
				w.checkView(c, whole, session.Turn{FinishReason: response.FinishReason, Resets: record.Resets})
				w.checkResume(p, c, whole)
			}
		}
	}
	acts := 0
	for _, n := range w.acts {
		acts += n
		if n > 1 {
			w.violated("an effect took place %d times", n)
		}
	}
	if w.keyed && acts > 1 && !w.swept {
		w.violated("one question under a key had %d effects", acts)
	}
	if len(w.starts) > 0 && !began && !w.swept && !late {
		w.violated("an effect has begun, and there is no record that says so")
	}
	w.checkResponses(responses)
}

// output returns the output of a response, "" for one without, which JSON has as null.
func output(r *invoke.Response) string { return strings.TrimPrefix(string(r.Output), "null") }

// checkResponses checks that each answer is what its run's record has.
func (w *world) checkResponses(stored map[string]*invoke.Response) {
	for _, c := range w.clients {
		r, want := c.response, (*invoke.Response)(nil)
		if c.view != nil && c.answered && c.err == nil && r == nil {
			r = c.view.answer
		}
		if c.answered && r != nil {
			want = stored[r.RunID]
		}
		if want == nil || r.FinishReason == "WAITING" {
			continue
		}
		if r.FinishReason != want.FinishReason || r.Response != want.Response || output(r) != output(want) {
			w.violated("%s was answered %s %q %s, and %s %q %s is stored", c.name, r.FinishReason, r.Response, r.Output, want.FinishReason, want.Response, want.Output)
		}
	}
}

// checkView checks that what a client was shown is how what is stored begins, as far as
// it has not been told that it is void, or would be at once.
func (w *world) checkView(c *client, whole *view, turn session.Turn) {
	if a := c.view.answer; a != nil && unsaved(a) {
		return // it was told that what it was shown is not stored
	}
	shown := c.view.parts
	for i, reset := range w.resets(c.view.run, turn) {
		if i >= c.view.at.Attempt {
			shown = shown[:min(len(shown), reset.Part)]
		}
	}
	for i, part := range shown {
		if i >= len(whole.parts) && part != "" || i < len(whole.parts) && !strings.HasPrefix(whole.parts[i], part) {
			w.violated("%s was shown %q, which is not how %q begins", c.name, shown, whole.parts)
			return
		}
	}
	if a := c.view.answer; a != nil && c.view.ended == invoke.KindDone && a.FinishReason == turn.FinishReason && strings.Join(shown, "") != whole.text() && c.what != resumes && c.what != approves {
		w.violated("%s was shown %q whole, and %q is stored", c.name, shown, whole.parts)
	}
}

// resets returns what was begun again in a run: what its turn has, or its record if the run
// went on after that and left no other turn.
func (w *world) resets(run string, turn session.Turn) []session.Reset {
	_, id, _ := session.SplitRunID(run)
	record, err := w.memory.LoadRun(background, w.runs[id].key, id)
	resets := turn.Resets
	if err == nil && turn.FinishReason == "WAITING" && record.Over() {
		if len(record.Resets) > len(resets) {
			resets = record.Resets
		}
		if n := len(turn.Shown()); len(record.Parts) > n {
			resets = append(slices.Clip(resets), session.Reset{Part: n})
		}
	}
	return resets
}

// checkResume lets a client that has left, or was cut off, come back where it was: in the end
// it has been shown the same as who comes later.
func (w *world) checkResume(p *process, c *client, whole *view) {
	if a := c.view.answer; a != nil && unsaved(a) || c.what == approves { // who has not seen the beginning
		return
	}
	v := c.view.copy()
	_, err := w.call(p, func(ctx context.Context) (*invoke.Response, error) {
		return p.Watch(ctx, v.run, v.id(), func(e invoke.Event) error {
			if problem := v.add(e); problem != "" {
				w.violated("%s comes back and is shown %s", c.name, problem)
			}
			return nil
		})
	})
	switch {
	case codeOf(err) == api.MalformedRequest:
		w.violated("%s cannot come back to where it was, %s: %v", c.name, c.view.id(), err)
	case v.text() != whole.text():
		w.violated("%s comes back and has %q, and %q is stored", c.name, v.text(), whole.text())
	}
}

// checkEffects checks what has been done to the world outside.
func (w *world) checkEffects(asked map[string]int) {
	acts := 0
	for id, n := range w.acts {
		if n > 1 {
			w.violated("an effect took place %d times", n)
		}
		if w.starts[id] > 0 {
			acts += n
		}
	}
	if w.keyed && acts > 1 {
		w.violated("one question under a key had %d effects", acts)
	}
	late := w.target != nil && w.target.late // and its holder has died
	if len(w.starts) > 0 && asked[w.query()] == 0 && !w.gone && !w.swept && !late {
		w.violated("an effect has begun, and there is no turn that says so")
	}
}

// unsaved reports whether an answer says that it is not stored.
func unsaved(r *invoke.Response) bool { return slices.Contains(r.Warnings, "session_not_saved") }

// checkAnswers checks that what was answered is what is stored.
func (w *world) checkAnswers(turns map[string]session.Turn, asked map[string]int) {
	approved := 0
	for _, c := range w.clients {
		if c.view != nil && c.answered && c.err == nil && c.response == nil {
			c.response = c.view.answer // nil for an error
		}
		if (c.what == approves || c.what == denies) && c.answered && c.err == nil {
			approved++
		}
		r := c.response
		if !c.answered || r == nil || w.gone {
			continue
		}
		_, id, _ := session.SplitRunID(r.RunID)
		turn, ok := turns[id]
		switch {
		case w.replaced[id]: // by an edit
			continue
		case unsaved(r): // it is stored nevertheless, or by who takes the run over
			continue
		case !ok:
			w.violated("%s was answered, and there is no turn", c.name)
			continue
		case turn.Number != r.Turn && r.FinishReason != "WAITING":
			w.violated("%s was answered turn %d, which is %d", c.name, r.Turn, turn.Number)
		}
		if _, text := turn.Texts(); r.FinishReason != "WAITING" && text != r.Response {
			w.violated("%s was answered %q, and %q is stored", c.name, r.Response, text)
		}
	}
	if approved > 1 {
		w.violated("%d answers to one question of approval were accepted", approved)
	}
}
