package middleware

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/auth"
	"example.com/gatehouse/internal/caller"
	"example.com/gatehouse/internal/drain"
	"example.com/gatehouse/internal/gcp/audit"
	"example.com/gatehouse/internal/limit"
	"example.com/gatehouse/internal/telemetry"
	"example.com/gatehouse/internal/testlog"
	"example.com/gatehouse/session"
)

func newTestAudit(t *testing.T, named bool) *Audit {
	t.Helper()
	log, err := audit.New(t.Context(), "", audit.Off, "", io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	return NewAudit(log, named)
}

func TestHowTheAuditCallsCallers(t *testing.T) {
	t.Parallel()
	key := auth.Principal{Issuer: "api_key", Subject: "backend"}
	account := auth.Principal{Issuer: "https://accounts.google.com", Subject: "1234567890", Email: "robot@project-1.iam.gserviceaccount.com"}
	person := auth.Principal{Issuer: "https://issuer.example.com", Subject: "ada"}
	hash := func(p auth.Principal) string { return string(session.OwnerOf(p.ID(), "")) }
	tests := map[string]struct {
		principal auth.Principal
		endUser   string
		named     bool
		want      [2]string
	}{
		"nobody":                     {},
		"nobody, named":              {named: true},
		"a key":                      {principal: key, want: [2]string{hash(key), ""}},
		"a key, named":               {principal: key, named: true, want: [2]string{"backend", ""}},
		"an address":                 {principal: account, want: [2]string{hash(account), ""}},
		"an address, named":          {principal: account, named: true, want: [2]string{account.Email, ""}},
		"a subject, named":           {principal: person, named: true, want: [2]string{"ada", ""}},
		"a key for somebody":         {principal: key, endUser: "ada", want: [2]string{hash(key), string(session.OwnerOf(key.ID(), "ada"))}},
		"a key for somebody, named":  {principal: key, endUser: "ada", named: true, want: [2]string{"backend", "ada"}},
		"another key for the person": {principal: person, endUser: "ada", want: [2]string{hash(person), string(session.OwnerOf(person.ID(), "ada"))}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := newTestAudit(t, test.named)
			v := &requestState{caller: caller.New(test.principal, test.endUser)}
			if got := [2]string{a.principal(v), a.endUser(v)}; got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}

// A process writes the entry of a turn that it did not make itself, once, with
// the turn's id and time, as a turn is called for any request.
func TestEntriesOfEarlierTurns(t *testing.T) {
	t.Parallel()
	m := &middleware{Config: Config{Audit: newTestAudit(t, false)}}
	made := time.Date(2026, 11, 24, 9, 0, 0, 123456789, time.UTC)
	request := func(earlier, own, action string) []audit.Entry {
		t.Helper()
		record := &telemetry.Record{}
		ctx := telemetry.WithRecord(t.Context(), record)
		telemetry.SetEarlier(ctx, func() (telemetry.Turn, bool) {
			return telemetry.Turn{ID: earlier, At: made, Number: 7, Request: "r7", Model: "m", Tokens: 9}, earlier != ""
		})
		telemetry.SetTurn(ctx, func(turn *telemetry.Turn) { turn.ID, turn.At = own, made.Add(time.Minute) })
		entries := m.auditEntries(ctx, nil, &requestState{record: record, authenticated: true, action: action}, 200)
		m.Audit.write(context.WithoutCancel(ctx), entries)
		return entries
	}
	if got := request("", "a", "session.turn"); len(got) != 1 || got[0].ID != "turn-a" {
		t.Errorf("the first turn: %+v", got)
	}
	if got := request("a", "b", "session.turn"); len(got) != 1 || got[0].ID != "turn-b" {
		t.Errorf("after a turn of its own: %+v", got)
	}
	got := request("x", "", "session.read")
	if len(got) != 2 || got[1].Action != "session.read" || got[1].ID != "" {
		t.Fatalf("after another's turn: %+v", got)
	}
	if e := got[0]; e.ID != "turn-x" || !e.Time.Equal(made) || e.Action != "session.turn" || e.Outcome != audit.OK || e.RequestID != "r7" || e.Turn != 7 || e.Tokens != 9 || e.Status != 200 {
		t.Errorf("another's turn: %+v", e)
	}
	if got := request("x", "", "session.read"); len(got) != 1 {
		t.Errorf("once more: %+v", got)
	}
	// What is remembered is bounded; what was forgotten is written again.
	for i := range 2 * auditCacheSize {
		if i == auditCacheSize {
			if got := request("x", "", "session.read"); len(got) != 1 {
				t.Errorf("after %d other turns: %+v", i, got)
			}
		}
		request("", "n"+strconv.Itoa(i), "session.turn")
	}
	if got := request("x", "", "session.read"); len(got) != 2 {
		t.Errorf("after %d other turns: %+v", 2*auditCacheSize, got)
	}
}

// A client that left before its answer was there has left a turn, which is in the audit
// as any other; without a turn the entry has how the request ended.
func TestTheEntryOfAClientThatLeft(t *testing.T) {
	t.Parallel()
	m := &middleware{Config: Config{Audit: newTestAudit(t, false)}}
	for turn, want := range map[string]struct {
		outcome string
		status  int
	}{"a": {audit.OK, 200}, "": {string(api.ClientClosedRequest), 499}} {
		record := &telemetry.Record{}
		ctx := telemetry.WithRecord(t.Context(), record)
		telemetry.Fail(ctx, api.Fail(api.ClientClosedRequest, nil))
		telemetry.SetTurn(ctx, func(set *telemetry.Turn) { set.ID = turn })
		got := m.auditEntries(ctx, nil, &requestState{record: record, authenticated: true, action: "session.turn"}, 499)
		if len(got) != 1 || got[0].Outcome != want.outcome || got[0].Status != want.status {
			t.Errorf("turn %q: %+v", turn, got)
		}
	}
	record := &telemetry.Record{}
	ctx := telemetry.WithRecord(t.Context(), record)
	telemetry.Fail(ctx, api.Fail(api.Internal, nil))
	telemetry.SetTurn(ctx, func(set *telemetry.Turn) { set.ID = "a" })
	got := m.auditEntries(ctx, nil, &requestState{record: record, authenticated: true, action: "session.turn"}, 500)
	if len(got) != 1 || got[0].Outcome != string(api.Internal) || got[0].Status != 500 {
		t.Errorf("a turn whose answer failed: %+v", got)
	}
}

// A body is read by a handler that a client waits for; of a method without one it is not.
func TestWhichRequestsWaitForTheirBody(t *testing.T) {
	t.Parallel()
	for method, want := range map[string]bool{http.MethodPost: true, http.MethodPut: true, http.MethodGet: false, http.MethodDelete: false} {
		for body, want := range map[string]bool{"{}": want, "": false} {
			if got := readsBody(httptest.NewRequestWithContext(t.Context(), method, "/", strings.NewReader(body))); got != want {
				t.Errorf("%s with the body %q: %t", method, body, got)
			}
		}
	}
}

// A body that was refused its place stays refused.
func TestABodyIsReadAfterItsEnd(t *testing.T) {
	t.Parallel()
	full := &entry{m: &middleware{places: drain.NewPlaces(0)}}
	b := &gatedBody{ReadCloser: io.NopCloser(strings.NewReader("body")), entry: full}
	if _, err := io.ReadAll(b); err == nil {
		t.Error("it was not refused")
	}
	if n, err := b.Read(make([]byte, 8)); n != 0 || err == nil || err == io.EOF || b.bytes != 4 {
		t.Errorf("%d bytes, %v, %d in all", n, err, b.bytes)
	}
}

// Whom the audit has refusals of: a stranger's only for the credential, an origin or
// a limit, or anybody could fill it.
func TestWhichRefusalsAreAudited(t *testing.T) {
	t.Parallel()
	m := &middleware{Config: Config{Audit: newTestAudit(t, false)}}
	identified := func(action string) *requestState {
		return &requestState{authenticated: true, action: action, caller: caller.New(auth.Principal{Issuer: "api_key", Subject: "backend"}, "")}
	}
	misnamed := &requestState{action: "session.turn", caller: caller.Caller{Principal: auth.Principal{Issuer: "api_key", Subject: "backend"}}}
	stranger := func(action string) *requestState { return &requestState{action: action} }
	for name, test := range map[string]struct {
		state *requestState
		code  api.Code
		want  string
	}{
		"no place, of a known caller":              {identified("session.turn"), api.Overloaded, "session.turn"},
		"no place, at a route that is not audited": {identified(""), api.Overloaded, "request"},
		"no place, of a stranger":                  {stranger("session.turn"), api.Overloaded, ""},
		"not acceptable, of a known caller":        {identified(""), api.NotAcceptable, "request"},
		"not acceptable, of a stranger":            {stranger("session.turn"), api.NotAcceptable, ""},
		"a malformed end user":                     {misnamed, api.MalformedRequest, "session.turn"},
		"a malformed body, of a known caller":      {identified("session.turn"), api.MalformedRequest, "session.turn"},
		"an unknown path, of a known caller":       {identified(""), api.NotFound, ""},
		"an unknown path, of a stranger":           {stranger(""), api.NotFound, ""},
		"a wrong key on an unknown path":           {stranger(""), api.Unauthenticated, credentialRefused},
		"a limit, at a route that is not audited":  {identified(""), api.RateLimited, "request"},
		"an origin, of a stranger":                 {stranger(""), api.OriginNotAllowed, "request"},
		"a budget, of a known caller":              {identified("session.turn"), api.QuotaExceeded, "session.turn"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			record := &telemetry.Record{}
			ctx := telemetry.WithRecord(t.Context(), record)
			telemetry.Fail(ctx, api.Fail(test.code, nil))
			state := *test.state
			state.record = record
			entries := m.auditEntries(ctx, nil, &state, 400)
			switch {
			case test.want == "" && len(entries) > 0:
				t.Errorf("%+v, want none", entries)
			case test.want != "" && (len(entries) != 1 || entries[0].Action != test.want || entries[0].Outcome != string(test.code)):
				t.Errorf("%+v, want one %s", entries, test.want)
			}
		})
	}
}

// A flood of refused requests writes a bounded number of entries a minute, for each caller and
// for all without a valid credential, and how many it left out. Others have theirs as before.
func TestAFloodOfRefusalsInTheAudit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var out testlog.Buffer
		log, err := audit.New(t.Context(), "", audit.Off, "", &out)
		if err != nil {
			t.Fatal(err)
		}
		m := &middleware{Config: Config{Audit: NewAudit(log, false)}}
		request := func(state requestState, code api.Code) []audit.Entry {
			state.record = &telemetry.Record{}
			ctx := telemetry.WithRecord(t.Context(), state.record)
			if code != "" {
				telemetry.Fail(ctx, api.Fail(code, nil))
			}
			return m.auditEntries(ctx, nil, &state, 401)
		}
		flood := func(n int, of requestState, codes ...api.Code) (entries []audit.Entry) {
			for i := range n {
				entries = append(entries, request(of, codes[i%len(codes)])...)
			}
			return entries
		}
		named := func(subject string) requestState {
			return requestState{authenticated: true, caller: caller.New(auth.Principal{Issuer: "api_key", Subject: subject}, "")}
		}
		strangers, backend := requestState{}, named("backend")
		if got := flood(1000, strangers, api.Unauthenticated, api.OriginNotAllowed); len(got) != refusalsPerMinute {
			t.Errorf("%d entries of 1000 refusals of strangers in a minute", len(got))
		}
		if got := flood(1000, backend, api.RateLimited, api.PermissionDenied, api.QuotaExceeded, api.Overloaded); len(got) != refusalsPerMinute || got[0].Principal == "" {
			t.Errorf("%d entries of 1000 refusals of a caller in a minute: %+v", len(got), got[0])
		}
		backend.action = "session.read"
		if got := flood(100, backend, ""); len(got) != 100 {
			t.Errorf("%d entries of 100 requests that were not refused", len(got))
		}
		if got := flood(1, named("another"), api.RateLimited); len(got) != 1 {
			t.Errorf("another caller in the flood: %+v", got)
		}
		time.Sleep(time.Minute)
		got := flood(refusalsPerMinute+1, strangers, api.Unauthenticated)
		if len(got) != refusalsPerMinute+1 || got[1].Action != refusalsLeftOut || got[1].Count != 2*(1000-refusalsPerMinute) {
			t.Errorf("in the next minute: %d entries, the second %+v", len(got), got[1])
		}
		for i := range 2 * maxRefused {
			flood(1, named(strconv.Itoa(i)), api.RateLimited)
		}
		if n := len(m.Audit.refusals.written); n != maxRefused {
			t.Errorf("%d callers are counted", n)
		}
		if out.String() != "" {
			t.Fatalf("written: %s", &out)
		}
		if err := m.Audit.Close(); err != nil || !strings.Contains(out.String(), fmt.Sprintf(`"count":%d,`, 2+maxRefused)) {
			t.Errorf("at the end: %v, %s", err, &out)
		}
		written := out.String()
		if err := NewAudit(log, false).Close(); err != nil || out.String() != written {
			t.Errorf("of nothing left out: %v, %s", err, &out)
		}
	})
}

