package e2e_test

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"cloud.google.com/go/logging/apiv2/loggingpb"

	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/internal/refresh"
)

// doorsProgram is the tests' own agent as a local program with every door open.
var doorsProgram = sync.OnceValues(func() (string, error) {
	const pkg = "./internal/testagent/doors"
	if raceDetector {
		return build(moduleRoot, "doors", "-race", pkg)
	}
	return build(moduleRoot, "doors", pkg)
})

const (
	stormKeysName = "projects/p-1/secrets/keys/versions/latest"
	// secretsClockSpeed brings the five minutes after which keys are fetched again into a
	// storm.
	secretsClockSpeed = 40
	// stormBudgetLimit is the budget of an end user's day, for each minute that a storm
	// begins: no owner uses it up before the end.
	stormBudgetLimit = 10_000_000
	// tightLimit is the limit of a minute of the caller that calls more often.
	tightLimit = 30
	// usedUp is the owner whose budget is used up in the end. Its sessions are short.
	usedUp = 5
	// mostOutput is what a call may reserve.
	mostOutput = 60_000
	// reservedOutput is what a model call reserves beside its prompt, unless it says.
	reservedOutput = 2048
)

// stormKeys are the API keys of a storm, and more that only may ask for themselves.
func stormKeys(more ...string) string {
	var entries []string
	for _, name := range append([]string{"one", "two", "tight"}, more...) {
		limit := 1_000_000
		if name == "tight" {
			limit = tightLimit
		}
		entries = append(entries, fmt.Sprintf(`{"name": %q, "sha256": "%x", "end_users": true, "rate_limit_per_minute": %d}`, name, sha256.Sum256([]byte("key of "+name)), limit))
	}
	return "[" + strings.Join(entries, ",") + "]"
}

// A stormBill is what a model call has cost, as the model has it.
type stormBill struct {
	owner, place int
	at           time.Time
	billed       int64
	clean        bool // it was answered, and its client waits
	raw          int  // bytes of the request
}

// A stormTrouble is a fault, with its time since the storm's beginning.
type stormTrouble struct {
	stormFault
	from, to time.Duration
}

// A stormSeen is what was seen of a storm beside its calls. Its methods are safe for
// concurrent use.
type stormSeen struct {
	mu       sync.Mutex
	promises stormPromises
	bills    []stormBill
	troubles []stormTrouble
	happened map[faultKind]int
	slowest  map[faultKind]time.Duration // recovery
	tight    map[string]bool             // questions of the caller with a limit that came to the model
	minutes  map[int64]bool              // in which it called
	revoked  time.Duration
	looks    []int // at the revoked key, before and after its deadlines
	sockets  int
	empties  int
	hold     chan struct{} // closed to let the calls go that hold a place
	holding  int
	billFull bool // the model bills all that a call may have reserved
}

func (s *stormSeen) begin(plan stormPlan) {
	s.happened, s.slowest, s.tight, s.minutes = map[faultKind]int{}, map[faultKind]time.Duration{}, map[string]bool{}, map[int64]bool{}
	s.promises.Deadlines = make([]time.Duration, plan.Processes)
	s.looks = make([]int, 2)
	for i := range s.promises.Deadlines {
		s.promises.Deadlines[i] = 1 << 62
	}
	s.hold = make(chan struct{})
}

func (s *stormSeen) count(n *int, more int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	*n += more
}

func (s *stormSeen) bill(b stormBill) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bills = append(s.bills, b)
}

// trouble notes a fault. The kinds that only come about later are counted there.
func (s *stormSeen) trouble(began time.Time, f stormFault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	from := time.Since(began)
	s.troubles = append(s.troubles, stormTrouble{f, from, from + f.For})
	if f.Does < faultSilentModel {
		s.happened[f.Does]++
	}
}

// auditRest is how long the audit leaves an API alone that has failed.
const auditRest = 10 * time.Second

// others returns how long other faults than a silent one lasted, with what follows from
// them, at a place between two times.
func (s *stormSeen) others(kind faultKind, place int, from, to time.Duration) (sum time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.troubles {
		if f.Does >= faultSilentModel && f.Does != faultLostSpill || f.Process != place && f.Does < faultModelAway {
			continue
		}
		end := f.to
		if kind == faultSilentLog && f.Does >= faultLogFails && f.Does <= faultLogLoses {
			end += auditRest
		}
		if overlap := min(end, to) - max(f.from, from); overlap > 0 {
			sum += end - f.from
		}
	}
	return sum
}

