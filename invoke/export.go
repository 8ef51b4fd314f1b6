package invoke

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"
	"time"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/caller"
	"example.com/gatehouse/internal/telemetry"
	"example.com/gatehouse/session"
)

// An export is written as it is read, since an owner may have more than fits in memory, and a
// status cannot be taken back once the first line is out. So its last line decides: the kind
// end means that all is there, error that it is not, and neither that the connection broke. It
// is no snapshot: what changes while it goes on is exported as it was when it was read. Each
// line has its kind, so that a reader can pass over kinds that are added later.

// The lines of an export. Kind is the line's type.
type (
	exportedSession struct {
		Kind string `json:"kind"` // session
		SessionInfo
	}
	exportedTurn struct {
		Kind      string          `json:"kind"` // turn
		SessionID string          `json:"session_id"`
		Loop      json.RawMessage `json:"loop,omitempty"` // what a framework has kept of it
		TurnInfo
	}
	exportedFeedback struct {
		Kind      string `json:"kind"` // feedback
		SessionID string `json:"session_id"`
		Turn      int    `json:"turn"`
		*FeedbackInfo
	}
	exportedFile struct {
		Kind      string `json:"kind"` // file
		SessionID string `json:"session_id"`
		Turn      int    `json:"turn"`
		File
	}
	exportedState struct {
		Kind      string          `json:"kind"`                 // state
		SessionID string          `json:"session_id,omitempty"` // absent: the user's
		Name      string          `json:"name"`
		Value     json.RawMessage `json:"value"`
	}
	exportedRun struct {
		Kind      string            `json:"kind"` // run
		RunID     string            `json:"run_id"`
		SessionID string            `json:"session_id"`
		State     session.RunState  `json:"state"`
		CreatedAt time.Time         `json:"created_at"`
		UpdatedAt time.Time         `json:"updated_at"`
		Pending   []session.Pending `json:"pending"`
	}
	exportedUsage struct {
		Kind string `json:"kind"` // usage
		UsageReport
	}
	exportedEnd struct {
		Kind  string    `json:"kind"` // end, or error: the export is not whole
		Error *api.Code `json:"error,omitempty"`
	}
)

// An export writes what is stored for an owner, page by page.
type export struct {
	*Service
	owner   session.Owner
	control *http.ResponseController
	client  *exportClient
	encoder *json.Encoder // to the client
}

// An exportClient notes why its client takes nothing more.
type exportClient struct {
	to   io.Writer
	left error
}

// Write implements io.Writer.
func (c *exportClient) Write(p []byte) (int, error) {
	n, err := c.to.Write(p)
	c.left = cmp.Or(c.left, err)
	return n, err
}

// exportRoute returns the route of GET /export.
func (s *Service) exportRoute() api.Route {
	return api.Route{
		// JSON lines instead of the envelope, so that an export of any size is never held
		// whole.
		Method: http.MethodGet, Path: "/export", Handler: s.export, Audit: "owner.export", Media: "application/jsonl",
		Summary: "Export all that is stored for you.",
		Doc: api.Doc{
			ID: "export", Tag: api.TagSessions, Errors: []api.Code{api.SessionStoreUnavailable},
			Description: "As JSON lines. Without the last line, `end`, the export is not whole.",
			Answers:     []api.DocAnswer{{Status: http.StatusOK, Description: "A line for each thing, with its `kind`.", Content: map[string]any{"application/jsonl": ""}}},
		},
	}
}

// export handles GET /export. A failure after the first line is its last one.
func (s *Service) export(w http.ResponseWriter, r *http.Request) error {
	ctx := r.Context()
	client := &exportClient{to: w}
	e := &export{s, caller.Owner(ctx), http.NewResponseController(w), client, json.NewEncoder(client)}
	pages := []func(context.Context) error{e.user, e.sessions, e.runs, e.spent}
	first, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	if err := s.Store.Ping(first); err != nil { // an ordinary error while there is nothing yet
		return readFailure(r, err)
	}
	w.Header().Set("Content-Type", "application/jsonl")
	end := exportedEnd{Kind: "end"}
	for _, page := range pages {
		if err := page(ctx); err != nil {
			failed := api.AsError(readFailure(r, err))
			if client.left != nil { // which is no failure of the store
				failed = api.Fail(api.ClientClosedRequest, err)
			}
			telemetry.Fail(ctx, failed)
			end = exportedEnd{Kind: "error", Error: &failed.Code}
			break
		}
	}
	_ = e.write(end) // a client that has left needs nothing more
	return nil
}

// write writes a line through to the client, which must not hold the request by not reading.
func (e *export) write(line any) error {
	api.BoundWrite(e.control)
	return e.encoder.Encode(line)
}

