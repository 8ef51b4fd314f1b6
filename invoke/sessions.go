package invoke

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/caller"
	"example.com/gatehouse/internal/files"
	"example.com/gatehouse/internal/telemetry"
	"example.com/gatehouse/session"
)

// The number of entries on a page, by default and at most. A page is read and sent whole.
const (
	defaultPage = 20
	maxPage     = 100
)

// A SessionInfo describes a session to clients.
type SessionInfo struct {
	SessionID   string    `json:"session_id" pattern:"^[A-Za-z0-9_-]{16,64}$"`
	CreatedAt   time.Time `json:"created_at"`
	UpdatedAt   time.Time `json:"updated_at"`
	ExpiresAt   time.Time `json:"expires_at" doc:"Unless a turn is added before."`
	Turns       int       `json:"turns" minimum:"1"`
	TotalTokens int64     `json:"total_tokens" minimum:"0"`
	Title       string    `json:"title" doc:"The beginning of the first question, unless renamed."`
}

// A SessionList is the data of GET /sessions.
type SessionList struct {
	Sessions   []SessionInfo `json:"sessions"`
	NextCursor *string       `json:"next_cursor" doc:"Null on the last page."`
}

func newSessionInfo(m session.Meta) SessionInfo {
	return SessionInfo{
		SessionID: m.ID, CreatedAt: m.CreatedAt.UTC(), UpdatedAt: m.UpdatedAt.UTC(), ExpiresAt: m.ExpiresAt.UTC(),
		Turns: m.Turns, TotalTokens: m.TotalTokens, Title: m.Title,
	}
}

// A TurnInfo describes a stored turn to clients.
type TurnInfo struct {
	Turn         int                `json:"turn" minimum:"1"`
	RunID        string             `json:"run_id"`
	Query        string             `json:"query"`
	Files        []File             `json:"files" doc:"Of the question; the answer's are among the parts."`
	Response     string             `json:"response"`
	Parts        []PartInfo         `json:"parts" doc:"What the run showed, in order."`
	ToolCalls    []session.ToolCall `json:"tool_calls"`
	Sources      []Source           `json:"sources"`
	Output       json.RawMessage    `json:"output"`
	Usage        session.Usage      `json:"usage"`
	Model        string             `json:"model"`
	FinishReason string             `json:"finish_reason"`
	Warnings     []string           `json:"warnings"`
	Pending      []session.Pending  `json:"pending"`
	Feedback     *FeedbackInfo      `json:"feedback"`
	RequestID    string             `json:"request_id"`
	CreatedAt    time.Time          `json:"created_at"`
	Timing       session.Timing     `json:"timing"`
	Suggestions  string             `json:"search_suggestions,omitempty"`
	AgentDigest  string             `json:"agent_digest" doc:"A hash of the agent's instruction, tools and settings; empty for turns of earlier releases."`
}

// A FeedbackInfo is an opinion on a turn.
type FeedbackInfo struct {
	Score   int       `json:"score" minimum:"-1" maximum:"1"`
	Comment string    `json:"comment"`
	At      time.Time `json:"at"`
}

// Schema implements [huma.SchemaProvider]: an object or null. The type plain has no method
// Schema, without which this one would call itself.
func (FeedbackInfo) Schema(r huma.Registry) *huma.Schema {
	type plain FeedbackInfo
	s := huma.SchemaFromType(r, reflect.TypeFor[plain]())
	s.Nullable = true
	return s
}

// A PartInfo is one thing that a run has shown.
type PartInfo struct {
	Type string    `json:"type" enum:"text,reasoning,tool,file"`
	Text string    `json:"text,omitempty"`
	Tool *ToolInfo `json:"tool,omitempty"`
	File *File     `json:"file,omitempty"`
}

// A ToolInfo is a tool call with its end.
type ToolInfo struct {
	ID         string         `json:"id"`
	Name       string         `json:"name"`
	Args       map[string]any `json:"args"`
	OK         bool           `json:"ok"`
	DurationMS int64          `json:"duration_ms"`
	Error      string         `json:"error,omitempty"`
	Result     any            `json:"result,omitempty"`
}