const (
	probing = "Still there?"
	holding = "Hold a place."
)

var tightQuestion = regexp.MustCompile(`^Tight: call \d+\.$`)

// reply answers what the plan does not have: probes, calls that hold a place, those of the
// caller with a limit.
func (s *stormSeen) reply(r geminitest.Request) (geminitest.Reply, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	prompt := r.Prompt()
	switch {
	case prompt == probing:
		return geminitest.Text("Yes."), true
	case prompt == holding:
		s.holding++
		return geminitest.Text("Held.").WithGate(0, s.hold), true
	case tightQuestion.MatchString(prompt):
		s.tight[prompt] = true
		return [...]geminitest.Reply{geminitest.Text("Fine."), geminitest.Blocked("SAFETY"), geminitest.Text("In ", "time.").WithDelay(100 * time.Millisecond)}[len(s.tight)%3], true
	case s.billFull && strings.HasPrefix(prompt, "Use up"):
		config, _ := r.Body["generationConfig"].(map[string]any)
		output, _ := config["maxOutputTokens"].(float64)
		s.bills = append(s.bills, stormBill{owner: usedUp, billed: int64(output) + 50, clean: true})
		return geminitest.Text("Used.").WithUsage(geminitest.Usage{Prompt: 50, Output: int(output)}), true
	}
	return geminitest.Reply{}, false
}

// at returns the process of a place, nil while it is replaced.
func (f *fleet) at(place int) *member {
	f.guard.Lock()
	defer f.guard.Unlock()
	return f.members[place]
}

// silence has what a process is connected to fall silent, and waits until the process is
// answered again.
func (s *stormRun) silence(ctx context.Context, t *testing.T, f stormFault) {
	to := s.relays[f.Process]
	link := map[faultKind]*link{faultSilentModel: to.model, faultSilentStore: to.store, faultSilentLog: to.log, faultSilentSecrets: to.secrets}[f.Does]
	// Where nothing is open, a request opens it, once the process is there and the audit no
	// longer leaves an API alone that has failed.
	m := s.at(f.Process)
	for end := time.Now().Add(2 * auditRest); m == nil || link.silence() == 0; m = s.at(f.Process) {
		if time.Now().After(end) || rest(ctx, 100*time.Millisecond) != nil {
			return
		}
		if m != nil {
			s.back(ctx, t, m, f.Does, -1, time.Now())
		}
	}
	from, begun := time.Since(s.began), time.Now()
	s.seen.mu.Lock()
	s.seen.happened[f.Does]++
	s.seen.mu.Unlock()
	for n := 0; ; n++ {
		if s.back(ctx, t, m, f.Does, n, begun) {
			break
		}
		if s.at(f.Process) != m {
			return // the process has ended
		}
		if rest(ctx, 200*time.Millisecond) != nil {
			break
		}
	}
	r := stormRecovery{Of: f.Does, Place: f.Process, Took: time.Since(begun), Other: s.seen.others(f.Does, f.Process, from, time.Since(s.began))}
	s.seen.mu.Lock()
	defer s.seen.mu.Unlock()
	s.seen.promises.Recoveries = append(s.seen.promises.Recoveries, r)
	s.seen.slowest[f.Does] = max(s.seen.slowest[f.Does], r.Took)
}

