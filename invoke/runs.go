package invoke

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/caller"
	"example.com/gatehouse/internal/telemetry"
	"example.com/gatehouse/session"
)

// What a run has come to is in two places: its record, which may be a second old and expires
// after [session.RunLife], and the turn that it has left. The turn counts: a run whose turn
// is stored is over, even if its record has it as working. The record is read first. Both are
// written in one step, so that a run which ends between the two reads is then found by its
// turn. Only of a turn that waits, the record has what became of it.

// A RunInfo describes a run to clients.
type RunInfo struct {
	RunID     string            `json:"run_id"`
	SessionID string            `json:"session_id" pattern:"^[A-Za-z0-9_-]{16,64}$"`
	Turn      int               `json:"turn" minimum:"1"`
	State     session.RunState  `json:"state" enum:"working,waiting,done,failed,stopped"`
	CreatedAt time.Time         `json:"created_at"`
	UpdatedAt time.Time         `json:"updated_at"`
	ExpiresAt *time.Time        `json:"expires_at" doc:"Null for one that lives as long as its session."`
	Pending   []session.Pending `json:"pending"`
	Result    any               `json:"result" doc:"What POST /invoke would have answered."`

	Stored *session.Turn `json:"-"` // for doors: its turn; nil if it has none, or goes on
}

// A RunList is the data of GET /runs.
type RunList struct {
	Runs       []RunInfo `json:"runs" doc:"Without their results."`
	NextCursor *string   `json:"next_cursor" doc:"Null on the last page."`
}

// runInfo describes the run of a record. A run whose time to be approved is over is shown as
// stopped, although nobody has written that.
func (s *Service) runInfo(r *session.Run) RunInfo {
	expires := r.ExpiresAt.UTC()
	info := RunInfo{
		RunID: session.RunID(r.Key.ID, r.ID), SessionID: r.Key.ID, Turn: max(r.Turn, 1), State: r.State,
		CreatedAt: r.CreatedAt.UTC(), UpdatedAt: r.UpdatedAt.UTC(), ExpiresAt: &expires, Pending: orEmpty(r.Pending),
	}
	if r.State == session.Waiting && !s.waits(r) {
		info.State, info.Pending = session.Stopped, []session.Pending{}
	}
	if r.Result != nil {
		info.Result = r.Result
	}
	return info
}

// Read returns a run of the caller. The error is an [*api.Error]. A run that is unknown,
// forgotten or another owner's is not_found.
func (s *Service) Read(ctx context.Context, runID string) (RunInfo, error) {
	key, err := runKeyOf(ctx, runID)
	if err != nil {
		return RunInfo{}, err
	}
	// It is looked up before the reads: a run without a record that ends between them leaves
	// live, too, and would be nowhere.
	live := s.live.get(key)
	reading, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	record, err := s.loadRun(reading, key)
	if err != nil && !errors.Is(err, session.ErrNotFound) {
		return RunInfo{}, storeFailure(err)
	}
	s.found(ctx, record)
	info, err := s.describe(reading, key, record)
	if err == nil || !errors.Is(err, session.ErrNotFound) {
		return info, err
	}
	if live != nil { // in its first second
		began := live.out.since().UTC()
		return RunInfo{
			RunID: runID, SessionID: key.session.ID, Turn: max(live.out.turn(), 1), State: session.Working, CreatedAt: began, UpdatedAt: began, Pending: []session.Pending{},
		}, nil
	}
	return RunInfo{}, runNotFound()
}

// describe describes the run of a turn or of a record, nil for none. The error is
// [session.ErrNotFound] if there is neither.
func (s *Service) describe(ctx context.Context, key runKey, record *session.Run) (RunInfo, error) {
	current, found := s.Store.Load(ctx, key.session)
	var turn session.Turn
	if found == nil {
		turn, found = session.FindIn(ctx, s.Store, current, key.id)
	}
	if errors.Is(found, session.ErrNotFound) && record != nil && record.State == session.Waiting {
		if asked, err := decodeRun(record); err == nil && asked.Options.Call == nil {
			return RunInfo{}, found // its turn went with its session
		}
	}
	if found == nil {
		turn, record, found = s.wentOn(ctx, key.session, turn, turn.Number == current.Turns, record)
	}
	switch {
	case found == nil && turn.FinishReason == finishWaiting && record != nil && record.State == session.Working: // it goes on
		return s.runInfo(record), nil
	case found == nil:
		failed := s.settleBy(record, &turn, turn.Number == current.Turns)
		parts := turn.Shown()
		_, text := turn.Texts()
		info := RunInfo{
			RunID: session.RunID(key.session.ID, key.id), SessionID: key.session.ID, Turn: turn.Number, State: stateOf(turn), CreatedAt: turn.CreatedAt.UTC(), UpdatedAt: turn.CreatedAt.UTC(),
			Pending: orEmpty(turn.Pending), Result: api.Success(ctx, invoked, newResponse(key.session.ID, &turn, text, parts)),
			Stored: &turn,
		}
		if failed != nil { // the turn is of before the answer
			info.State, info.Result = session.Failed, record.Result
		}
		if record != nil {
			expires := record.ExpiresAt.UTC()
			info.CreatedAt, info.UpdatedAt, info.ExpiresAt = record.CreatedAt.UTC(), record.UpdatedAt.UTC(), &expires
		}
		return info, nil
	case !errors.Is(found, session.ErrNotFound):
		return RunInfo{}, storeFailure(found)
	case record != nil:
		return s.runInfo(record), nil
	}
	return RunInfo{}, found
}