// Who watches a run whose instance has died may finish it: then the entry is the turn's, as
// its id is.
func TestTheEntryOfAReaderThatFinishesTheRun(t *testing.T) {
	t.Parallel()
	m := &middleware{Config: Config{Audit: newTestAudit(t, false)}}
	approved := &telemetry.Record{}
	ctx := telemetry.WithRecord(t.Context(), approved)
	telemetry.SetTurn(ctx, func(set *telemetry.Turn) { set.ID = "b" })
	if got := m.auditEntries(ctx, nil, &requestState{record: approved, authenticated: true, action: "run.approve"}, 200); len(got) != 1 || got[0].Action != "run.approve" {
		t.Errorf("who approves it: %+v", got)
	}
	for turn, want := range map[string]string{"": api.AuditRunRead, "a": api.AuditTurn} {
		record := &telemetry.Record{}
		ctx := telemetry.WithRecord(t.Context(), record)
		telemetry.SetTurn(ctx, func(set *telemetry.Turn) { set.ID = turn })
		got := m.auditEntries(ctx, nil, &requestState{record: record, authenticated: true, action: api.AuditRunRead}, 200)
		if len(got) != 1 || got[0].Action != want {
			t.Errorf("turn %q: %+v, want %s", turn, got, want)
		}
	}
}