// back reports whether a process is answered again by what fell silent at a time.
func (s *stormRun) back(ctx context.Context, t *testing.T, m *member, kind faultKind, n int, since time.Time) bool {
	asking, cancel := context.WithTimeout(ctx, 8*time.Second)
	defer cancel()
	id := fmt.Sprintf("probe-%d-%d-%d", kind, since.UnixNano(), n)
	headers := as("one", "X-End-User", "prober", "X-Request-ID", id)
	switch kind {
	case faultSilentSecrets:
		_, _ = s.look(asking, t, m) // it asks for a secret, too
		return s.relays[m.place].secrets.answeredAt().After(since)
	case faultSilentLog:
		if _, err := m.try(asking, http.MethodGet, "/sessions?limit=1", nil, headers...); err != nil {
			return false
		}
		return slices.ContainsFunc(s.log.Entries(), func(e *loggingpb.LogEntry) bool {
			fields := e.Payload.(*loggingpb.LogEntry_JsonPayload).JsonPayload.GetFields()
			request := fields["request_id"].GetStringValue()
			return strings.HasPrefix(request, fmt.Sprintf("probe-%d-%d-", kind, since.UnixNano()))
		})
	}
	// Each of the connections that fell silent is found out by who uses it: three answers
	// in a row.
	for range 3 {
		a, err := m.try(asking, http.MethodPost, "/invoke", map[string]any{"query": probing}, headers...)
		if err != nil || a.Status != http.StatusOK || strings.Contains(string(a.Body), "session_not_saved") {
			return false
		}
	}
	return true
}

// slowSockets is how many requests come byte by byte at once: more than MAX_CONCURRENT.
const slowSockets = 90

// dribble sends a process many requests that never come to an end.
func (s *stormRun) dribble(ctx context.Context, t *testing.T, f stormFault) {
	m := s.at(f.Process)
	if m == nil {
		return
	}
	address := strings.TrimPrefix(m.URL, "http://")
	var conns []net.Conn
	defer func() {
		for _, conn := range conns {
			_ = conn.Close()
		}
	}()
	var dialer net.Dialer
	for i := range slowSockets {
		conn, err := dialer.DialContext(ctx, "tcp", address)
		if err != nil {
			break // it was killed
		}
		conns = append(conns, conn)
		_, _ = fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: %s\r\nX-API-Key: key of %s\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n{",
			[]string{"/invoke", "/chat", "/v1/responses"}[i%3], address, []string{"one", "two"}[i%2])
	}
	for until := time.Now().Add(f.For); time.Now().Before(until) && rest(ctx, 200*time.Millisecond) == nil; {
		for _, conn := range conns {
			_, _ = conn.Write([]byte(" "))
		}
	}
	s.seen.mu.Lock()
	defer s.seen.mu.Unlock()
	s.seen.sockets += len(conns)
	if len(conns) == slowSockets {
		s.seen.happened[f.Does]++
	}
}

// loseSpill has the reply to the next write lost that archives turns, wherever it is made.
func (s *stormRun) loseSpill(ctx context.Context, f stormFault) {
	fired := func() (n int) {
		for _, to := range s.relays {
			n += to.store.spills()
		}
		return n
	}
	before := fired()
	for _, to := range s.relays {
		to.store.loseAtSpill(true)
	}
	for fired() == before && !s.over.Load() {
		if rest(ctx, 5*time.Millisecond) != nil {
			break
		}
	}
	for _, to := range s.relays {
		to.store.loseAtSpill(false)
	}
	_ = rest(ctx, f.For)
	for _, to := range s.relays {
		to.store.mu.Lock()
		lossy := to.store.lossy
		to.store.mu.Unlock()
		if lossy {
			to.store.mend()
		}
	}
	s.seen.mu.Lock()
	defer s.seen.mu.Unlock()
	s.seen.happened[f.Does] += fired() - before
}

// look reads a process's health, and notes what it saw.
func (s *stormRun) look(ctx context.Context, t *testing.T, m *member) (report healthReport, ok bool) {
	at := time.Since(s.began)
	a, err := m.try(ctx, http.MethodGet, "/health", nil, as("one")...)
	if err != nil {
		return report, false // it was killed
	}
	var e struct {
		Error *string
		Data  *healthReport
	}
	if err := json.Unmarshal(a.Body, &e); err != nil {
		t.Errorf("health: %d %s", a.Status, a.Body)
		return report, false
	}
	if e.Data == nil { // shutting down, or not ready
		return report, false
	}
	report = *e.Data
	sight := stormSight{Place: m.place, Status: a.Status, State: report.Status, StoreDown: report.Dependencies["session_store"].Status != "healthy"}
	if report.ErrorRate != nil && report.RequestCount != nil {
		sight.Rate, sight.Count = *report.ErrorRate, *report.RequestCount
	}
	// A state is kept for ten seconds, and what fell silent is noticed within twenty.
	s.seen.mu.Lock()
	defer s.seen.mu.Unlock()
	for _, f := range s.seen.troubles {
		store := f.Does >= faultCutStore && f.Does <= faultLoseReplies && f.Process == m.place || f.Does == faultSilentStore && f.Process == m.place || f.Does == faultLostSpill
		if store && f.from < at && at < max(f.to, f.from+recoverIn)+12*time.Second {
			sight.StoreCut = true
		}
	}
	s.seen.promises.Sights = append(s.seen.promises.Sights, sight)
	return report, true
}

