package invoke

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/session"
)

// A page and its session can differ: another tab went on, an answer failed and left no turn,
// an earlier message is edited. The SDK cuts its history before it sends, so the messages do
// not show which it was. But the page's answers name their runs, and the latest run that left
// a turn is the last turn that the page shows. If that is the session's last turn, the
// question is appended. If it is an earlier one, the turns after it are replaced, but only if
// the request names what it replaces: by the id of an edited message, or by asking for the
// next turn's question again. Anything else is session_conflict, with a sentence that has the
// person reload.
//
// POST /invoke has the number of the turn to be replaced instead (replaces), and how many
// turns its client has seen (after_turn).
//
// The turns to be replaced are only decided here. The commit replaces them in one step, on
// the condition that the last turn is still the one that was seen.

// A Page is the conversation as a page shows it. The history is the
// session's; the page's is only compared with it, so that a question is never
// answered in a conversation that its user does not see.
type Page struct {
	MessageID  string   `json:",omitempty"` // of the message that is edited or regenerated
	QuestionID string   `json:",omitempty"` // of the question's message
	Runs       []string `json:",omitempty"` // that the page's answers name, the latest last
	// Alone: only the last message was sent, and with it the number of turns (after_turn),
	// which was compared already.
	Alone bool `json:",omitempty"`
}

// questionID returns the id that a page has given the question's message, "" for none.
func (r *run) questionID() string {
	if r.req.Options.Page == nil {
		return ""
	}
	return r.req.Options.Page.QuestionID
}

const (
	// maxPageRuns bounds [Page.Runs]: of the answers that left no turn, few are in a row.
	maxPageRuns = 64
	// maxMessageID bounds the ids that pages give their messages, in bytes.
	maxMessageID = 128
	// maxFinds bounds the runs that are looked for among archived turns.
	maxFinds = 3
)

// A slot is where a turn goes in its session.
type slot struct {
	before *session.Session // as the turn sees it
	last   string           // id of the last turn, which is replaced; "": none is
	first  int              // number of the first turn that is replaced
}

