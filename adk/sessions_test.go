package adk_test

import (
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"google.golang.org/adk/v2/model"
	"google.golang.org/adk/v2/session"
	"google.golang.org/adk/v2/session/sessiontestsuite"
	"google.golang.org/genai"

	"example.com/gatehouse/adk"
	"example.com/gatehouse/internal/gcp/emulator"
	"example.com/gatehouse/internal/gcp/firestore"
	store "example.com/gatehouse/session"
)

// stores are the gate's stores, each empty.
var stores = map[string]func(t *testing.T) store.Store{
	"memory": func(*testing.T) store.Store {
		return store.NewMemory(time.Hour, store.MemoryLimit, time.Now, slog.New(slog.DiscardHandler))
	},
	"Firestore": func(t *testing.T) store.Store { return firestore.NewSessions(emulator.Client(t), time.Hour, time.Now) },
}

func TestADKsOwnSuite(t *testing.T) {
	t.Parallel()
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sessiontestsuite.RunServiceTests(t, sessiontestsuite.SuiteOptions{SupportsUserProvidedSessionID: true},
				func(t *testing.T) session.Service { return adk.Sessions(open(t)) })
		})
	}
}

// What the suite does not ask: a long session, which is archived, a large event, a session
// in the place of a deleted one, and two that append at once.
func TestSessionsBeyondTheSuite(t *testing.T) {
	t.Parallel()
	for name, open := range stores {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx := t.Context()
			s := adk.Sessions(open(t))
			made, err := s.Create(ctx, &session.CreateRequest{AppName: "app", UserID: "ada", SessionID: "one", State: map[string]any{"n": 1.0}})
			if err != nil {
				t.Fatal(err)
			}
			event := func(text string) *session.Event {
				return &session.Event{ID: text[:min(len(text), 8)], Author: "user", InvocationID: "i", Timestamp: time.Now(), LLMResponse: contentOf(text)}
			}
			if err := s.AppendEvent(ctx, made.Session, event(strings.Repeat("x", store.MaxTurnBytes))); !errors.Is(err, store.ErrTooLarge) {
				t.Errorf("a large event: %v", err)
			}
			const events = 40
			for i := range events {
				if err := s.AppendEvent(ctx, made.Session, event(strings.Repeat(string(rune('a'+i%26)), 30_000))); err != nil {
					t.Fatal(err)
				}
			}
			got, err := s.Get(ctx, &session.GetRequest{AppName: "app", UserID: "ada", SessionID: "one"})
			if err != nil || name == "Firestore" && got.Session.Events().Len() != events {
				t.Fatalf("%d events, %v", got.Session.Events().Len(), err)
			}
			if last := got.Session.Events().At(got.Session.Events().Len() - 1); last.Content.Parts[0].Text[0] != 'a'+(events-1)%26 {
				t.Errorf("the last event is %.20s", last.Content.Parts[0].Text)
			}
			done := make(chan error, 2)
			for range 2 {
				go func() { done <- s.AppendEvent(ctx, got.Session, event("at once")) }()
			}
			if err := errors.Join(<-done, <-done); err != nil {
				t.Error(err)
			}
			if err := s.Delete(ctx, &session.DeleteRequest{AppName: "app", UserID: "ada", SessionID: "one"}); err != nil {
				t.Fatal(err)
			}
			if err := s.AppendEvent(ctx, made.Session, event("too late")); err == nil {
				t.Error("a deleted session takes events")
			}
			again, err := s.Create(ctx, &session.CreateRequest{AppName: "app", UserID: "ada", SessionID: "one"})
			if err != nil || again.Session.Events().Len() != 0 {
				t.Fatalf("in its place: %v", err)
			}
			if _, err := again.Session.State().Get("n"); !errors.Is(err, session.ErrStateKeyNotExist) {
				t.Errorf("the deleted session's state: %v", err)
			}
			listed, err := s.List(ctx, &session.ListRequest{AppName: "app"})
			if err != nil || len(listed.Sessions) != 1 || listed.Sessions[0].UserID() != "ada" || listed.Sessions[0].ID() != "one" {
				t.Errorf("listed: %v, %v", listed, err)
			}
		})
	}
}

func contentOf(text string) model.LLMResponse {
	return model.LLMResponse{Content: genai.NewContentFromText(text, genai.RoleUser)}
}
