package e2e_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"cloud.google.com/go/logging/apiv2/loggingpb"
	"github.com/go-json-experiment/json"
	"google.golang.org/grpc/codes"

	"example.com/gatehouse/internal/gcp/audit/loggingtest"
	"example.com/gatehouse/internal/gcp/emulator"
	"example.com/gatehouse/internal/gcp/secret/secrettest"
	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/internal/slowtest"
)

// TestStorm lets many clients call four processes on one Firestore while the
// model errs, stalls and breaks off, clients lose patience, processes are killed
// and replaced, and Firestore and the audit's API are cut off, and then compares
// what was acknowledged with what is stored and audited. STORM_SECONDS sets its
// length, STORM_RATE how many calls begin in a second; STORM_SEED repeats a storm's plan.
func TestStorm(t *testing.T) {
	slowtest.Skip(t, "the storm")
	seed := setting(t, "STORM_SEED", uint64(time.Now().UnixNano()))
	length := time.Duration(setting(t, "STORM_SECONDS", 25)) * time.Second
	rate := int(setting(t, "STORM_RATE", 20))
	t.Logf("to plan the same storm again: STORM_SEED=%d STORM_SECONDS=%d STORM_RATE=%d go test -run '^TestStorm$' ./internal/e2e", seed, int(length.Seconds()), rate)
	plan := newStormPlan(seed, stormSize{Length: length, Rate: rate, Processes: 4, Owners: 6, Sessions: 9})
	// In the end every key is asked for again, which takes up to as long.
	ctx, cancel := context.WithTimeout(context.Background(), 2*length+4*limit)
	t.Cleanup(cancel)
	s := newStormRun(t, plan)

	var kinds [3]int
	for _, call := range plan.Calls {
		kinds[call.Kind]++
	}
	faults := map[string]int{}
	for _, f := range plan.Faults {
		faults[f.Does.String()]++
	}
	doors := map[string]int{}
	for _, call := range plan.Calls {
		if call.Kind == callAsk {
			doors[call.Door.String()]++
		}
	}
	t.Logf("%d calls (%d turns by %v, %d reads, %d of others' sessions); faults: %v", len(plan.Calls), kinds[callAsk], doors, kinds[callRead], kinds[callTrespass], faults)

	// What a process holds before it has seen anything.
	calm := s.start(t, 0)
	s.warmUp(ctx, t, calm)
	fresh := s.goroutines(t, calm)

	for i := range plan.Processes {
		s.put(s.start(t, i))
	}
	s.warmUp(ctx, t, s.members[0])
	s.ledger = stormLedger{Shared: make([]string, plan.Sessions)}
	s.began = time.Now()
	for _, call := range plan.Calls[:plan.Sessions] {
		if err := s.run(ctx, call); err != nil {
			t.Fatal(err)
		}
	}
	for _, a := range s.ledger.Attempts {
		s.ledger.Shared[a.Call] = a.Answer.Session
	}
	memory := []int{s.members[0].memory()}

	begin := time.Now()
	var clients, injections sync.WaitGroup
	watching, stopWatching := context.WithCancel(ctx)
	t.Cleanup(stopWatching)
	watchers := s.watch(watching, t)
	slots := make(chan struct{}, 48)
	clients.Go(func() {
		for _, call := range plan.Calls[plan.Sessions:] {
			if rest(ctx, time.Until(begin.Add(call.At))) != nil {
				return
			}
			slots <- struct{}{}
			clients.Go(func() {
				defer func() { <-slots }()
				if err := s.run(ctx, call); err != nil {
					t.Errorf("STORM_SEED=%d: call %d: %v", seed, call.Number, err)
				}
			})
		}
	})
	for _, fault := range plan.Faults {
		if rest(ctx, time.Until(begin.Add(fault.At))) != nil {
			break
		}
		if len(memory) == 1 && fault.At > length/2 {
			memory = append(memory, s.members[0].memory())
		}
		s.inject(ctx, t, &injections, fault)
	}
	clients.Wait()
	s.over.Store(true)
	injections.Wait()
	blew := time.Since(begin)

	// All is quiet: each call with a key once more, and one on each session, which
	// also writes what a process that died left out of the audit.
	s.quiet.Store(true)
	var wait sync.WaitGroup
	for _, call := range plan.Calls {
		if !call.Key {
			continue
		}
		slots <- struct{}{}
		wait.Go(func() {
			defer func() { <-slots }()
			if _, err := s.finish(ctx, call, 1000, false); err != nil {
				t.Errorf("STORM_SEED=%d: call %d, in the end: %v", seed, call.Number, err)
			}
		})
	}
	wait.Wait()
	memory = append(memory, s.members[0].memory())
	quietIn := time.Since(begin)
	if n := s.codes["rate_limited"]; n > 0 && length < time.Minute {
		t.Errorf("STORM_SEED=%d: %d calls within their limits were refused", seed, n)
	}
	s.calm(ctx)
	stopWatching()
	watchers.Wait()
	s.places(ctx, t)
	s.collect(t)
	var ends sync.WaitGroup
	ends.Go(func() { s.truth(ctx, t) })
	s.settle(ctx, t) // at a process that lacks nothing
	ends.Wait()

	var left []string
	for i, m := range s.members {
		if i == 0 {
			left = s.goroutines(t, m)
			continue
		}
		if code := m.end(t, syscall.SIGTERM); code != 0 {
			t.Errorf("a process that lived to the end ended with code %d", code)
		}
	}
	s.collectAudit(t)
	report := plan.Check(s.ledger)
	for i, problem := range report.Problems {
		if i == 20 {
			t.Errorf("and %d more", len(report.Problems)-i)
			break
		}
		t.Error(problem)
	}
	t.Logf("%d calls by %d requests; %d answers, %d of them replays, %d not saved; %d turns stored; %d entries of the audit, %d turns left without one by a kill",
		report.Calls, report.Attempts, report.Answers, report.Replays, report.NotSaved, report.Stored, report.Entries, report.Left)
	t.Logf("%d killed, %d ended by SIGTERM, the slowest in %v; the model was asked %d times; codes: %v; survivor's memory before, during, after: %v MiB; %v of storm, %v until all was answered, %v in all",
		s.kills.Load(), s.ends.Load(), time.Duration(s.slowest.Load()).Round(time.Millisecond), s.asked.Load(), s.codes, memory, blew.Round(time.Millisecond), quietIn.Round(time.Millisecond), time.Since(begin).Round(time.Millisecond))
	t.Logf("%d lost, %d doubled, %d disordered, %d foreign, %d unanswered, %d unrecorded, %d invented",
		report.Lost, report.Doubled, report.Disordered, report.Foreign, report.Unanswered, report.Unrecorded, report.Invented)
	if n := report.Lost + report.Doubled + report.Disordered + report.Foreign + report.Unanswered + report.Unrecorded + report.Invented; n != 0 {
		t.Errorf("STORM_SEED=%d: %d faults, want none", seed, n)
	}
	s.seen.judge(t, s)
	answered := map[string]int{}
	for _, a := range s.ledger.Attempts {
		if call := plan.Calls[a.Call]; call.Kind == callAsk && a.Code == "" {
			answered[call.Door.String()]++
		}
	}
	t.Logf("answers by door: %v", answered)
	if len(answered) != int(stormDoors) {
		t.Error("the storm was none: not every door has answered")
	}
	archives, err := emulator.Connect(t, emulator.Host(t), s.project).CollectionGroup("archive").Documents(ctx).GetAll()
	if err != nil {
		t.Error(err)
	}
	t.Logf("%d archives", len(archives))
	if s.kills.Load() == 0 || s.ends.Load() == 0 || report.Replays == 0 || len(archives) == 0 {
		t.Error("the storm was none: nothing was killed, ended, replayed or archived")
	}
	// The first half fills caches and pools; the second adds little to them.
	if before, after := memory[1], memory[len(memory)-1]; after > before*3/2+64 {
		t.Errorf("the survivor's memory went from %d to %d MiB in the second half", before, after)
	}
	compareGoroutines(t, fresh, left)
}