// newPartInfos describes parts: a tool call and its end are one. Sources, approvals and
// progress are left out: the turn has the first two in fields beside, and progress means
// nothing once the call has ended.
func newPartInfos(parts []session.Part) []PartInfo {
	infos := []PartInfo{}
	calls := map[string]*ToolInfo{} // that have not ended, by id
	for _, p := range parts {
		switch p.Kind {
		case session.KindText:
			infos = append(infos, PartInfo{Type: "text", Text: p.Text})
		case session.KindReasoning:
			infos = append(infos, PartInfo{Type: "reasoning", Text: p.Text})
		case session.KindToolCall:
			call := &ToolInfo{ID: p.ID, Name: p.Name, Args: arguments(p)}
			calls[p.ID] = call
			infos = append(infos, PartInfo{Type: "tool", Tool: call})
		case session.KindToolResult:
			if call := calls[p.ID]; call != nil {
				call.OK, call.DurationMS, call.Error, call.Result = p.OK, p.DurationMS, p.Error, p.Result
			}
		case session.KindFile:
			infos = append(infos, PartInfo{Type: "file", File: new(fileOf(p))})
		}
	}
	return infos
}

// sourcesOf returns the sources among parts, each once.
func sourcesOf(parts []session.Part) []Source {
	sources := []Source{}
	for _, p := range parts {
		if p.Kind == session.KindSource {
			i := slices.IndexFunc(sources, func(s Source) bool { return s.URI == p.URI })
			if i < 0 {
				sources = append(sources, p.Source())
				continue
			}
			// Concat, because the positions are those of the stored part.
			sources[i].Positions = slices.Concat(sources[i].Positions, p.Positions)
		}
	}
	return sources
}

// filesOf returns the files among parts.
func filesOf(parts []session.Part) []File {
	files := []File{}
	for _, p := range parts {
		if p.Kind == session.KindFile {
			files = append(files, fileOf(p))
		}
	}
	return files
}

// questionFiles returns the files of a turn's question.
func questionFiles(sessionID string, t session.Turn) []File {
	list := []File{}
	for _, f := range t.Files {
		if f.Answer {
			continue
		}
		uri := f.URI
		if f.Digest != "" {
			uri = filePath(sessionID, f.Digest)
		}
		list = append(list, File{Name: f.Name, Type: f.Type, URI: uri})
	}
	return list
}

// SessionTurns is the data of GET /sessions/{id}.
type SessionTurns struct {
	Session    SessionInfo `json:"session"`
	Turns      []TurnInfo  `json:"turns"`
	NextCursor *string     `json:"next_cursor" doc:"Null on the last page."`
}

func newTurnInfo(sessionID string, t session.Turn, f *session.Feedback) TurnInfo {
	query, response := t.Texts()
	parts := t.Shown()
	info := TurnInfo{
		Turn: t.Number, RunID: session.RunID(sessionID, t.ID), Query: query, Files: questionFiles(sessionID, t), Response: response, Parts: newPartInfos(parts),
		ToolCalls: orEmpty(t.ToolCalls), Sources: sourcesOf(parts), Output: t.Output, Usage: t.Usage, Model: t.Model,
		FinishReason: t.FinishReason, Warnings: orEmpty(t.Warnings), Pending: orEmpty(t.Pending), RequestID: t.RequestID, CreatedAt: t.CreatedAt.UTC(),
		Timing: t.Timing, Suggestions: t.Suggestions, AgentDigest: t.AgentDigest,
	}
	if f != nil {
		info.Feedback = &FeedbackInfo{f.Score, f.Comment, f.At.UTC()}
	}
	return info
}

// orEmpty returns list, which JSON must not show as null. Clients in typed languages would
// have to distinguish an absent list from an empty one.
func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}

