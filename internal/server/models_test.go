package server

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"example.com/gatehouse/internal/gcp/secret/secrettest"
	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/internal/models"
)

// modelServer is a service of a model that has ended, and of no other.
func modelServer(t *testing.T, env ...string) (*Server, *geminitest.Server) {
	t.Helper()
	gemini := geminitest.Start(t)
	s, _ := newServer(t, anAgent, append([]string{"GEMINI_API_KEY=a-key", "GOOGLE_GEMINI_BASE_URL=" + gemini.URL, "MODEL=gemini-3-pro-preview", "MODEL_FALLBACKS=none"}, env...)...)
	if err := s.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s, gemini
}

// A date takes nothing away: operators see it, and the service answers.
func TestAModelPastItsEnd(t *testing.T) {
	s, _ := modelServer(t)
	if status, text := ask(t, s.Invoke, "/health/ready"); status != http.StatusOK {
		t.Errorf("ready: %d %s", status, text)
	}
	status, text := ask(t, s.Health, "/health")
	if status != http.StatusOK || !strings.Contains(text, `"status":"degraded"`) ||
		!strings.Contains(text, "The model gemini-3-pro-preview ended on 2026-03-09 at the earliest; its successor is gemini-3.1-pro-preview.") {
		t.Errorf("health: %d %s", status, text)
	}
}

// Only the API's own word does, and it may take it back.
func TestAModelThatTheAPIDoesNotHave(t *testing.T) {
	s, gemini := modelServer(t)
	gemini.Retire("gemini-3-pro-preview")
	for path, h := range map[string]http.Handler{"/health/ready": s.Invoke, "/health": s.Health} {
		status, text := ask(t, h, path)
		if status != http.StatusServiceUnavailable {
			t.Errorf("%s: %d %s", path, status, text)
		}
		if path == "/health/ready" && (!strings.Contains(text, `"field":"MODEL"`) || !strings.Contains(text, "gemini-3.1-pro-preview")) {
			t.Errorf("readiness names neither the variable nor the successor: %s", text)
		}
	}
	gemini.Retire()
	request := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/invoke", strings.NewReader(`{"query": "Hello?"}`))
	request.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	if s.Invoke.ServeHTTP(w, request); w.Code != http.StatusOK {
		t.Errorf("a turn once it is back: %d %s", w.Code, w.Body)
	}
	if status, text := ask(t, s.Invoke, "/health/ready"); status != http.StatusOK {
		t.Errorf("ready after it: %d %s", status, text)
	}
}

func TestANewerTableOfModels(t *testing.T) {
	raw, err := os.ReadFile("../models/models.json")
	if err != nil {
		t.Fatal(err)
	}
	later := strings.Replace(string(raw), `"date": "2026-11-26"`, `"date": "2099-01-01"`, 1)
	const name = "projects/p/secrets/models-table/versions/latest"
	for _, tt := range []struct {
		name, payload string
		taken         bool
		says          string // in /health
	}{
		{"a later one, by which the model goes on", strings.Replace(later, `"ends": "2026-03-09"`, `"ends": "2199-01-01"`, 1), true, ""},
		{"one that cannot be read", "{", false, "MODELS_TABLE_SECRET"},
		{"one that the built-in table has caught up with", strings.Replace(later, "2099-01-01", "2020-01-01", 1), false, ""},
		{"one without the model that is in use", strings.Replace(later, `"gemini-3-pro-preview": {`, `"gemini-3-no-preview": {`, 1), false, "gemini-3-pro-preview, which is in use"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			manager := secrettest.Start(t)
			manager.Set(name, tt.payload)
			s, _ := modelServer(t, "MODELS_TABLE_SECRET="+name, "SECRET_MANAGER_ENDPOINT="+manager.Addr)
			if taken := s.tables.Table() != models.BuiltIn(); taken != tt.taken {
				t.Errorf("taken: %t, want %t", taken, tt.taken)
			}
			status, text := ask(t, s.Health, "/health")
			if status != http.StatusOK || strings.Contains(text, `"status":"degraded"`) == tt.taken || !strings.Contains(text, tt.says) ||
				tt.says == "" && strings.Contains(text, "MODELS_TABLE_SECRET") {
				t.Errorf("health: %d %s", status, text)
			}
		})
	}
	t.Run("one that cannot be fetched", func(t *testing.T) {
		manager := secrettest.Start(t)
		s, _ := modelServer(t, "MODELS_TABLE_SECRET="+name, "SECRET_MANAGER_ENDPOINT="+manager.Addr)
		if status, text := ask(t, s.Health, "/health"); status != http.StatusOK || !strings.Contains(text, `"status":"degraded"`) {
			t.Errorf("health: %d %s", status, text)
		}
	})
}

func TestEndingsAreLoggedOnceADay(t *testing.T) {
	var lines bytes.Buffer
	e := endings{tables: &models.Live{}, names: []string{"gemini-2.5-flash", "gemini-3.1-flash-lite"}, log: slog.New(slog.NewJSONHandler(&lines, nil))}
	for _, tt := range []struct {
		now       string
		sentences int
		logged    string // the message of the one line; "" for none
	}{
		{"2026-10-31T12:00:00Z", 0, ""},
		{"2026-11-01T00:00:00Z", 1, "Model is near its end date."},
		{"2026-11-01T23:59:00Z", 1, ""},
		{"2026-11-02T00:01:00Z", 1, "Model is near its end date."},
		{"2026-12-01T00:00:00Z", 1, "Model has passed its end date."},
		{"2026-12-01T00:01:00Z", 1, ""},
		{"2027-04-10T00:00:00Z", 2, "Model has passed its end date."},
	} {
		now, err := time.Parse(time.RFC3339, tt.now)
		if err != nil {
			t.Fatal(err)
		}
		lines.Reset()
		if got := e.warnings(t.Context(), now); len(got) != tt.sentences {
			t.Errorf("%s: %q", tt.now, got)
		}
		text := lines.String()
		if (tt.logged == "") != (text == "") || !strings.Contains(text, tt.logged) {
			t.Errorf("%s: logged %q, want %q", tt.now, text, tt.logged)
		}
		if text != "" && !strings.Contains(text, `"model":"gemini-2.5-flash","ends":"2026-12-01","successor":"gemini-3.5-flash-lite"`) {
			t.Errorf("%s: the line has no fields of the model: %s", tt.now, text)
		}
	}
}