// An answer has its status and its bytes in the log as they were sent.
func TestWhatIsRecordedOfAnAnswer(t *testing.T) {
	t.Parallel()
	w := &recorder{ResponseWriter: httptest.NewRecorder()}
	w.WriteHeader(http.StatusCreated)
	w.WriteHeader(http.StatusOK) // not sent
	for range 2 {
		if n, err := io.WriteString(w, "body"); n != 4 || err != nil {
			t.Error(n, err)
		}
	}
	if status := w.outcome(&telemetry.Record{}); status != http.StatusCreated || w.bytes != 8 {
		t.Errorf("%d, %d bytes", status, w.bytes)
	}
	broken := &recorder{ResponseWriter: brokenWriter{httptest.NewRecorder()}}
	if n, err := io.WriteString(broken, "body"); n != 3 || err == nil || broken.bytes != 3 {
		t.Errorf("%d bytes of a connection that broke, %v, %d in the log", n, err, broken.bytes)
	}
}

// brokenWriter sends three bytes of what is written.
type brokenWriter struct{ http.ResponseWriter }

func (brokenWriter) Write([]byte) (int, error) { return 3, io.ErrClosedPipe }

// What a task did is in the audit as its run's caller's, with an action that its route
// does not tell; a task that found nothing to do is not in it.
func TestTheEntryOfATask(t *testing.T) {
	t.Parallel()
	m := &middleware{Config: Config{Audit: newTestAudit(t, false)}}
	ada := caller.New(auth.Principal{Issuer: "api_key", Subject: "backend"}, "ada")
	do := func(ctx context.Context, action, outcome string) {
		telemetry.SetTurn(ctx, func(turn *telemetry.Turn) { turn.Action, turn.Outcome = action, outcome })
	}
	replay := func(ctx context.Context) {
		telemetry.SetTurn(ctx, func(turn *telemetry.Turn) { turn.Replayed = true })
	}
	for name, test := range map[string]struct {
		do   func(context.Context)
		want []string // action, outcome
	}{
		"nothing to do":      {func(context.Context) {}, nil},
		"a turn":             {func(ctx context.Context) { do(ctx, api.AuditTurn, "") }, []string{api.AuditTurn, "ok"}},
		"a webhook given up": {func(ctx context.Context) { do(ctx, "webhook.deliver", "failed") }, []string{"webhook.deliver", "failed"}},
		"a replay":           {func(ctx context.Context) { do(ctx, api.AuditTurn, ""); replay(ctx) }, []string{"session.replay", "ok"}},
		"a turn that has failed": {func(ctx context.Context) {
			do(ctx, api.AuditTurn, "")
			telemetry.Fail(ctx, &api.Error{Code: "model_failed"})
		}, []string{api.AuditTurn, "model_failed"}},
	} {
		record := &telemetry.Record{}
		ctx := telemetry.WithRecord(t.Context(), record)
		test.do(ctx)
		entries := m.auditEntries(ctx, nil, &requestState{record: record, authenticated: true, caller: ada}, 204)
		if test.want == nil {
			if len(entries) != 0 {
				t.Errorf("%s: %+v", name, entries)
			}
			continue
		}
		if len(entries) != 1 || entries[0].Action != test.want[0] || entries[0].Outcome != test.want[1] ||
			entries[0].Principal != string(ada.Principal.Owner()) || entries[0].EndUser != string(ada.Owner) {
			t.Errorf("%s: %+v, want %v of the run's caller", name, entries, test.want)
		}
	}
}