// setting reads a number of the environment.
func setting(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	value, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return value
}

// A stormRun carries a storm's plan out.
type stormRun struct {
	*fleet
	plan    stormPlan
	project string
	models  []*geminitest.Server // one a process
	log     *loggingtest.Server
	secrets *secrettest.Server
	relays  []relays
	began   time.Time

	away  atomic.Bool // the model
	quiet atomic.Bool // everything works
	over  atomic.Bool // the clients have their answers
	asked atomic.Int64

	mu     sync.Mutex
	ledger stormLedger
	where  []*member // of each attempt
	codes  map[string]int
	turns  []int // of each call: how often the model was asked for it
	seen   stormSeen
}

// relays are the links from a process to what it depends on.
type relays struct{ store, model, log, secrets *link }

func newStormRun(t *testing.T, plan stormPlan) *stormRun {
	s := &stormRun{
		plan: plan, log: loggingtest.Start(t), secrets: secrettest.Start(t), project: emulator.Project(),
		codes: map[string]int{}, turns: make([]int, len(plan.Calls)),
	}
	s.seen.begin(plan)
	s.secrets.Set(stormKeysName, stormKeys("revoked"))
	host := emulator.Host(t)
	for place := range plan.Processes {
		model := geminitest.Start(t)
		model.Handle(func(r geminitest.Request) geminitest.Reply {
			model.Forget() // the requests of a long storm are gigabytes
			return s.reply(place, r)
		})
		s.models = append(s.models, model)
		s.relays = append(s.relays, relays{
			newLink(t, host), newLink(t, strings.TrimPrefix(model.URL, "http://")), newLink(t, s.log.Addr), newLink(t, s.secrets.Addr),
		})
	}
	env := append(firestore(""), "GOOGLE_CLOUD_PROJECT="+s.project, "REQUEST_TIMEOUT=2s", "BREAKER_COOLDOWN=1s", "MODEL_FALLBACKS=gemini-3.1-flash-lite",
		"GEMINI_API_KEY="+apiKey, "CONVERSATION_HEADERS=X-Conversation-Id", "AUTH=api_key", "API_KEYS_SECRET="+stormKeysName, fmt.Sprint("SECRETS_CLOCK_SPEED=", secretsClockSpeed),
		fmt.Sprint("DAILY_TOKEN_LIMIT=", plan.budget()), fmt.Sprint("MAX_OUTPUT_TOKENS=", mostOutput), "GOTRACEBACK=all")
	s.fleet = newFleet(doorsProgram, plan.Processes, func(place int) []string {
		to := s.relays[place]
		return append(slices.Clone(env), "FIRESTORE_EMULATOR_HOST="+to.store.Addr, "GOOGLE_GEMINI_BASE_URL=http://"+to.model.Addr,
			"LOGGING_ENDPOINT="+to.log.Addr, "SECRET_MANAGER_ENDPOINT="+to.secrets.Addr)
	})
	return s
}