// sessionRoutes returns the routes of sessions and their files.
func (s *Service) sessionRoutes() []api.Route {
	return []api.Route{
		{
			Method: http.MethodGet, Path: "/sessions", Handler: s.listSessions, Audit: "session.list",
			Summary: "List your sessions, the newest first.",
			Doc: api.Doc{
				ID: "listSessions", Tag: api.TagSessions, Params: []string{"limit", "cursor"},
				Errors: []api.Code{api.ValidationFailed, api.SessionStoreUnavailable},
				Answers: []api.DocAnswer{{
					Status: http.StatusOK, Description: "The sessions.", Data: SessionList{},
					Links: map[string]*huma.Link{"read": link("getSession", "/sessions/0/session_id")},
				}},
			},
		},
		{
			// A right to be forgotten that a rate limit can refuse is none.
			Method: http.MethodDelete, Path: "/sessions", Handler: s.deleteSessions, Audit: "session.delete_all", Unrefused: true,
			Summary: "Delete all of your sessions.",
			Doc: api.Doc{
				ID: "deleteSessions", Tag: api.TagSessions, Errors: []api.Code{api.SessionStoreUnavailable},
				Description: "And all else that is stored for you, in bounded steps: repeat it when it fails.",
				Answers:     api.NoContent("They are deleted."),
			},
		},
		{
			Method: http.MethodGet, Path: "/sessions/{id}", Handler: s.getSession, Audit: "session.read",
			Summary: "Read a session and its turns.",
			Doc: api.Doc{
				ID: "getSession", Tag: api.TagSessions, Params: []string{"sessionId", "limit", "cursor"},
				Description: "Other callers' sessions and expired ones are not found.",
				Errors:      []api.Code{api.SessionNotFound, api.ValidationFailed, api.SessionStoreUnavailable},
				Answers:     []api.DocAnswer{{Status: http.StatusOK, Description: "The session, and its turns in order.", Data: SessionTurns{}}},
			},
		},
		{
			Method: http.MethodDelete, Path: "/sessions/{id}", Handler: s.deleteSession, Audit: "session.delete", Unrefused: true,
			Summary: "Delete a session.",
			Doc: api.Doc{
				ID: "deleteSession", Tag: api.TagSessions, Params: []string{"sessionId"},
				Description: "And everything stored for it.",
				Errors:      []api.Code{api.SessionNotFound, api.SessionStoreUnavailable},
				Answers:     api.NoContent("It is deleted."),
			},
		},
		{
			Method: http.MethodGet, Path: "/sessions/{id}/files/{file}", Handler: s.getFile, Audit: "session.file",
			Summary: "Read a file of a session.",
			Doc: api.Doc{
				ID: "getFile", Tag: api.TagSessions, Params: []string{"sessionId", "fileName"},
				Description: "By its `uri`. Files are kept, as long as their session, where the service has a bucket.",
				Errors:      []api.Code{api.NotFound, api.SessionNotFound, api.SessionStoreUnavailable},
				Answers:     []api.DocAnswer{{Status: http.StatusOK, Description: "The file, with the type that it was checked to be of.", Content: map[string]any{"*/*": ""}}},
			},
		},
	}
}

// listSessions handles GET /sessions.
func (s *Service) listSessions(w http.ResponseWriter, r *http.Request) error {
	limit, cursor, err := page(r.URL.Query())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), storeTimeout)
	defer cancel()
	list, next, err := s.Store.List(ctx, caller.Owner(ctx), limit, cursor)
	if err != nil {
		return readFailure(r, err)
	}
	infos := make([]SessionInfo, len(list))
	for i, m := range list {
		infos[i] = newSessionInfo(m)
	}
	return api.WriteSuccess(w, r, "Sessions, the newest first", SessionList{infos, nullable(next)})
}

// getSession handles GET /sessions/{id}. The cursor is the number of the last turn that was
// read, so that one which is appended between two pages moves none.
func (s *Service) getSession(w http.ResponseWriter, r *http.Request) error {
	key, err := sessionKey(r)
	if err != nil {
		return err
	}
	limit, cursor, err := page(r.URL.Query())
	if err != nil {
		return err
	}
	after := 0
	if cursor != "" {
		if after, err = strconv.Atoi(cursor); err != nil || after < 0 {
			return storeFailure(session.ErrCursor)
		}
	}
	ctx, cancel := context.WithTimeout(r.Context(), storeTimeout)
	defer cancel()
	meta, records, err := s.Store.Turns(ctx, key, after, limit)
	if err != nil {
		return readFailure(r, err)
	}
	next := ""
	switch n := len(records); {
	case n == 0 && after < meta.Turns-limit: // the store does not have them any more
		next = strconv.Itoa(after + limit)
	case n > 0 && records[n-1].Number < meta.Turns:
		next = strconv.Itoa(records[n-1].Number)
	default:
		// Whoever ran the last turn may have died between its commit and its audit entry. Each
		// reader makes up for that, under the same insert id.
		recordPreviousTurn(ctx, key, records)
	}
	turns := make([]TurnInfo, len(records))
	for i, record := range records {
		turn, err := record.Turn()
		if err != nil {
			return api.Fail(api.Internal, err)
		}
		if err := s.settle(ctx, key, &turn, turn.Number == meta.Turns); err != nil {
			return readFailure(r, err)
		}
		turns[i] = newTurnInfo(key.ID, turn, record.Feedback)
	}
	return api.WriteSuccess(w, r, "The session and its turns", SessionTurns{newSessionInfo(meta), turns, nullable(next)})
}

