package server

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/config"
	"example.com/gatehouse/internal/gcp/secret"
	"example.com/gatehouse/internal/geminischema"
	"example.com/gatehouse/internal/model"
	"example.com/gatehouse/internal/rescue"
	"example.com/gatehouse/internal/secretname"
)

// newAgentTimeout is when the context of a call of the agent's New ends that has not
// returned.
const newAgentTimeout = 30 * time.Second

// agentSecretTimeout bounds reading one secret for New. It lies within newAgentTimeout,
// since the context is New's.
const agentSecretTimeout = 5 * time.Second

// agentCloseTimeout bounds the agent's Close. ShutdownTime leaves less where requests take
// their 8.7 s of its 9.5 s. So the agent closes side by side with telemetry and the limits.
const agentCloseTimeout = time.Second

// An agentError is why there is no agent. Issue holds no text of the agent's own
// code: callers see it.
type agentError struct {
	issue string
	err   error // for the log; may be nil
	final bool  // New is not called again
}

func (e *agentError) Error() string {
	if e.err == nil {
		return "the agent " + e.issue
	}
	return fmt.Sprintf("the agent %s: %v", e.issue, e.err)
}

func (e *agentError) Unwrap() error { return e.err }

// The author's code runs here: New may hang, panic, return nonsense, or succeed after
// everybody stopped waiting. The rules that keep the service predictable are these. New is
// called on a goroutine of the process and not of a request, so that a client that leaves
// does not cancel it. It is called once at a time, and never after it has succeeded: agents
// open connections and register things. Its context lives as long as the agent, because
// clients made with it may hold on to it; it ends when the agent is closed, or after 30 s
// in which New has not returned. What New returns beside an error is never used.

// A builtAgent is an agent that New has returned, with the secrets that follow
// rotation for it.
type builtAgent struct {
	agent.Agent
	secrets []*namedSecret
	cancel  context.CancelFunc // of the context that New was given
}

// agents makes the process's agent. get must not be called at once.
type agents struct {
	new    agent.NewFunc
	lookup func(string) (string, bool)
	client func() (*secret.Client, error)
	status func(context.Context) agent.Status

	mu     sync.Mutex  // not held while New runs
	call   *agentCall  // that has not returned; nil: none
	built  *builtAgent // once New has succeeded
	final  error       // why it never will
	closed bool
}

// failed reports whether there will never be an agent.
func (a *agents) failed() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.final != nil
}

// refuse makes err final, of an agent that was made and cannot be run. The agent stays
// built, and is closed at the end as any other.
func (a *agents) refuse(err error) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.final = err
	return err
}

// An agentCall is a call of New.
type agentCall struct {
	done   chan struct{} // closed when it has returned; what follows is set then
	agent  agent.Agent
	err    error
	env    *environment
	cancel context.CancelFunc
}

// get returns the agent. The first call calls New, and later ones wait for that
// same call until ctx ends: New is not called again while it has not returned, nor
// once it has succeeded.
//
// The error is final where calling New again could not change it: a panic, an agent that is
// wrong as it is, or a variable that is missing, since the environment of a process does
// not change. An error that New returned and a secret that could not be fetched are tried
// again.
func (a *agents) get(ctx context.Context) (*builtAgent, error) {
	call, built, err := a.begin()
	if call == nil {
		return built, err
	}
	select {
	case <-call.done:
	case <-ctx.Done():
		return nil, &agentError{issue: "is not there yet: its New has not returned"}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.call = nil
	built = &builtAgent{Agent: call.agent, cancel: call.cancel, secrets: call.env.fetched()}
	err = call.err
	if err == nil && a.closed {
		err = errors.New("the instance is shutting down")
	}
	if err == nil {
		err = call.env.problem()
	}
	if err == nil {
		err = checkAgent(built.Agent)
	}
	if err != nil {
		if failed, ok := errors.AsType[*agentError](err); ok && failed.final {
			a.final = err
		}
		if _, ok := errors.AsType[config.Problems](err); ok { // the environment does not change
			a.final = err
		}
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), agentCloseTimeout)
		defer cancel()
		return nil, errors.Join(err, built.close(ctx))
	}
	a.built = built
	return built, nil
}