// warmUp lets a process answer once; the emulator takes its time for its first
// work.
func (s *stormRun) warmUp(ctx context.Context, t *testing.T, m *member) {
	t.Helper()
	for _, stream := range []bool{false, true} {
		key := fmt.Sprintf("warm up %p %v", m, stream)
		if _, err := m.insist(ctx, map[string]any{"query": "Ready?", "stream": stream}, as("one", "X-End-User", "nobody else", "Idempotency-Key", key)...); err != nil {
			t.Fatal(err)
		}
	}
}

// owner is the headers of an owner: two callers with three users each.
func owner(number int) []string {
	return as([]string{"one", "two"}[number%2], "X-End-User", fmt.Sprintf("user %d", number/2))
}

// reply returns the model's reply to each call, as planned.
func (s *stormRun) reply(place int, r geminitest.Request) geminitest.Reply {
	n := s.asked.Add(1)
	if answer, ok := s.seen.reply(r); ok {
		return answer
	}
	usage := geminitest.Usage{Prompt: len(r.Raw) / 6, Output: 300}
	var history modelHistory
	for _, content := range r.Contents() {
		if number, ok := stormCallOf(geminitest.TextOf(content)); ok {
			history = append(history, number)
		}
	}
	answer := geminitest.Text("To ", r.Prompt(), fmt.Sprintf(": answer %d.", n)).WithUsage(usage) // no two are the same
	if len(history) == 0 {
		return answer
	}
	call := s.plan.Calls[history[len(history)-1]]
	if call.Long() {
		answer = geminitest.Text("To ", r.Prompt(), fmt.Sprintf(": answer %d.", n), strings.Repeat(" And so on.", s.plan.longAnswer()/11)).WithUsage(usage)
	}
	s.mu.Lock()
	s.ledger.Histories = append(s.ledger.Histories, history)
	turn := s.turns[call.Number]
	s.turns[call.Number]++
	s.mu.Unlock()
	bill := stormBill{owner: call.Owner, place: place, at: r.Time, billed: int64(usage.Prompt + usage.Output), clean: true, raw: len(r.Raw)}
	for _, patience := range call.Patience {
		bill.clean = bill.clean && patience == 0
	}
	defer func() { s.seen.bill(bill) }()
	if s.quiet.Load() {
		return answer
	}
	if s.away.Load() {
		bill.billed = 0
		return geminitest.Error(http.StatusServiceUnavailable, upstreamText)
	}
	if turn >= len(call.Model) {
		return answer
	}
	planned := call.Model[turn]
	switch planned.Does {
	case modelAnswers, modelCallsTool:
	case modelRefuses, modelThrottles, modelCutsConnection, modelBabbles:
		bill.billed, bill.clean = 0, false
	default:
		bill.clean = false
	}
	answer = answer.WithDelay(planned.Delay)
	switch planned.Does {
	case modelCallsTool:
		if offersTools(r) {
			return geminitest.Calls(geminitest.FunctionCall{Name: "check_status"}).WithUsage(usage)
		}
	case modelRefuses:
		return geminitest.Error(http.StatusServiceUnavailable, upstreamText)
	case modelThrottles:
		return geminitest.Error(http.StatusTooManyRequests, upstreamText)
	case modelCutsConnection:
		return geminitest.Cut()
	case modelBreaksOff:
		return answer.CutAfter(2)
	case modelStalls:
		return geminitest.Silence()
	case modelFalters:
		return answer.SilentAfter(1)
	case modelIsEmpty:
		s.seen.count(&s.seen.empties, 1)
		return [...]geminitest.Reply{
			geminitest.Finish("STOP", ""), geminitest.Text(""), geminitest.Finish("STOP", "").WithThought("Hm."), geminitest.Finish("OTHER", ""),
		}[n%4].WithUsage(usage)
	case modelBabbles:
		return geminitest.Raw(http.StatusOK, "text/html", []byte("<html>"+upstreamText))
	}
	return answer
}