// deleteSession handles DELETE /sessions/{id}.
func (s *Service) deleteSession(w http.ResponseWriter, r *http.Request) error {
	key, err := sessionKey(r)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), storeTimeout)
	defer cancel()
	current, err := s.Store.Load(ctx, key)
	if err != nil && !errors.Is(err, session.ErrNotFound) {
		return readFailure(r, err)
	}
	if err == nil {
		recordPreviousTurn(ctx, key, current.Recent) // there will be no later call that could audit it
	}
	// The files go first: as long as the session is there, a retry continues. Those of a
	// turn that is running are removed when it finds the session gone.
	if err := s.deleteFiles(ctx, sessionPrefix(key)); err != nil {
		return readFailure(r, err)
	}
	if err := s.Store.Delete(ctx, key); err != nil {
		return readFailure(r, err)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// getFile handles GET /sessions/{id}/files/{file}. The names of stored files begin with
// their owner's hash, so that nobody reaches another owner's.
func (s *Service) getFile(w http.ResponseWriter, r *http.Request) error {
	key, err := sessionKey(r)
	if err != nil {
		return err
	}
	digest := r.PathValue("file")
	// The digest becomes part of an object's name, so it must be nothing but one.
	if s.Files.Store == nil || !files.ValidDigest(digest) {
		return api.Fail(api.NotFound, nil)
	}
	ctx, cancel := context.WithTimeout(r.Context(), storeTimeout)
	defer cancel()
	// Files may outlive their session by half a time to live, and must not be read then.
	if current, err := s.Store.Load(ctx, key); err != nil || !current.Exists() {
		return readFailure(r, cmp.Or(err, session.ErrNotFound))
	}
	mediaType, data, err := s.Files.Store.Get(ctx, sessionPrefix(key)+digest, maxStoredFile)
	switch {
	case errors.Is(err, files.ErrNotFound):
		return api.Fail(api.NotFound, nil)
	case err != nil:
		return readFailure(r, errors.Join(err, session.ErrUnavailable))
	}
	h := w.Header()
	h.Set("Content-Type", mediaType)
	h.Set("Content-Length", strconv.Itoa(len(data)))
	// A caller has chosen the content: a browser must not run it as a page of this
	// origin.
	h.Set("Content-Disposition", "attachment")
	h.Set("Content-Security-Policy", "default-src 'none'; sandbox")
	_, _ = w.Write(data) // a client that has gone away needs nothing more
	return nil
}

// maxStoredFile bounds what is read of a stored file, in bytes: MAX_FILE_BYTES may have
// been lowered since.
const maxStoredFile = 32 << 20

// deleteSessions handles DELETE /sessions. It takes bounded steps for as long as a turn may,
// and a retry continues where it ended.
func (s *Service) deleteSessions(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := context.WithTimeout(r.Context(), s.Timeout)
	defer cancel()
	if err := s.deleteFiles(ctx, ownerPrefix(caller.Owner(ctx))); err != nil {
		return readFailure(r, err)
	}
	if err := s.Store.DeleteAll(ctx, caller.Owner(ctx)); err != nil {
		return readFailure(r, err)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// readFailure is failure for routes that only use the store: a store that is too slow
// counts as unavailable. That the client has left is not counted as an error of the service.
func readFailure(r *http.Request, err error) error {
	if e := disconnectError(r.Context(), err); e != nil {
		return e
	}
	return storeFailure(err)
}

// sessionKey returns the key of the session in the path, for its caller. An invalid id
// is not found, like a session of another caller. Only the key's hash goes to the log.
func sessionKey(r *http.Request) (session.Key, error) {
	id := r.PathValue("id")
	if !session.ValidID(id) {
		return session.Key{}, api.Fail(api.SessionNotFound, nil)
	}
	key := session.Key{Owner: caller.Owner(r.Context()), ID: id}
	telemetry.SetTurn(r.Context(), func(t *telemetry.Turn) { t.Session = key.Hash() })
	return key, nil
}

// page returns the parameters limit and cursor.
func page(query url.Values) (limit int, cursor string, err error) {
	limit = defaultPage
	// An empty limit is an error, too: it is more likely a client's mistake than a wish for
	// the default.
	if text := query.Get("limit"); query.Has("limit") {
		if limit, err = strconv.Atoi(text); err != nil || limit < 1 || limit > maxPage {
			return 0, "", api.Invalid("limit", "must be a whole number from 1 to 100")
		}
	}
	return limit, query.Get("cursor"), nil
}

func nullable(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}