// hostile are requests that are their caller's mistake, whatever else goes on.
var hostile = []struct {
	what, method, path string
	body               any
}{
	{"a cursor beyond time", http.MethodGet, "/sessions?cursor=1y2p0ij32e8e7." + strings.Repeat("a", 43), nil},
	{"a cursor of bytes", http.MethodGet, "/sessions?cursor=1." + strings.Repeat("%FF", 43), nil},
	{"a reserved name", http.MethodGet, "/sessions?cursor=1.__" + strings.Repeat("a", 39) + "__", nil},
	{"no limit", http.MethodGet, "/sessions?limit=0", nil},
	{"no JSON", http.MethodPost, "/invoke", "{"},
	{"no question", http.MethodPost, "/invoke", map[string]any{"query": " "}},
	{"an unknown field", http.MethodPost, "/invoke", map[string]any{"query": "hello", "nothing": 1}},
	{"a session of nobody", http.MethodPost, "/invoke", map[string]any{"query": "hello", "session_id": "no-such-session-0"}},
	{"a long question", http.MethodPost, "/invoke", map[string]any{"query": strings.Repeat("a", 10_001)}},
	{"a large body", http.MethodPost, "/invoke", map[string]any{"query": strings.Repeat("a", 140_000)}},
	{"a chat without a message", http.MethodPost, "/chat", map[string]any{"id": "a-chat-of-a-caller", "messages": []any{}}},
	{"a run of nobody", http.MethodGet, "/runs/AAAAAAAAAAAAAAAAAAAAAA.BBBBBBBBBBBBBBBBBBBBBB", nil},
	{"events of nobody's", http.MethodGet, "/runs/AAAAAAAAAAAAAAAAAAAAAA.BBBBBBBBBBBBBBBBBBBBBB/events", nil},
	{"feedback on nothing", http.MethodPut, "/sessions/no-such-session-0/turns/1/feedback", map[string]any{"score": 1}},
}

// mistake makes a hostile request.
func (s *stormRun) mistake(ctx context.Context, m *member, n int, calm bool) {
	h := hostile[n%len(hostile)]
	a, err := m.try(ctx, h.method, h.path, h.body, as("two", "X-End-User", "careless")...)
	if err != nil {
		return // it was killed
	}
	var e struct{ Error *string }
	_ = json.Unmarshal(a.Body, &e)
	seen := stormHostile{What: h.what, Status: a.Status, Calm: calm}
	if e.Error != nil {
		seen.Code = *e.Error
	}
	s.seen.mu.Lock()
	defer s.seen.mu.Unlock()
	s.seen.promises.Hostile = append(s.seen.promises.Hostile, seen)
}

// watch begins what goes on throughout a storm, until ctx ends: looks at health, requests
// that are mistakes, a caller that calls more often than it may, and one whose key is
// revoked in the middle.
func (s *stormRun) watch(ctx context.Context, t *testing.T) *sync.WaitGroup {
	var all sync.WaitGroup
	every := func(d time.Duration, do func(n int)) {
		all.Go(func() {
			for n := 0; rest(ctx, d) == nil; n++ {
				do(n)
			}
		})
	}
	for place := range s.plan.Processes {
		every(300*time.Millisecond, func(n int) {
			m := s.at(place)
			if m == nil {
				return
			}
			_, _ = s.look(ctx, t, m)
			s.withRevoked(ctx, m)
		})
	}
	every(100*time.Millisecond, func(n int) {
		if m := s.at(n % s.plan.Processes); m != nil {
			s.mistake(ctx, m, n, false)
		}
	})
	every(120*time.Millisecond, func(n int) {
		m := s.at(rand.IntN(s.plan.Processes))
		if m == nil || s.quiet.Load() {
			return
		}
		calling, cancel := context.WithTimeout(ctx, []time.Duration{50 * time.Millisecond, 3 * time.Second}[min(1, n%4)])
		defer cancel()
		begun := time.Now().Unix() / 60
		a, err := m.try(calling, http.MethodPost, "/invoke", map[string]any{"query": fmt.Sprintf("Tight: call %d.", n)}, as("tight")...)
		s.seen.mu.Lock()
		defer s.seen.mu.Unlock()
		s.seen.minutes[begun], s.seen.minutes[time.Now().Unix()/60] = true, true
		if err == nil && a.Status == http.StatusTooManyRequests {
			s.seen.promises.Rate.Refused++
		}
	})
	all.Go(func() {
		if rest(ctx, s.plan.Length/4) != nil {
			return
		}
		s.secrets.Set(stormKeysName, stormKeys())
		s.revoke()
	})
	return &all
}