// inject brings a fault about; what takes longer is done beside.
func (s *stormRun) inject(ctx context.Context, t *testing.T, injections *sync.WaitGroup, f stormFault) {
	to := s.relays[f.Process]
	link := to.store
	s.seen.trouble(s.began, f)
	during := func(begin, end func()) {
		begin()
		injections.Go(func() {
			_ = rest(ctx, f.For)
			end()
		})
	}
	switch f.Does {
	case faultKill, faultTerminate:
		if m := s.take(f.Process); m != nil { // else it is being replaced
			injections.Go(func() {
				s.end(t, m, f.Does == faultKill)
				s.put(s.start(t, f.Process))
			})
		}
	case faultCutStore:
		during(link.cut, link.mend)
	case faultHangStore:
		during(link.hold, link.mend)
	case faultSlowStore:
		during(func() { link.slow(60 * time.Millisecond) }, link.mend)
	case faultLoseReplies:
		during(link.lose, link.mend)
	case faultModelAway:
		during(func() { s.away.Store(true) }, func() { s.away.Store(false) })
	case faultLogFails:
		during(func() { s.log.Fail(codes.Unavailable) }, func() { s.log.Fail(codes.OK) })
	case faultLogHangs:
		var release func()
		during(func() { release = s.log.Hold() }, func() { release() })
	case faultLogLoses:
		s.log.LoseNext(3)
	case faultSilentModel, faultSilentStore, faultSilentLog, faultSilentSecrets:
		injections.Go(func() { s.silence(ctx, t, f) })
	case faultSlowBodies:
		injections.Go(func() { s.dribble(ctx, t, f) })
	case faultLostSpill:
		injections.Go(func() { s.loseSpill(ctx, f) })
	}
}

// run sees a call through.
func (s *stormRun) run(ctx context.Context, call stormCall) error {
	first, err := s.finish(ctx, call, 0, true)
	if err != nil || !call.Again || first.turn == nil {
		return err
	}
	if !call.Key { // it would be another call
		return nil
	}
	_, err = s.finish(ctx, call, 100, true)
	return err
}

// finish makes a call, and one with a key until it is answered. Its attempts are
// numbered from first.
func (s *stormRun) finish(ctx context.Context, call stormCall, first int, mayLeave bool) (outcome, error) {
	for try := first; ; try++ {
		o, err := s.attempt(ctx, call, try, mayLeave)
		if err != nil || o.turn != nil || !call.Key {
			return o, err
		}
		if err := rest(ctx, max(o.wait, time.Duration(10+rand.IntN(100))*time.Millisecond)); err != nil {
			return o, fmt.Errorf("not answered in the end, the last time by %s: %w", o.code, err)
		}
	}
}

// passing are the errors that a storm may bring about. In a storm of minutes, thirty
// processes die in each, and a process that is killed takes what it leased of a minute's
// limit with it: a later one may find nothing left. The storm of CI is below a minute.
var passing = append([]string{"model_failed", "not_ready", "rate_limited"}, retriable...)