// A request that a limit refused is counted by the limit.
func TestByWhichLimitARequestIsRefused(t *testing.T) {
	t.Parallel()
	refusal := func(rule string, daily bool) error {
		return limit.Refused(&limit.Refusal{Rule: rule, Daily: daily, RetryAfter: time.Second})
	}
	for name, test := range map[string]struct {
		err  error
		want telemetry.Limit
	}{
		"none":                    {nil, ""},
		"another failure":         {api.Fail(api.ValidationFailed, nil), ""},
		"a client that left":      {limit.Refused(context.Canceled), ""},
		"no place":                {api.Fail(api.Overloaded, nil), telemetry.LimitConcurrency},
		"the service's tokens":    {refusal(limit.Service, true), telemetry.LimitServiceTokens},
		"the caller's tokens":     {refusal(limit.Caller, true), telemetry.LimitCallerTokens},
		"the caller's requests":   {refusal(limit.Caller, false), telemetry.LimitCallerRequests},
		"the end user's tokens":   {refusal(limit.EndUser, true), telemetry.LimitTokens},
		"the end user's requests": {refusal(limit.EndUser, false), telemetry.LimitRequests},
	} {
		var e *api.Error
		if test.err != nil {
			e = api.AsError(test.err)
		}
		if got := limitOf(e); got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}