// revoke notes when the revoked key is to be refused, at the latest: keys are fetched
// again when they are five minutes old, and where that failed, ten.
func (s *stormRun) revoke() {
	s.seen.mu.Lock()
	defer s.seen.mu.Unlock()
	s.seen.revoked = time.Since(s.began)
	for place := range s.seen.promises.Deadlines {
		s.seen.promises.Deadlines[place] = s.seen.revoked + refresh.After/secretsClockSpeed + refresh.Timeout + time.Second
	}
}

// withRevoked makes a request with the key that is revoked in the middle of the storm.
func (s *stormRun) withRevoked(ctx context.Context, m *member) {
	began := time.Since(s.began)
	a, err := m.try(ctx, http.MethodGet, "/sessions?limit=1", nil, as("revoked")...)
	if err != nil {
		return
	}
	s.seen.mu.Lock()
	defer s.seen.mu.Unlock()
	// A fetch that fell silent is made again when the keys are ten minutes old.
	for _, f := range s.seen.troubles {
		if f.Does == faultSilentSecrets && f.Process == m.place && s.seen.revoked > 0 {
			s.seen.promises.Deadlines[m.place] = s.seen.revoked + (refresh.Stale+2*refresh.RetryAfter)/secretsClockSpeed + 3*refresh.Timeout + time.Second
		}
	}
	if strings.Contains(string(a.Body), `"not_ready"`) || strings.Contains(string(a.Body), `"shutting_down"`) {
		return // it was turned away before its key was looked at
	}
	admitted := a.Status != http.StatusUnauthorized
	switch {
	case admitted && s.seen.revoked == 0:
		s.seen.looks[0]++
	case began > s.seen.promises.Deadlines[m.place]:
		s.seen.looks[1]++
	}
	s.seen.promises.Admissions = append(s.seen.promises.Admissions, stormAdmission{m.place, began, admitted})
}

// calm checks that mistakes are mistakes when all is quiet, and waits until the revoked
// key must be refused.
func (s *stormRun) calm(ctx context.Context) {
	for n := range len(hostile) * s.plan.Processes {
		if m := s.at(n % s.plan.Processes); m != nil {
			s.mistake(ctx, m, n/s.plan.Processes, true)
		}
	}
	s.seen.mu.Lock()
	latest := slices.Max(s.seen.promises.Deadlines)
	s.seen.mu.Unlock()
	_ = rest(ctx, min(latest-time.Since(s.began)+time.Second, limit))
}