// attempt makes one request. It returns an error for failures that no fault of the
// storm explains.
func (s *stormRun) attempt(ctx context.Context, call stormCall, try int, mayLeave bool) (outcome, error) {
	place := 0
	if n := len(call.Processes); n > 0 {
		place = call.Processes[try%n]
	}
	m := s.server(place)
	id := fmt.Sprintf("call-%d-%d", call.Number, try)
	headers := append(owner(call.Owner), "X-Request-ID", id)
	method, path, body := http.MethodPost, "/invoke", map[string]any{"query": call.Query()}
	if call.Kind == callAsk {
		if call.Key && call.Door == doorInvoke {
			headers = append(headers, "Idempotency-Key", fmt.Sprintf("key %d", call.Number))
		}
		if call.Stream {
			headers = append(headers, events...)
		}
		if call.Session != noSharedSession && !call.Opens {
			body["session_id"] = s.ledger.Shared[call.Session]
		}
	} else {
		method, path, body = http.MethodGet, "/sessions/"+s.ledger.Shared[call.Session]+"?limit=1", nil
	}
	calling, leaves := ctx, false
	if mayLeave && try < len(call.Patience) && call.Patience[try] > 0 {
		var cancel context.CancelFunc
		calling, cancel = context.WithTimeout(ctx, call.Patience[try])
		defer cancel()
		leaves = true
	}
	made := stormAttempt{ID: id, Call: call.Number, Began: time.Since(s.began)}
	var a answer
	var err error
	switch {
	case call.Door != doorInvoke:
		session := ""
		if call.Session != noSharedSession {
			session = s.ledger.Shared[call.Session]
		}
		path, body, more := call.request(session)
		a, err = m.send(calling, path, body, append(headers, more...)...)
	case body != nil:
		a, err = m.try(calling, method, path, body, headers...)
	default:
		a, err = m.try(calling, method, path, nil, headers...)
	}
	made.Ended = time.Since(s.began)
	var o outcome
	switch {
	case ctx.Err() != nil:
		return o, ctx.Err()
	case err != nil && leaves:
		made.Code = clientLeft
	case err != nil:
		made.Code = connectionBroke
	case call.Kind == callAsk:
		if call.Door != doorInvoke {
			o, err = call.outcome(a)
		} else {
			o, err = outcomeOf(a)
		}
		if err != nil {
			return o, err
		}
		made.Code = o.code
		if o.turn != nil {
			made.Answer = stormAnswer{
				Session: o.turn.SessionID, Turn: o.turn.Turn, Response: o.turn.Response,
				Replayed: o.replayed, NotSaved: slices.Contains(o.turn.Warnings, "session_not_saved"),
			}
		}
	default:
		var e struct {
			Data  *struct{ Session session }
			Error *string
		}
		if err := json.Unmarshal(a.Body, &e, json.MatchCaseInsensitiveNames(true)); err != nil {
			return o, fmt.Errorf("%w: %s", err, a.Body)
		}
		if e.Error != nil {
			made.Code, o.code = *e.Error, *e.Error
		} else {
			made.Answer = stormAnswer{Session: e.Data.Session.SessionID, Turn: e.Data.Session.Turns}
		}
	}
	s.note(made, m)
	expected := made.Code == "" || made.Code == clientLeft || made.Code == connectionBroke || slices.Contains(passing, made.Code) ||
		call.Kind == callTrespass && made.Code == "session_not_found"
	if !expected {
		return o, fmt.Errorf("status %d: %s", a.Status, a.Body)
	}
	return o, nil
}

// note enters an attempt into the ledger.
func (s *stormRun) note(a stormAttempt, m *member) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ledger.Attempts = append(s.ledger.Attempts, a)
	s.codes[a.Code]++
	s.where = append(s.where, m)
}

// collect reads all that is stored, by the API.
func (s *stormRun) collect(t *testing.T) {
	t.Helper()
	reader := s.members[0]
	for number := range s.plan.Owners {
		for _, listed := range everySession(t, reader.service, owner(number)) {
			turns := everyTurn(t, reader.service, listed.SessionID, owner(number))
			if len(turns) == 0 || len(turns) != listed.Turns {
				t.Errorf("session %s is listed with %d turns and has %d", listed.SessionID, listed.Turns, len(turns))
			}
			for _, turn := range turns {
				s.ledger.Stored = append(s.ledger.Stored, stormTurn{
					Owner: number, Session: listed.SessionID, Turn: turn.Turn, Query: turn.Query, Response: turn.Response, Request: turn.RequestID, Stopped: turn.FinishReason == "STOPPED",
				})
			}
		}
	}
}