// stateOf returns the state of the run of a stored turn.
func stateOf(t session.Turn) session.RunState {
	switch t.FinishReason {
	case finishStopped:
		return session.Stopped
	case finishWaiting:
		return session.Waiting
	case finishFailed:
		return session.Failed
	}
	return session.Done
}

// Finish reasons that are not the model's. They are upper case like Gemini's, in whose place
// clients read them, and are none of Gemini's.
const (
	finishStopped = "STOPPED"
	finishWaiting = "WAITING"
	finishFailed  = "FAILED"
)

// stopped documents the answer to a stop.
func stopped() []api.DocAnswer {
	return []api.DocAnswer{{Status: http.StatusAccepted, Name: "Stopped", Description: "It stops.", Data: RunStop{}}}
}

// runRoutes returns the routes of runs, but for approvals.
func (s *Service) runRoutes() []api.Route {
	return []api.Route{
		{
			Method: http.MethodGet, Path: "/runs", Handler: s.listRuns, Audit: api.AuditRunList,
			Summary: "List your runs of the last 24 hours, the newest first.",
			Doc: api.Doc{
				ID: "listRuns", Tag: api.TagRuns, Params: []string{"runState", "runSession", "limit", "cursor"},
				Description: "Without those that took less than a second.",
				Errors:      []api.Code{api.ValidationFailed, api.SessionStoreUnavailable},
				Answers:     []api.DocAnswer{{Status: http.StatusOK, Description: "The runs.", Data: RunList{}}},
			},
		},
		{
			Method: http.MethodGet, Path: "/runs/{id}", Handler: s.getRun, Audit: api.AuditRunRead,
			Summary: "Read a run.",
			Doc: api.Doc{
				ID: "getRun", Tag: api.TagRuns, Params: []string{"runId"},
				Errors:  []api.Code{api.NotFound, api.SessionStoreUnavailable},
				Answers: []api.DocAnswer{{Status: http.StatusOK, Description: "The run.", Data: RunInfo{}}},
			},
		},
		{
			Method: http.MethodGet, Path: "/runs/{id}/events", Handler: s.runEvents, Audit: api.AuditRunRead,
			Summary: "Watch a run from its start, or from the event that was read last.",
			Doc: api.Doc{
				ID: "watchRun", Tag: api.TagRuns, Params: []string{"runId", "Last-Event-ID"},
				Description: "If the instance that worked on it has died, the run goes on here.",
				Errors:      []api.Code{api.NotFound, api.SessionNotFound, api.SessionStoreUnavailable},
				Answers: append([]api.DocAnswer{{
					Status: http.StatusOK, Description: "Its events.", Headers: []string{"X-Accel-Buffering"},
					Content: map[string]any{"text/event-stream": StreamEvent{}},
				}}, api.NoContent("The last event was read.")...),
			},
		},
		{
			Method: http.MethodPost, Path: "/runs/{id}/stop", Handler: s.stopRun, Audit: api.AuditRunStop, Unrefused: true,
			Summary: "Stop a run.",
			Doc: api.Doc{
				ID: "stopRun", Tag: api.TagRuns, Params: []string{"runId"},
				Description: "Within 1.5 seconds, on any instance. The turn is stored with what was shown. " +
					"An id that nobody knows is accepted, too: its run may be in its first second.",
				Errors:  []api.Code{api.NotFound, api.SessionConflict, api.SessionStoreUnavailable},
				Answers: stopped(),
			},
		},
	}
}

