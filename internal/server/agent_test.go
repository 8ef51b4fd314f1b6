package server

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/internal/gcp/secret/secrettest"
	"example.com/gatehouse/internal/offline"
	"example.com/gatehouse/internal/testlog"
)

const ratesName = "projects/p/secrets/rates-key/versions/latest"

// newSecretAgent returns a function that makes an agent with a secret, and where the
// secret is once it has been called.
func newSecretAgent() (agent.NewFunc, *agent.Secret) {
	key := &agent.Secret{}
	return func(ctx context.Context, env agent.Env) (agent.Agent, error) {
		*key = env.Secret("RATES_KEY")
		return anAgent(ctx, env)
	}, key
}

// newServer makes a server of newAgent with the variables, each "NAME=value"; the last of a
// name counts.
func newServer(t testing.TB, newAgent agent.NewFunc, variables ...string) (*Server, *testlog.Buffer) {
	t.Helper()
	env := map[string]string{}
	for _, variable := range variables {
		name, value, _ := strings.Cut(variable, "=")
		env[name] = value
	}
	written := &testlog.Buffer{}
	s := New(Options{
		Agent: newAgent, Log: io.MultiWriter(written, t.Output()),
		Lookup:  func(name string) (string, bool) { value, ok := env[name]; return value, ok },
		StandIn: &StandIn{Model: offline.Model, Transport: offline.New()},
	})
	t.Cleanup(func() {
		if err := s.Shutdown(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return s, written
}

// ask sends a request, by which secrets that are old are fetched again.
func ask(t *testing.T, h http.Handler, path string) (int, string) {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
	return w.Code, w.Body.String()
}

func TestAnAgentsSecretFollowsItsRotation(t *testing.T) {
	manager := secrettest.Start(t)
	manager.Set(ratesName, "first\n")
	newAgent, key := newSecretAgent()
	s, written := newServer(t, newAgent, "RATES_KEY_SECRET="+ratesName, "SECRET_MANAGER_ENDPOINT="+manager.Addr)
	if err := s.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := &rotation{Server: s, manager: manager}
	s.parts.Load().secrets.now = func() time.Time { return time.Now().Add(time.Duration(r.ahead.Load())) }
	steps := []struct {
		name   string
		change func()
		after  time.Duration
		want   string
	}{
		{"at the start", func() {}, 0, "first"},
		{"rotated, within five minutes", func() { manager.Set(ratesName, "second") }, 4 * time.Minute, "first"},
		{"rotated, after five minutes", func() {}, 2 * time.Minute, "second"},
		{"Secret Manager is away", func() { manager.Fail(ratesName, codes.Unavailable) }, 10 * time.Minute, "second"},
		{"and for a day", func() {}, 24 * time.Hour, "second"},
		{"back, and empty", func() { manager.Set(ratesName, " ") }, 10 * time.Minute, "second"},
		{"set again", func() { manager.Set(ratesName, "third") }, 10 * time.Minute, "third"},
		{"refused once", func() { manager.Fail(ratesName, codes.PermissionDenied) }, 10 * time.Minute, "third"},
		{"refused twice: withdrawn", func() {}, 10 * time.Minute, ""},
		{"given back", func() { manager.Set(ratesName, "fourth") }, 10 * time.Minute, "fourth"},
	}
	for _, step := range steps {
		step.change()
		r.pass(step.after)
		if status, text := ask(t, s.Invoke, "/sessions"); status != http.StatusOK {
			t.Errorf("%s: %d %s", step.name, status, text)
		}
		if got := key.Reveal(); got != step.want {
			t.Errorf("%s: %q, want %q", step.name, got, step.want)
		}
	}
	for _, value := range []string{"first", "second", "third", "fourth"} {
		if strings.Contains(written.String(), value) {
			t.Errorf("the log holds the secret %q", value)
		}
	}
}

// A secret that is not there keeps the service from being ready, in an error that
// names the variable and holds no value.
func TestAnAgentsSecretThatIsNotThere(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name      string
		variables []string
		set       func(*secrettest.Server)
		field     string
		again     bool // it is tried again
	}{
		{"neither variable", nil, nil, "RATES_KEY", false},
		{"an empty variable", []string{"RATES_KEY= "}, nil, "RATES_KEY", false},
		{"both variables", []string{"RATES_KEY=hunter2", "RATES_KEY_SECRET=" + ratesName}, nil, "RATES_KEY_SECRET", false},
		{"no secret version's name", []string{"RATES_KEY_SECRET=hunter2"}, nil, "RATES_KEY_SECRET", false},
		{"no such secret", []string{"RATES_KEY_SECRET=" + ratesName}, nil, "RATES_KEY_SECRET", true},
		{"no access", []string{"RATES_KEY_SECRET=" + ratesName}, func(m *secrettest.Server) { m.Fail(ratesName, codes.PermissionDenied) }, "RATES_KEY_SECRET", true},
		{"an empty secret", []string{"RATES_KEY_SECRET=" + ratesName}, func(m *secrettest.Server) { m.Set(ratesName, "\n") }, "RATES_KEY_SECRET", true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			manager := secrettest.Start(t)
			if test.set != nil {
				test.set(manager)
			}
			newAgent, key := newSecretAgent()
			s, written := newServer(t, newAgent, append(test.variables, "SECRET_MANAGER_ENDPOINT="+manager.Addr)...)
			status, text := ask(t, s.Invoke, "/health/ready")
			if status != http.StatusServiceUnavailable || !strings.Contains(text, `{"field":"`+test.field+`"`) {
				t.Errorf("%d %s, want it to name %s", status, text, test.field)
			}
			if strings.Contains(text+written.String(), "hunter2") {
				t.Errorf("the value is shown: %s\n%s", text, written)
			}
			if !test.again {
				return
			}
			manager.Fail(ratesName, codes.OK)
			manager.Set(ratesName, "key")
			s.mu.Lock()
			s.retry = time.Time{} // the pause between attempts is over
			s.mu.Unlock()
			if status, text := ask(t, s.Invoke, "/health/ready"); status != http.StatusOK || key.Reveal() != "key" {
				t.Errorf("once it is there: %d %s", status, text)
			}
		})
	}
}

// SIGTERM comes while the first request makes the parts. What it makes afterwards is closed,
// and serves nothing.
func TestAServerDrainedInAColdStartClosesWhatItHasMade(t *testing.T) {
	t.Parallel()
	building, drained := make(chan struct{}), make(chan struct{})
	s := New(Options{
		Agent: anAgent, Log: t.Output(),
		Lookup:  func(string) (string, bool) { return "", false },
		StandIn: &StandIn{Model: offline.Model, Transport: offline.New()},
		WrapModel: func(next http.RoundTripper) http.RoundTripper {
			close(building)
			<-drained
			return next
		},
	})
	answered := make(chan int)
	go func() {
		status, _ := ask(t, s.Invoke, "/sessions")
		answered <- status
	}()
	<-building
	if err := s.Drain(t.Context()); err != nil {
		t.Error(err)
	}
	close(drained)
	if status := <-answered; status != http.StatusServiceUnavailable {
		t.Errorf("answered %d", status)
	}
	if s.parts.Load() != nil {
		t.Error("parts that nobody closes stand")
	}
	if status, _ := ask(t, s.Invoke, "/sessions"); status != http.StatusServiceUnavailable {
		t.Errorf("a later request is answered %d", status)
	}
}

// A delivery of the local queue that heeds no context does not keep the process from ending.
func TestDrainEndsInItsTime(t *testing.T) {
	t.Parallel()
	s := New(Options{
		Agent: anAgent, Log: t.Output(),
		Lookup:  func(string) (string, bool) { return "", false },
		StandIn: &StandIn{Model: offline.Model, Transport: offline.New()},
	})
	if err := s.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	release := make(chan struct{})
	s.parts.Load().closeQueue = func() { <-release }
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	drained := make(chan error, 1)
	go func() { drained <- s.Drain(ctx) }()
	select {
	case <-drained:
	case <-time.After(10 * time.Second):
		t.Error("Drain waits for the queue without a bound")
	}
	close(release)
}