// charge has a page, which costs reads, cost the caller a tenth of a turn. Nothing is refused
// for it: an export that ends in the middle is worth nothing. Without a charge it would be the
// cheapest way to cause reads.
func (e *export) charge(ctx context.Context) {
	if e.Limiter != nil {
		who, _ := caller.FromContext(ctx)
		e.Limiter.Charge(ctx, e.Limits.Rules(who), 1)
	}
}

// each calls page with the cursor of each page, the first one's being "", until there is
// no next one.
func (e *export) each(ctx context.Context, page func(ctx context.Context, cursor string) (next string, err error)) error {
	for cursor := ""; ; {
		reading, cancel := context.WithTimeout(ctx, storeTimeout)
		next, err := page(reading, cursor)
		cancel()
		if err != nil || next == "" {
			return err
		}
		cursor = next
		e.charge(ctx)
		// A client sees each page when it is read, and one that has left ends the reads here.
		if err := e.control.Flush(); err != nil && !errors.Is(err, http.ErrNotSupported) {
			e.client.left = err
			return err
		}
	}
}

// user writes the state that belongs to the owner and to no session.
func (e *export) user(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	user, err := e.Store.LoadUser(ctx, e.owner)
	if err != nil {
		return err
	}
	return e.state("", user.Values)
}

// state writes values in the order of their names, so that two exports of the same data are
// equal. sessionID is "" for the owner's own.
func (e *export) state(sessionID string, values map[string]json.RawMessage) error {
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if err := e.write(exportedState{"state", sessionID, name, values[name]}); err != nil {
			return err
		}
	}
	return nil
}

// sessions writes the sessions with all that belongs to them, page by page: an owner may have
// more than fits in memory. One that is deleted in between is left out.
func (e *export) sessions(ctx context.Context) error {
	return e.each(ctx, func(listing context.Context, cursor string) (string, error) {
		list, next, err := e.Store.List(listing, e.owner, maxPage, cursor)
		if err != nil {
			return "", err
		}
		for _, m := range list {
			if err := e.session(ctx, m); err != nil && !errors.Is(err, session.ErrNotFound) { // deleted since
				return "", err
			}
		}
		return next, nil
	})
}

// session writes a session, its state, and its turns in order, the archived ones among them.
func (e *export) session(ctx context.Context, m session.Meta) error {
	key := session.Key{Owner: e.owner, ID: m.ID}
	e.charge(ctx)
	loading, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	// Pages of turns have no state, so the session is read for it.
	current, err := e.Store.Load(loading, key)
	if err != nil {
		return err
	}
	if err := errors.Join(e.write(exportedSession{"session", newSessionInfo(m)}), e.state(m.ID, current.State)); err != nil {
		return err
	}
	for after := 0; ; {
		reading, cancel := context.WithTimeout(ctx, storeTimeout)
		meta, records, err := e.Store.Turns(reading, key, after, defaultPage)
		cancel()
		if err != nil {
			return err
		}
		for _, record := range records {
			turn, err := record.Turn()
			if err != nil {
				return err
			}
			if err := e.turn(m.ID, newTurnInfo(m.ID, turn, record.Feedback), turn.Loop); err != nil {
				return err
			}
			after = record.Number
		}
		if len(records) == 0 { // the store does not have them any more
			after += defaultPage
		}
		if after >= meta.Turns {
			return nil
		}
	}
}

// turn writes a turn, its files by reference, and its feedback.
func (e *export) turn(sessionID string, t TurnInfo, loop json.RawMessage) error {
	if err := e.write(exportedTurn{"turn", sessionID, loop, t}); err != nil {
		return err
	}
	// The question's are the turn's, the answer's are among its parts.
	files := t.Files
	for _, p := range t.Parts {
		if p.File != nil {
			files = append(files, *p.File)
		}
	}
	for _, f := range files {
		if err := e.write(exportedFile{"file", sessionID, t.Turn, f}); err != nil {
			return err
		}
	}
	if t.Feedback == nil {
		return nil
	}
	return e.write(exportedFeedback{"feedback", sessionID, t.Turn, t.Feedback})
}

// runs writes the records of runs that have not expired. They have no output: that is in the
// turn.
func (e *export) runs(ctx context.Context) error {
	return e.each(ctx, func(ctx context.Context, cursor string) (string, error) {
		runs, next, err := session.ListRuns(ctx, e.Store, e.owner, session.RunFilter{}, maxPage, cursor)
		if err != nil {
			return "", err
		}
		for _, r := range runs {
			line := exportedRun{"run", session.RunID(r.Key.ID, r.ID), r.Key.ID, r.State, r.CreatedAt.UTC(), r.UpdatedAt.UTC(), orEmpty(r.Pending)}
			if err := e.write(line); err != nil {
				return "", err
			}
		}
		return next, nil
	})
}

// spent writes today's use, which has no session.
func (e *export) spent(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	report, err := e.usage(ctx)
	if err != nil {
		return err
	}
	return e.write(exportedUsage{"usage", report})
}