// getRun handles GET /runs/{id}.
func (s *Service) getRun(w http.ResponseWriter, r *http.Request) error {
	info, err := s.Read(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	return api.WriteSuccess(w, r, "The run", info)
}

// listRuns handles GET /runs.
func (s *Service) listRuns(w http.ResponseWriter, r *http.Request) error {
	query := r.URL.Query()
	limit, cursor, err := page(query)
	if err != nil {
		return err
	}
	filter := session.RunFilter{State: session.RunState(query.Get("state")), SessionID: query.Get("session_id")}
	states := []session.RunState{session.Working, session.Waiting, session.Done, session.Failed, session.Stopped}
	if query.Has("state") && !slices.Contains(states, filter.State) {
		return api.Invalid("state", "must be working, waiting, done, failed or stopped")
	}
	if query.Has("session_id") && !session.ValidID(filter.SessionID) {
		return api.Invalid("session_id", "must be 16 to 64 letters, digits, - or _")
	}
	runs, next, err := s.Runs(r.Context(), filter, limit, cursor)
	if err != nil {
		return err
	}
	return api.WriteSuccess(w, r, "Runs, the newest first", RunList{Runs: runs, NextCursor: nullable(next)})
}

// runEvents handles GET /runs/{id}/events.
func (s *Service) runEvents(w http.ResponseWriter, r *http.Request) error {
	st := newStream(w, r, events{})
	defer st.close()
	_, err := s.Watch(r.Context(), r.PathValue("id"), r.Header.Get("Last-Event-ID"), st.show)
	if errors.Is(err, errNothingLeft) {
		// Any other answer would have the browser connect again and again
		// (https://html.spec.whatwg.org/multipage/server-sent-events.html#the-eventsource-interface).
		w.WriteHeader(http.StatusNoContent) // which ends an EventSource
		return nil
	}
	return err
}

// stopRun handles POST /runs/{id}/stop.
func (s *Service) stopRun(w http.ResponseWriter, r *http.Request) error {
	if err := s.Stop(r.Context(), r.PathValue("id")); err != nil {
		return err
	}
	return api.WriteAccepted(w, r, "The run stops", RunStop{RunID: r.PathValue("id")})
}

// RunStop is the data of a stop.
type RunStop struct {
	RunID string `json:"run_id"`
}

// resumeChat handles GET /chat/{id}/stream, where the SDK asks for a stream to resume.
// 204 means that there is none.
func (s *Service) resumeChat(w http.ResponseWriter, r *http.Request) error {
	dialect, err := newUIMessages(r)
	if err != nil {
		return err
	}
	key, found, err := s.newestRun(r)
	if err != nil {
		return err
	}
	if !found {
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	st := newStream(w, r, dialect)
	defer st.close()
	_, err = s.watch(r.Context(), key, &Position{Attempt: -1}, new(bool), st.show)
	return err
}

// stopChat handles POST /chat/{id}/stop. A run that is over is session_conflict.
func (s *Service) stopChat(w http.ResponseWriter, r *http.Request) error {
	key, found, err := s.newestRun(r)
	if err != nil {
		return err
	}
	if !found {
		return runOver()
	}
	if err := s.stop(r.Context(), key); err != nil {
		return err
	}
	return api.WriteAccepted(w, r, "The run stops", RunStop{RunID: session.RunID(key.session.ID, key.id)})
}

// newestRun returns the newest run of the session in the path, if it is worked on. An id that
// no session can have has no run, and is no error: the SDK asks for each page that it
// resumes.
func (s *Service) newestRun(r *http.Request) (runKey, bool, error) {
	id := r.PathValue("id")
	if !session.ValidID(id) {
		return runKey{}, false, nil
	}
	key := session.Key{Owner: caller.Owner(r.Context()), ID: id}
	telemetry.SetTurn(r.Context(), func(t *telemetry.Turn) { t.Session = key.Hash() })
	ctx, cancel := context.WithTimeout(r.Context(), storeTimeout)
	defer cancel()
	newest, working, err := s.newestOf(ctx, key)
	if err != nil {
		return runKey{}, false, readFailure(r, err)
	}
	return newest, working, nil
}

// newestOf returns the newest run of a session, and whether it is worked on. One of this
// process is looked for first: in its first second, it has no record.
func (s *Service) newestOf(ctx context.Context, key session.Key) (runKey, bool, error) {
	if live := s.live.newest(key); live != nil {
		return runKey{key, live.turnID}, true, nil
	}
	records, _, err := session.ListRuns(ctx, s.Store, key.Owner, session.RunFilter{SessionID: key.ID}, 1, "")
	if err != nil || len(records) == 0 {
		return runKey{}, false, err
	}
	return runKey{key, records[0].ID}, records[0].State == session.Working, nil
}