// begin returns the call of New to wait for, or what there is already.
func (a *agents) begin() (*agentCall, *builtAgent, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.built != nil || a.final != nil {
		return nil, a.built, a.final
	}
	if a.closed {
		return nil, nil, errors.New("the instance is shutting down")
	}
	if a.call == nil {
		a.call = a.start()
	}
	return a.call, nil, nil
}

// start calls New. The timer only ends the context: Go cannot end a goroutine that ignores
// it, so get goes on to wait for done, and done is closed only when New has really
// returned.
func (a *agents) start() *agentCall {
	ctx, cancel := context.WithCancel(context.Background())
	c := &agentCall{done: make(chan struct{}), cancel: cancel, env: &environment{ctx: ctx, lookup: a.lookup, client: a.client, status: a.status}}
	timer := time.AfterFunc(newAgentTimeout, cancel)
	go func() {
		defer close(c.done)
		defer c.env.seal()
		err := rescue.Call(func() (err error) {
			c.agent, err = a.new(ctx, agent.NewEnv(c.env))
			return err
		})
		if _, ok := errors.AsType[*rescue.Panic](err); ok {
			c.err = &agentError{issue: "cannot be made: its New panicked", err: err, final: true}
		} else if err != nil {
			c.err = &agentError{issue: "cannot be made: its New returned an error", err: err}
		}
		if err != nil {
			c.agent = agent.Agent{} // what comes with an error is not to be used
		}
		timer.Stop()
	}()
	return c
}

// close calls the agent's Close, until ctx ends, and ends what New's context carries. A
// Close that ignores ctx is left behind; the process ends anyway.
func (b *builtAgent) close(ctx context.Context) error {
	defer b.cancel()
	if b.Close == nil {
		return nil
	}
	closed := make(chan error, 1) // with room: nobody may be waiting any more
	go func() { closed <- rescue.Call(func() error { return b.Close(ctx) }) }()
	select {
	case err := <-closed:
		if err != nil {
			return fmt.Errorf("closing the agent: %w", err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("closing the agent: %w", ctx.Err())
	}
}

// close ends the agent, and New if it has not returned.
func (a *agents) close(ctx context.Context) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed = true
	if a.call != nil {
		a.call.cancel()
	}
	if a.built == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, agentCloseTimeout)
	defer cancel()
	return a.built.close(ctx)
}

// checkAgent reports what is wrong with an agent as it is, and with the agents that are its
// tools. It is done at the start so that a mistake fails the deployment's startup probe,
// instead of each turn with the model's own 400. It reports the first fault.
func checkAgent(a agent.Agent) error { return checkAgents(a, nil) }