// delivery is how long after its answer a request may still write its entry.
const delivery = 5 * time.Second

// collectAudit reads the audit's entries from the Logging API's stand-in and
// from what the processes wrote, once they have ended, and checks what else they
// wrote.
func (s *stormRun) collectAudit(t *testing.T) {
	t.Helper()
	for i := range s.ledger.Attempts {
		if killed := s.where[i].killed.Load(); killed != nil {
			a := &s.ledger.Attempts[i]
			a.Killed = killed.Sub(s.began) < a.Ended+delivery
		}
	}
	add := func(e stormEntry) {
		if strings.HasPrefix(e.Request, "call-") { // not of warming up, or of reading
			s.ledger.Entries = append(s.ledger.Entries, e)
		}
	}
	for _, e := range s.log.Entries() {
		fields := e.Payload.(*loggingpb.LogEntry_JsonPayload).JsonPayload.AsMap()
		text := func(name string) string { value, _ := fields[name].(string); return value }
		turn, _ := fields["turn"].(float64)
		add(stormEntry{
			ID: e.InsertId, Action: text("action"), Outcome: text("outcome"), Principal: text("principal"),
			EndUser: text("end_user"), Session: text("session_id"), Turn: int(turn), Request: text("request_id"),
		})
	}
	for _, m := range s.all {
		output := m.stdout.String()
		for line := range strings.Lines(output) {
			if !strings.Contains(line, `"audit":true`) || !strings.HasSuffix(line, "}\n") { // one that a kill cut off
				continue
			}
			var e struct {
				ID        string `json:"logging.googleapis.com/insertId"`
				Action    string `json:"action"`
				Outcome   string `json:"outcome"`
				Principal string `json:"principal"`
				EndUser   string `json:"end_user"`
				Session   string `json:"session_id"`
				Turn      int    `json:"turn"`
				Request   string `json:"request_id"`
			}
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				t.Errorf("an entry that cannot be read: %v: %s", err, line)
				continue
			}
			add(stormEntry{ID: e.ID, Action: e.Action, Outcome: e.Outcome, Principal: e.Principal, EndUser: e.EndUser, Session: e.Session, Turn: e.Turn, Request: e.Request})
		}
		for _, bad := range []string{"DATA RACE", "A handler panicked.", "fatal error", apiKey} {
			if strings.Contains(output+m.stderr.String(), bad) {
				t.Errorf("the output of a process contains %q", bad)
			}
		}
	}
}

// goroutines ends a process with SIGQUIT and returns the stacks that it prints.
func (s *stormRun) goroutines(t *testing.T, m *member) []string {
	t.Helper()
	m.client.CloseIdleConnections()
	before := len(m.stderr.String())
	m.end(t, syscall.SIGQUIT)
	var stacks []string
	for _, block := range strings.Split(m.stderr.String()[before:], "\n\n") {
		// Number 0 is the scheduler's, of whichever thread took the signal.
		if strings.HasPrefix(block, "goroutine ") && !strings.HasPrefix(block, "goroutine 0 ") {
			stacks = append(stacks, block)
		}
	}
	if len(stacks) == 0 {
		t.Errorf("no stacks in what the process left: %s", m.stderr.String()[before:])
	}
	return stacks
}

var createdBy = regexp.MustCompile(`(?m)^created by (\S+)`)

// compareGoroutines checks that a process that has been through much is left
// with the goroutines of one that has just begun. Open connections have some of
// their own, and there may be more of them.
func compareGoroutines(t *testing.T, fresh, left []string) {
	t.Helper()
	count := func(stacks []string) map[string]int {
		counts := map[string]int{}
		for _, stack := range stacks {
			by := "main"
			if match := createdBy.FindStringSubmatch(stack); match != nil {
				by = match[1]
			}
			counts[by]++
		}
		return counts
	}
	before, after := count(fresh), count(left)
	t.Logf("goroutines: %d of a fresh process, %d of the survivor", len(fresh), len(left))
	for by, n := range after {
		most := before[by]
		if strings.HasPrefix(by, "net/http") || strings.HasPrefix(by, "google.golang.org/grpc") {
			most += 2 * 80 // calls at once
		}
		if n > most {
			t.Errorf("%d goroutines by %s, %d in a fresh process", n, by, before[by])
		}
	}
}
