package invoke

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"unicode"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/telemetry"
	"example.com/gatehouse/session"
)

// Feedback is the body of PUT /sessions/{id}/turns/{turn}/feedback.
type Feedback struct {
	Score   int    `json:"score" enum:"-1,0,1" doc:"Thumbs down, neither, thumbs up."`
	Comment string `json:"comment,omitempty" maxLength:"2000" pattern:"^[^\\x00]*$" patternDescription:"text without NUL"`
}

// Rename is the body of PUT /sessions/{id}/title.
type Rename struct {
	Title string `json:"title" minLength:"1" maxLength:"80" pattern:"^[^\\x00-\\x1f\\x7f]*$" patternDescription:"one line of text"`
}

// feedbackRoutes returns the routes of what people add to a session.
func (s *Service) feedbackRoutes() []api.Route {
	return []api.Route{
		{
			Method: http.MethodPut, Path: "/sessions/{id}/title", Handler: s.renameSession, Audit: "session.rename",
			Summary: "Rename a session.",
			Doc: api.Doc{
				ID: "renameSession", Tag: api.TagSessions, Params: []string{"sessionId"},
				Errors:  []api.Code{api.ContentBlocked, api.SessionNotFound, api.SessionStoreUnavailable},
				Body:    &api.DocBody{Type: Rename{}},
				Answers: api.NoContent("It has the title."),
			},
		},
		{
			Method: http.MethodPut, Path: "/sessions/{id}/turns/{turn}/feedback", Handler: s.putFeedback, Audit: "turn.feedback",
			Summary: "Rate a turn.",
			Doc: api.Doc{
				ID: "putFeedback", Tag: api.TagSessions, Params: []string{"sessionId", "turnNumber"},
				Description: "A later rating replaces an earlier one.",
				Errors:      []api.Code{api.ContentBlocked, api.NotFound, api.SessionNotFound, api.SessionStoreUnavailable},
				Body:        &api.DocBody{Type: Feedback{}},
				Answers:     api.NoContent("It is stored."),
			},
		},
	}
}

// renameSession handles PUT /sessions/{id}/title.
func (s *Service) renameSession(w http.ResponseWriter, r *http.Request) error {
	key, err := sessionKey(r)
	if err != nil {
		return err
	}
	body, err := s.rename.Read(w, r, s.MaxBodyBytes, s.Timeout)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), storeTimeout)
	defer cancel()
	title, err := s.comment(ctx, key, 0, "title", body.Title, session.MaxTitle)
	if err != nil {
		return err
	}
	// An empty title would leave the old one, with a 204 beside it.
	if title == "" {
		return api.Fail(api.Internal, errors.New("the agent's hook Question left no title"))
	}
	// The decoder refuses what is not on one line, but the hook ran after it.
	title = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, title)
	if err := session.Rename(ctx, s.Store, key, title); err != nil {
		return readFailure(r, err)
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// putFeedback handles PUT /sessions/{id}/turns/{turn}/feedback. It overwrites earlier
// feedback.
func (s *Service) putFeedback(w http.ResponseWriter, r *http.Request) error {
	key, err := sessionKey(r)
	if err != nil {
		return err
	}
	turn, err := strconv.Atoi(r.PathValue("turn"))
	// One path for each turn: 01 and +1 are numbers, and no turn's path.
	if err != nil || turn < 1 || strconv.Itoa(turn) != r.PathValue("turn") {
		return api.Fail(api.NotFound, nil)
	}
	body, err := s.feedback.Read(w, r, s.MaxBodyBytes, s.Timeout)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(r.Context(), storeTimeout)
	defer cancel()
	if body.Comment, err = s.comment(ctx, key, turn, "feedback", body.Comment, maxReason); err != nil {
		return err
	}
	f := session.Feedback{Score: body.Score, Comment: body.Comment, At: s.Now().UTC()}
	if err := s.Store.SetFeedback(ctx, key, turn, f); err != nil {
		return readFailure(r, err)
	}
	telemetry.SetTurn(ctx, func(t *telemetry.Turn) { t.Number = turn })
	s.Observer.Feedback(ctx, body.Score)
	w.WriteHeader(http.StatusNoContent)
	return nil
}