// checkAgents is checkAgent for an agent that is the last of path, a tool of the one
// before it; of an empty one for the agent itself.
func checkAgents(a agent.Agent, path []*agent.Agent) error {
	within := ""
	if len(path) > 0 {
		within = fmt.Sprintf("has the agent %q as a tool, which ", a.Name)
	}
	wrong := func(format string, args ...any) error {
		return &agentError{issue: within + fmt.Sprintf(format, args...), final: true}
	}
	if strings.TrimSpace(a.Name) == "" {
		return wrong("has no Name")
	}
	if t := a.Temperature; t != nil && !(*t >= 0 && *t <= 2) { // NaN is refused too
		return wrong("has the Temperature %v; set one from 0 to 2", *t)
	}
	if a.MaxTokens < 0 {
		return wrong("has %d MaxTokens; set none, or more than 0", a.MaxTokens)
	}
	if len(path) > agent.MaxDepth {
		return wrong("is too deep: at most %d agents may be tools of each other", agent.MaxDepth)
	}
	if len(a.Tools) > geminischema.MaxFunctions {
		return wrong("has %d tools; Gemini takes at most %d", len(a.Tools), geminischema.MaxFunctions)
	}
	if field := besideLoop(a); field != "" {
		return wrong("has a Loop beside %s; set that where the Loop's own framework has it", field)
	}
	seen := map[string]bool{}
	for _, t := range a.Tools {
		switch {
		case t.Name() == "":
			return wrong("has a tool without a name; make tools with tool.New")
		case seen[t.Name()]:
			return wrong("has two tools named %q", t.Name())
		}
		seen[t.Name()] = true
		if t.Schema() == nil {
			continue
		}
		if err := geminischema.CheckArguments(t.Schema()); err != nil {
			return wrong("has the tool %q, whose arguments Gemini does not take: %v", t.Name(), err)
		}
		// Effects and approvals are entries in the record of the main agent's run, which a run
		// inside a tool call does not have: after a crash nobody could know what was done.
		if len(path) > 0 && (t.HasEffect() || t.Asks()) {
			return wrong("has the tool %q, which changes the world or asks a person: only the tools of the main agent may", t.Name())
		}
		sub := agent.Of(t)
		switch {
		case sub == nil:
			continue
		case slices.Contains(path, sub):
			return wrong("includes %q, and so itself, in a circle", sub.Name)
		case strings.TrimSpace(sub.Description) == "":
			return wrong("has the agent %q as a tool without a Description, by which the model chooses it", sub.Name)
		}
		if err := checkAgents(*sub, append(slices.Clip(path), sub)); err != nil {
			return err
		}
	}
	if a.Output != nil {
		if err := geminischema.Check(a.Output.Schema()); err != nil {
			return wrong("has an Output that Gemini does not take: %v", err)
		}
	}
	if slices.Contains(a.Toolsets, nil) {
		return wrong("has a nil entry in Toolsets")
	}
	return nil
}

// besideLoop names a field of an agent with a Loop that the Loop would pass over.
func besideLoop(a agent.Agent) string {
	switch {
	case a.Loop == nil:
	case a.Loop.Answer == nil:
		return "no Answer"
	case a.Instruction != "":
		return "Instruction"
	case a.Instructions != nil:
		return "Instructions"
	case a.Hooks.Tool != nil:
		return "Hooks.Tool"
	case a.Temperature != nil:
		return "Temperature"
	case a.MaxTokens != 0:
		return "MaxTokens"
	case a.Model != nil:
		return "Model"
	case a.Output != nil:
		return "Output"
	case len(a.Tools) > 0:
		return "Tools"
	case len(a.Toolsets) > 0:
		return "Toolsets"
	}
	return ""
}

// checkSettings reports what the models that may answer, or their API, do not take of the
// agent. The agent and the deployment are what they are, so it is final. It comes after
// checkAgent, and needs the model's client: which settings are taken depends on the API
// behind it and on every model that may answer, fallbacks included.
func (s *Server) checkSettings(ctx context.Context, p *parts) error {
	if err := s.checkSettingsOf(ctx, p.model, p.agent, "its "); err != nil {
		return s.agents.refuse(&agentError{issue: "cannot be run as it is: " + err.Error(), final: true})
	}
	return nil
}

// checkSettingsOf checks an agent, which whose calls so, and those that are its tools.
// They do not include each other in a circle.
func (s *Server) checkSettingsOf(ctx context.Context, client *model.Client, a agent.Agent, whose string) error {
	if err := client.CheckAgent(ctx, model.Agent{Settings: a.Model, Tools: a.Tools, Sets: len(a.Toolsets) > 0}, s.askable()); err != nil {
		return fmt.Errorf("%s%w", whose, err)
	}
	for _, t := range a.Tools {
		if sub := agent.Of(t); sub != nil {
			if err := s.checkSettingsOf(ctx, client, *sub, fmt.Sprintf("the agent %q's ", sub.Name)); err != nil {
				return err
			}
		}
	}
	return nil
}