// places checks that the survivor has all its places: an owner can hold three quarters of
// them, and no more.
func (s *stormRun) places(ctx context.Context, t *testing.T) {
	const most = 60 // three quarters of MAX_CONCURRENT
	m := s.at(0)
	for range 5 {
		s.seen.mu.Lock()
		s.seen.holding, s.seen.hold = 0, make(chan struct{})
		hold := s.seen.hold
		s.seen.mu.Unlock()
		var all sync.WaitGroup
		refused := make(chan int, most+1)
		ask := func() {
			a, err := m.try(ctx, http.MethodPost, "/invoke", map[string]any{"query": holding}, as("one", "X-End-User", "holder")...)
			if err != nil || strings.Contains(string(a.Body), `"overloaded"`) {
				refused <- a.Status
			}
		}
		for range most {
			all.Go(ask)
		}
		held := 0
		for until := time.Now().Add(1500 * time.Millisecond); held < most && len(refused) == 0 && time.Now().Before(until); {
			_ = rest(ctx, 10*time.Millisecond)
			s.seen.mu.Lock()
			held = s.seen.holding
			s.seen.mu.Unlock()
		}
		early := len(refused)
		if held == most {
			ask() // one too many
		}
		close(hold)
		all.Wait()
		if held < most && early == 0 {
			continue // they were too slow to be there at once
		}
		s.seen.mu.Lock()
		defer s.seen.mu.Unlock()
		s.seen.promises.Truths = append(s.seen.promises.Truths,
			stormTruth{"calls of an owner that got a place", fmt.Sprint(most), fmt.Sprint(held)},
			stormTruth{"calls beyond them that were refused", "1", fmt.Sprint(len(refused))})
		return
	}
	t.Errorf("%d calls could not be had at once", most)
}

// truth checks that health tells what is really away: a store and, at another process, a
// model.
func (s *stormRun) truth(ctx context.Context, t *testing.T) {
	var all sync.WaitGroup
	state := func(m *member, dependency string) string {
		a, err := m.try(ctx, http.MethodGet, "/health", nil, as("one")...)
		if err != nil {
			return err.Error()
		}
		var e struct{ Data healthReport }
		_ = json.Unmarshal(a.Body, &e)
		unhealthy := "up"
		if e.Data.Status == "unhealthy" || a.Status == http.StatusServiceUnavailable {
			unhealthy = "down"
		}
		return unhealthy + ", " + dependency + " " + e.Data.Dependencies[dependency].Status
	}
	becomes := func(what string, m *member, dependency, want string) {
		got := ""
		for until := time.Now().Add(20 * time.Second); time.Now().Before(until); {
			if got = state(m, dependency); got == want || rest(ctx, 300*time.Millisecond) != nil {
				break
			}
		}
		s.seen.mu.Lock()
		defer s.seen.mu.Unlock()
		s.seen.promises.Truths = append(s.seen.promises.Truths, stormTruth{what, want, got})
	}
	for _, away := range []struct {
		dependency string
		place      int
		link       *link
		down       string
	}{
		{"session_store", 1, s.relays[1].store, "down, session_store unhealthy"},
		{"model", 2, s.relays[2].model, "up, model unhealthy"},
	} {
		m := s.at(away.place)
		if m == nil {
			t.Errorf("place %d has no process", away.place)
			continue
		}
		all.Go(func() {
			s.seen.trouble(s.began, stormFault{Does: map[string]faultKind{"session_store": faultCutStore, "model": faultModelAway}[away.dependency], Process: away.place, For: 40 * time.Second})
			away.link.cut()
			becomes("health without the "+away.dependency, m, away.dependency, away.down)
			away.link.mend()
			becomes("health with the "+away.dependency+" back", m, away.dependency, "up, "+away.dependency+" healthy")
		})
	}
	all.Wait()
}