// slot returns where the turn of a run goes. The error is session_conflict if a tool has
// changed the world in a turn that would be replaced: the next question must know of it.
func (s *Service) slot(ctx context.Context, current *session.Session, r *run, req *Request) (slot, error) {
	if r.taken != nil {
		// A run that has waited left its turn in the session, and replaces it by its id.
		before, last, err := r.waited(current)
		if err != nil || last != "" {
			return slot{before, last, current.Turns}, err
		}
		// What it was asked for held when it began; turns that came since stay.
		if !req.edits() || len(r.taken.Answers) > 0 {
			return slot{before: current}, nil
		}
	}
	if req.Options.Page == nil && !req.edits() { // the usual turn asks nothing of the store
		return slot{before: current}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	first, err := s.firstReplaced(ctx, current, req)
	if err != nil || first > current.Turns {
		return slot{before: current}, err
	}
	before, effects, err := session.Before(ctx, s.Store, current, first)
	if err != nil {
		return slot{}, err
	}
	if effects {
		return slot{}, conflict("What was done for this answer stays done, so it cannot be made again. Ask a new question instead.")
	}
	last, _, err := current.Last()
	return slot{before, last.ID, first}, err
}

// firstReplaced returns the number of the first turn that req replaces; one beyond the
// last turn if it is appended. The error is session_conflict if the session is not what the
// page shows.
func (s *Service) firstReplaced(ctx context.Context, current *session.Session, req *Request) (int, error) {
	page, next := req.Options.Page, current.Turns+1
	switch {
	case req.Replaces == nil:
	case *req.Replaces > current.Turns:
		return 0, api.Fail(api.SessionConflict, nil)
	default:
		return *req.Replaces, nil
	}
	if page == nil || page.Alone {
		named := 0
		if page != nil && page.MessageID != "" {
			var err error
			if named, err = s.numberOf(ctx, current, page.MessageID); err != nil {
				return 0, err
			}
		}
		switch {
		case named > 0:
			return named, nil
		case !req.Options.Regenerate:
			return next, nil
		}
		// A question whose answer failed has no turn, and is appended. Pages regenerate to
		// try it again.
		last, ok, err := current.Last()
		if err == nil && ok && asks(last, req) {
			return current.Turns, nil
		}
		return next, err
	}
	shown, err := s.lastShown(ctx, current, page.Runs)
	if err != nil {
		return 0, err
	}
	// An edited message directly follows what the page shows.
	named := current.NumberOf(func(r session.Record) bool { return page.MessageID != "" && names(current.Key, r, page.MessageID) })
	switch {
	case named > 0 && named != shown+1:
		return 0, api.Fail(api.SessionConflict, nil)
	case shown == current.Turns:
		return next, nil
	case !req.Options.Regenerate && page.MessageID == "": // another page went on
		e := api.Fail(api.SessionConflict, nil)
		if len(page.Runs) == 0 {
			e.Details = []api.Detail{{Field: "after_turn", Issue: "must be how many turns the page shows, if its messages do not name the runs of their answers"}}
		}
		return 0, e
	case req.Options.Regenerate && named == 0:
		// A regeneration names no message of its question. That the question is the same
		// shows that the page means this turn.
		turn, err := s.turnAt(ctx, current, shown+1)
		if err != nil {
			return 0, err
		}
		if !asks(turn, req) {
			return 0, api.Fail(api.SessionConflict, nil)
		}
	}
	return shown + 1, nil
}

// asks reports whether t has the question of req.
func asks(t session.Turn, req *Request) bool {
	query, _ := t.Texts()
	return query == req.Query
}

// names reports whether a message's id is that of the question or the answer of a turn. A
// page that has loaded its messages from here has ids made of the run's; one that has asked
// itself has the SDK's for the question.
func names(key session.Key, r session.Record, id string) bool {
	if r.QuestionID() == id {
		return true
	}
	turn, err := r.ID()
	return err == nil && strings.TrimSuffix(id, questionSuffix) == session.RunID(key.ID, turn)
}

// hasID returns a match of the turns that have one of ids.
func hasID(ids ...string) func(session.Record) bool {
	return func(r session.Record) bool {
		id, err := r.ID()
		return err == nil && slices.Contains(ids, id)
	}
}

// numberOf returns the number of the turn that a message belongs to, 0 for none.
func (s *Service) numberOf(ctx context.Context, current *session.Session, id string) (int, error) {
	match := func(r session.Record) bool { return names(current.Key, r, id) }
	if n := current.NumberOf(match); n > 0 {
		return n, nil
	}
	turn, err := session.FindArchived(ctx, s.Store, current, match)
	if errors.Is(err, session.ErrNotFound) {
		return 0, nil
	}
	return turn.Number, err
}

// lastShown returns the number of the latest turn that the page's answers name, 0 for
// none. Answers whose runs left no turn are passed over. The recent turns are at hand; only
// if none of them is named are archived ones read, up to all of them, and for few ids.
func (s *Service) lastShown(ctx context.Context, current *session.Session, runs []string) (int, error) {
	var ids []string
	for _, run := range slices.Backward(runs) {
		if sessionID, id, ok := session.SplitRunID(run); ok && sessionID == current.Key.ID {
			ids = append(ids, id)
		}
	}
	for _, id := range ids {
		if n := current.NumberOf(hasID(id)); n > 0 {
			return n, nil
		}
	}
	ids = ids[:min(len(ids), maxFinds)]
	if len(ids) == 0 || len(current.Recent) == current.Turns {
		return 0, nil
	}
	turn, err := session.FindArchived(ctx, s.Store, current, hasID(ids...))
	if errors.Is(err, session.ErrNotFound) {
		return 0, nil
	}
	return turn.Number, err
}

// turnAt returns the turn with a number.
func (s *Service) turnAt(ctx context.Context, current *session.Session, number int) (session.Turn, error) {
	if i := number - 1 - (current.Turns - len(current.Recent)); i >= 0 && i < len(current.Recent) {
		return current.Recent[i].Turn()
	}
	_, records, err := s.Store.Turns(ctx, current.Key, number-1, 1)
	switch {
	case err != nil:
		return session.Turn{}, err
	case len(records) == 0:
		return session.Turn{}, session.ErrNotFound
	}
	return records[0].Turn()
}

// supersede stops the run that still works on what the page no longer waits for: the
// latest that its answers name, or, if the page regenerates or edits, the newest, which
// makes the answer that is to be replaced. It reports whether there was one. It waits until
// that run has stored its turn or failed, so that the turn which follows is read with it. The
// wait is bounded by what a commit may take and the second in which another instance's record
// is read.
func (s *Service) supersede(ctx context.Context, current *session.Session, req *Request) (bool, error) {
	if req.Options.Page == nil && req.Replaces == nil {
		return false, nil
	}
	key, working, err := s.superseded(ctx, current, req)
	if err != nil || !working {
		return false, err
	}
	if err := s.stop(ctx, key); err != nil && api.AsError(err).Code != api.SessionConflict { // else it has just ended
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, commitTimeout+pollEvery)
	defer cancel()
	_, err = s.follow(ctx, key, &Position{Attempt: -1}, new(bool), nil)
	if err != nil && ctx.Err() != nil {
		return false, err
	}
	return true, nil // what it failed of, if it did, is its own reader's
}

// superseded returns the run that the page no longer waits for, and whether it is worked on.
// A run in its first second is known only to its process: elsewhere it is found by its
// record, once that is written.
func (s *Service) superseded(ctx context.Context, current *session.Session, req *Request) (key runKey, working bool, err error) {
	page := cmp.Or(req.Options.Page, &Page{Alone: true}) // with Replaces, after_turn says what the page shows
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	named := ""
	if n := len(page.Runs); n > 0 {
		named = page.Runs[n-1]
	}
	for _, run := range []string{page.MessageID, named} {
		sessionID, id, ok := session.SplitRunID(run)
		if !ok || sessionID != current.Key.ID || current.NumberOf(hasID(id)) > 0 {
			continue
		}
		key = runKey{current.Key, id}
		if s.live.get(key) != nil {
			return key, true, nil
		}
		record, err := session.LoadRun(ctx, s.Store, key.session, key.id)
		if err == nil && record.State == session.Working {
			return key, true, nil
		}
		if err != nil && !errors.Is(err, session.ErrNotFound) {
			return key, false, err
		}
	}
	if !req.edits() {
		return key, false, nil
	}
	shown, err := s.lastShown(ctx, current, page.Runs)
	if err != nil || !page.Alone && shown < current.Turns { // the answer to be replaced has its turn
		return key, false, err
	}
	return s.newestOf(ctx, current.Key)
}

// followStopped stops the run that r supersedes and makes opened hold its turn. The session
// is read again, because the stopped run has appended to it. The first holder of a run that
// was taken over has done so.
func (s *Service) followStopped(ctx context.Context, r *run, opened *session.Opened) (err error) {
	if r.taken != nil {
		return nil
	}
	if r.superseded, err = s.supersede(ctx, opened.Session, &r.req); err != nil || !r.superseded {
		return err
	}
	current, err := s.stored(ctx, opened.Session.Key, true)
	if err == nil {
		opened.Session = current
	}
	return err
}