// An environment is what New is given, for one call of it. It is safe for
// concurrent use.
//
// It is sealed when New returns. A name that is asked for later gets what was read before,
// or an empty secret: reading it then would need a network call in the middle of a turn,
// and its failure could stop no start.
type environment struct {
	ctx    context.Context // New's
	lookup func(string) (string, bool)
	client func() (*secret.Client, error)
	status func(context.Context) agent.Status

	mu       sync.Mutex
	known    map[string]agent.Secret
	named    []*namedSecret
	problems config.Problems
	errs     []error // of reading secrets, which may go well later
	sealed   bool    // New has returned: nothing is read any more
}

// Status implements agent.Source. While New has not returned the service is not
// there to be asked.
func (e *environment) Status(ctx context.Context) agent.Status {
	e.mu.Lock()
	sealed := e.sealed
	e.mu.Unlock()
	if !sealed {
		return agent.Status{Status: "unhealthy"}
	}
	return e.status(ctx)
}

// variableName is what the name of a variable looks like.
var variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// Secret implements agent.Source. Its failures are gathered and not returned, so that New
// can ask for everything first and one attempt reports all that is missing. New may
// therefore go on with empty secrets, and its result is discarded if there was a problem.
func (e *environment) Secret(name string) agent.Secret {
	e.mu.Lock()
	defer e.mu.Unlock()
	if s, ok := e.known[name]; ok || e.sealed {
		return s
	}
	s := e.read(name)
	if e.known == nil {
		e.known = map[string]agent.Secret{}
	}
	e.known[name] = s
	return s
}

// read finds the secret. e.mu is held. A secret from Secret Manager follows rotation: it
// reveals what the latest fetch stored. One from the environment cannot change in this
// process.
func (e *environment) read(name string) agent.Secret {
	problem := func(variable, issue string) agent.Secret {
		e.problems = append(e.problems, config.Problem{Variable: variable, Issue: issue})
		return agent.Secret{}
	}
	if !variableName.MatchString(name) {
		return problem(name, "the agent asks for a secret by this name, which is no variable's")
	}
	get := func(name string) string {
		value, _ := e.lookup(name)
		return strings.TrimSpace(value)
	}
	variable := name + "_SECRET"
	value, version := get(name), get(variable)
	switch {
	case value != "" && version != "":
		return problem(variable, "is set beside "+name+"; unset one of them")
	case value != "":
		return agent.NewSecret(func() string { return value })
	case version == "":
		return problem(name, "the agent needs it; set it, or "+variable+" to the version of a secret")
	case secretname.Check(version) != nil:
		return problem(variable, "is not a secret version's name; set projects/PROJECT/secrets/SECRET/versions/latest")
	}
	payload, err := e.access(version)
	if err != nil {
		e.errs = append(e.errs, &fetchError{variable, err})
		return agent.Secret{}
	}
	var current atomic.Pointer[string]
	take := func(_ context.Context, payload string) error {
		value := strings.TrimSpace(payload)
		if value == "" {
			return errors.New("the secret is empty")
		}
		current.Store(&value)
		return nil
	}
	if err := take(e.ctx, payload); err != nil {
		e.errs = append(e.errs, &fetchError{variable, err})
		return agent.Secret{}
	}
	named := &namedSecret{
		variable: variable, name: version, take: take, taken: true, last: payload,
		drop: func(context.Context) { current.Store(new(string)) },
	}
	named.known.Store(time.Now().UnixNano())
	e.named = append(e.named, named)
	return agent.NewSecret(func() string { return *current.Load() })
}

func (e *environment) access(version string) (string, error) {
	client, err := e.client()
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(e.ctx, agentSecretTimeout)
	defer cancel()
	payload, err := client.Access(ctx, version)
	return string(payload), err
}

func (e *environment) seal() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.sealed = true
}

// fetched returns the secrets that were read.
func (e *environment) fetched() []*namedSecret {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.named
}

// problem returns why a secret that New asked for is not there. Problems of the environment
// come first, since they are final and no fetch mends them.
func (e *environment) problem() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.problems) > 0 {
		return e.problems
	}
	return errors.Join(e.errs...)
}