// settle uses one owner's budget up and reads all of them.
func (s *stormRun) settle(ctx context.Context, t *testing.T) {
	s.seen.mu.Lock()
	s.seen.billFull = true
	s.seen.mu.Unlock()
	m := s.at(0)
	const atOnce = 4
	var all sync.WaitGroup
	for _, output := range []int{mostOutput, 2_000} {
		for range atOnce {
			all.Go(func() {
				for {
					a, err := m.try(ctx, http.MethodPost, "/invoke", map[string]any{"query": "Use up the budget.", "max_tokens": output}, owner(usedUp)...)
					if err != nil || a.Status != http.StatusOK {
						if !strings.Contains(string(a.Body), `"quota_exceeded"`) {
							t.Errorf("using up a budget: %v %d %s", err, a.Status, a.Body)
						}
						return
					}
				}
			})
		}
		all.Wait()
	}
	kills := map[int][]time.Time{}
	for _, m := range s.all {
		if at := m.killed.Load(); at != nil {
			kills[m.place] = append(kills[m.place], *at)
		}
	}
	s.seen.mu.Lock()
	bills := s.seen.bills
	s.seen.mu.Unlock()
	for number := range s.plan.Owners {
		b := stormBudget{Owner: number, Limit: s.plan.budget(), UsedUp: number == usedUp, Flight: atOnce * (mostOutput + 2_000), Left: -1}
		b.Leased = int64(s.kills.Load()) * max(b.Limit/1000, mostOutput)
		for _, bill := range bills {
			if bill.owner != number {
				continue
			}
			b.Billed += bill.billed
			killed := slices.ContainsFunc(kills[bill.place], func(at time.Time) bool {
				return at.After(bill.at) && at.Before(bill.at.Add(3*time.Second))
			})
			if !bill.clean || killed {
				b.Unheard += max(0, reservedOutput+int64(bill.raw)/2-bill.billed)
			}
		}
		a, err := m.try(ctx, http.MethodGet, "/usage", nil, owner(number)...)
		var usage struct {
			Data struct {
				Limits []struct {
					Name, Unit string
					Left       int64
				}
			}
		}
		if err != nil || json.Unmarshal(a.Body, &usage) != nil {
			t.Errorf("usage of owner %d: %v %d %s", number, err, a.Status, a.Body)
			continue
		}
		for _, l := range usage.Data.Limits {
			if l.Name == "end_user" && l.Unit == "tokens_per_day" {
				b.Left = l.Left
			}
		}
		s.seen.mu.Lock()
		s.seen.promises.Budgets = append(s.seen.promises.Budgets, b)
		s.seen.mu.Unlock()
	}
}

// judge checks what was seen, prints it, and fails if a fault did not come about.
func (s *stormSeen) judge(t *testing.T, run *stormRun) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.promises.Rate.PerMinute, s.promises.Rate.Minutes, s.promises.Rate.Turns = tightLimit, len(s.minutes), len(s.tight)
	// Without its counters a process goes by its share, which is a tenth.
	s.promises.Rate.Shares = tightLimit / 10 * len(run.all)
	report := s.promises.Check()
	for i, problem := range report.Problems {
		if i == 20 {
			t.Errorf("and %d more", len(report.Problems)-i)
			break
		}
		t.Error(problem)
	}
	faults := map[string]int{}
	for kind := range faultKinds {
		faults[kind.String()] = s.happened[kind]
		if s.happened[kind] == 0 {
			t.Errorf("the storm was none: %q did not come about", kind)
		}
	}
	slowest := map[string]time.Duration{}
	for kind, took := range s.slowest {
		slowest[kind.String()] = took.Round(10 * time.Millisecond)
	}
	unwell := 0
	for _, sight := range s.promises.Sights {
		if sight.Status != http.StatusOK {
			unwell++
		}
	}
	t.Logf("faults that came about: %v; slow sockets: %d; empty answers: %d", faults, s.sockets, s.empties)
	t.Logf("%d recoveries from silence, the slowest: %v", len(s.promises.Recoveries), slowest)
	t.Logf("the revoked key: %d admissions before, %d refusals after its deadline; a limit of %d: %d turns in %d clock minutes, %d refused", s.looks[0], s.looks[1], tightLimit, len(s.tight), len(s.minutes), s.promises.Rate.Refused)
	t.Logf("budgets: %+v", s.promises.Budgets)
	t.Logf("%d looks at health, %d of them 503; %d mistakes of callers; %d truths", len(s.promises.Sights), unwell, len(s.promises.Hostile), len(s.promises.Truths))
	t.Logf("%d stuck, %d admitted, %d overspent, %d stranded, %d overrun, %d blamed, %d untrue",
		report.Stuck, report.Admitted, report.Overspent, report.Stranded, report.Overrun, report.Blamed, report.Untrue)
	if len(s.promises.Recoveries) < 4 || s.looks[0] == 0 || s.looks[1] == 0 || s.promises.Rate.Refused == 0 || len(s.promises.Budgets) == 0 || len(s.promises.Truths) < 6 || s.empties == 0 || run.codes[clientLeft] == 0 {
		t.Error("the storm was none: something was not looked at")
	}
	if n := run.codes["overloaded"]; n != 0 {
		t.Errorf("%d calls found no place, beside clients that send slowly", n)
	}
	if n := report.faults(); n != 0 {
		t.Errorf("STORM_SEED=%d: %d promises broken", run.plan.Seed, n)
	}
}
