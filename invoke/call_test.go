package invoke_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/caller"
	"example.com/gatehouse/internal/gcp/emulator"
	"example.com/gatehouse/internal/gcp/firestore"
	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/internal/telemetry"
	"example.com/gatehouse/invoke"
	"example.com/gatehouse/session"
	"example.com/gatehouse/tool"
)

func callOf(t *testing.T, name, args string) *invoke.Call {
	t.Helper()
	call, err := invoke.NewCall(name, json.RawMessage(args))
	if err != nil {
		t.Fatal(err)
	}
	return call
}

// memory returns a store whose clock is ahead by offset.
func memory(offset *atomic.Int64) *session.Memory {
	return session.NewMemory(time.Hour, session.MemoryLimit, func() time.Time { return time.Now().Add(time.Duration(offset.Load())) }, telemetry.Discard())
}

const paysAnn = `{"to":"Ann","amount":7}`

// A tool that changes the world and is called without the model runs once for its key,
// however its first call has ended.
func TestACallWithAKey(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		pay       func(ctx context.Context, b *bank, effect string) error
		reconcile bool
		noAnswer  bool
		begun     int // in two calls
		paid      int
		want      string // of the failure, "" for an output
	}{
		"it pays":                         {begun: 1, paid: 7},
		"its own error":                   {pay: func(context.Context, *bank, string) error { return errors.New("no such account") }, begun: 1, want: "no such account"},
		"no answer, and it was paid":      {pay: func(_ context.Context, b *bank, id string) error { b.credit(id, 7); return tool.ErrUnknown }, reconcile: true, begun: 1, paid: 7},
		"no answer, and it was not":       {pay: func(context.Context, *bank, string) error { return tool.ErrUnknown }, reconcile: true, begun: 1, want: tool.ErrUnknown.Error()},
		"no answer, and nobody knows":     {pay: func(_ context.Context, b *bank, id string) error { b.credit(id, 7); return tool.ErrUnknown }, reconcile: true, noAnswer: true, begun: 1, paid: 7, want: "(effect_unknown)"},
		"no answer, without reconcile":    {pay: func(_ context.Context, b *bank, id string) error { b.credit(id, 7); return tool.ErrUnknown }, begun: 1, paid: 7, want: "(effect_unknown)"},
		"a panic, without reconcile":      {pay: func(context.Context, *bank, string) error { panic("hunter2") }, begun: 1, want: "(effect_unknown)"},
		"it takes too long, and was paid": {pay: func(ctx context.Context, b *bank, id string) error { b.credit(id, 7); <-ctx.Done(); return ctx.Err() }, reconcile: true, begun: 1, paid: 7},
		"it takes too long, nobody knows": {pay: func(ctx context.Context, b *bank, id string) error { <-ctx.Done(); return ctx.Err() }, begun: 1, want: "(effect_unknown)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := &bank{noAnswer: c.noAnswer}
			if c.pay != nil {
				b.pay = func(ctx context.Context, id string) error { return c.pay(ctx, b, id) }
			}
			effect := tool.Effect[payment, map[string]int](nil)
			if c.reconcile {
				effect = tool.Effect(b.reconcile)
			}
			store, gemini := newMemory(), geminitest.Start(t)
			first, second := asked(t, store, gemini, b.agent(effect, tool.Timeout(200*time.Millisecond))), asked(t, store, gemini, b.agent(effect))
			ctx := ofCaller(t, "ada")
			var ids []string
			for i, s := range []*invoke.Service{first, second} {
				response, err := s.CallTool(ctx, callOf(t, "pay", paysAnn), invoke.Options{Key: "k"})
				if err != nil {
					t.Fatal(err)
				}
				ids = append(ids, response.RunID)
				failed := response.CallFailure()
				switch {
				case c.want == "" && (failed != nil || string(response.Output) != `{"paid":7}`):
					t.Errorf("%s, %v", response.Output, failed)
				case c.want != "" && (failed == nil || !strings.Contains(failed.Error(), c.want) || strings.Contains(failed.Error(), "hunter2")):
					t.Errorf("%v, want %q", failed, c.want)
				}
				if response.Replayed() != (i == 1) {
					t.Errorf("call %d: replayed: %t", i, response.Replayed())
				}
			}
			if ids[0] != ids[1] || len(b.begins()) != c.begun || b.sum() != c.paid {
				t.Errorf("runs %v, begun %d times, paid %d", ids, len(b.begins()), b.sum())
			}
			_, err := second.CallTool(ctx, callOf(t, "pay", `{"to":"Ann","amount":8}`), invoke.Options{Key: "k"})
			wantCode(t, err, api.IdempotencyMismatch)
			if response, err := second.CallTool(ofCaller(t, "bob"), callOf(t, "pay", paysAnn), invoke.Options{Key: "k"}); err != nil || response.Replayed() {
				t.Errorf("another's key: %+v, %v", response, err)
			}
			if len(gemini.Requests()) != 0 {
				t.Error("the model was asked")
			}
		})
	}
}

// A tool that is called without the model learns for whom, in a call that leaves nothing as in
// one that has a key.
func TestACallKnowsForWhom(t *testing.T) {
	t.Parallel()
	s := asked(t, newMemory(), geminitest.Start(t), agent.Agent{Tools: []tool.Tool{
		tool.New("tell", "Tells for whom it is called.", func(ctx context.Context, _ struct{}) (string, error) {
			in := tool.From(ctx)
			return in.EndUser + " " + in.Locale, nil
		}),
	}})
	ctx := caller.NewContext(t.Context(), caller.Caller{Owner: session.OwnerOf("app", "ada"), EndUser: "ada"})
	for _, key := range []string{"", "key"} {
		response, err := s.CallTool(ctx, callOf(t, "tell", "{}"), invoke.Options{Key: key, Locale: "de-CH"})
		if err != nil || !strings.Contains(string(response.Output), "ada de-CH") {
			t.Errorf("with the key %q: %+v, %v", key, response, err)
		}
	}
}

// A call whose instance dies after the effect began is not made again: its end is asked for,
// by the retry of its key on another instance.
func TestACallWhoseInstanceDies(t *testing.T) {
	t.Parallel()
	for name, paid := range map[string]bool{"after it was paid": true, "before": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var offset atomic.Int64
			store, gemini, dead := memory(&offset), geminitest.Start(t), &atomic.Bool{}
			b := &bank{}
			b.pay = func(_ context.Context, id string) error {
				if len(b.begins()) > 1 {
					return nil
				}
				if paid {
					b.credit(id, 7)
				}
				dead.Store(true)
				return errors.New("the process is dead")
			}
			effect := tool.Effect(b.reconcile)
			first := asked(t, &dying{Store: store, dead: dead}, gemini, b.agent(effect))
			ctx := ofCaller(t, "ada")
			_, err := first.CallTool(ctx, callOf(t, "pay", paysAnn), invoke.Options{Key: "k"})
			wantCode(t, err, api.SessionStoreUnavailable)
			second := asked(t, store, gemini, b.agent(effect))
			_, err = second.CallTool(ctx, callOf(t, "pay", paysAnn), invoke.Options{Key: "k"})
			wantCode(t, err, api.IdempotencyInProgress)
			offset.Store(int64(session.LeaseTime + time.Second))
			response, err := second.CallTool(ctx, callOf(t, "pay", paysAnn), invoke.Options{Key: "k"})
			if err != nil || string(response.Output) != `{"paid":7}` || b.sum() != 7 || b.asked != 1 {
				t.Errorf("%+v, %v; paid %d, asked %d times", response, err, b.sum(), b.asked)
			}
			begun := 2
			if paid {
				begun = 1
			}
			if len(b.begins()) != begun || b.begins()[0] != b.begins()[len(b.begins())-1] {
				t.Errorf("begun as %v", b.begins())
			}
		})
	}
}

// Calls that neither change the world nor have a key leave nothing; with a key they leave
// their output, and after a failure the key is free again.
func TestACallLeavesWhatItMust(t *testing.T) {
	t.Parallel()
	store, gemini := newMemory(), geminitest.Start(t)
	var calls atomic.Int32
	s := asked(t, store, gemini, agent.Agent{Tools: []tool.Tool{
		tool.New("look", "Looks.", func(ctx context.Context, _ struct{}) (string, error) {
			if in := tool.From(ctx); in.SessionID != "" || in.Turn != 0 {
				t.Errorf("%+v", in)
			}
			if calls.Add(1) == 2 {
				return "", errors.New("it is dark")
			}
			return "seen", nil
		}),
		tool.New("fail", "Fails.", func(context.Context, struct{}) (string, error) { return "", errors.New("it is broken") }),
		tool.New("pay", "Pays.", func(context.Context, struct{}) (string, error) { return "", nil }, tool.Effect[struct{}, string](nil)),
	}})
	ctx := ofCaller(t, "ada")
	records := func() int {
		runs, _, err := s.Runs(ctx, session.RunFilter{}, 10, "")
		if err != nil {
			t.Fatal(err)
		}
		return len(runs)
	}
	if response, err := s.CallTool(ctx, callOf(t, "look", ``), invoke.Options{}); err != nil || string(response.Output) != `{"output":"seen"}` || records() != 0 {
		t.Errorf("%+v, %v, %d records", response, err, records())
	}
	if response, err := s.CallTool(ctx, callOf(t, "fail", ``), invoke.Options{}); response != nil || err == nil || err.Error() != "it is broken" {
		t.Errorf("%+v, %v", response, err)
	}
	if response, err := s.CallTool(ctx, callOf(t, "look", ``), invoke.Options{Key: "k"}); err != nil || response.CallFailure() == nil || response.CallFailure().Error() != "it is dark" {
		t.Errorf("%+v, %v", response, err)
	}
	for i := range 2 {
		response, err := s.CallTool(ctx, callOf(t, "look", ` { } `), invoke.Options{Key: "k"})
		if err != nil || string(response.Output) != `{"output":"seen"}` || response.Replayed() != (i == 1) {
			t.Errorf("%+v, %v", response, err)
		}
	}
	if calls.Load() != 3 || records() != 1 {
		t.Errorf("%d calls, %d records", calls.Load(), records())
	}
	if _, err := s.CallTool(ctx, callOf(t, "pay", `{"x":"`+strings.Repeat("<", 20<<10)+`"}`), invoke.Options{}); err == nil || !strings.Contains(err.Error(), "more than the 65536 allowed") {
		t.Errorf("long arguments: %v", err)
	}
	for _, args := range []string{"[]", "7", "null", `{"a":`, `"x"`} {
		if _, err := invoke.NewCall("look", json.RawMessage(args)); err == nil {
			t.Errorf("%s are arguments", args)
		}
	}
}

// The record of a call keeps of files that are too large for it only what they are.
func TestACallWithLargeFiles(t *testing.T) {
	t.Parallel()
	for size, kept := range map[int]bool{100 << 10: true, 200 << 10: false} {
		s := asked(t, newMemory(), geminitest.Start(t), agent.Agent{Tools: []tool.Tool{
			tool.New("draw", "Draws.", func(context.Context, struct{}) (tool.File, error) {
				return tool.File{Name: "a.png", Type: "image/png", Data: make([]byte, size)}, nil
			}),
		}}, func(c *invoke.Config) { c.Files.MaxBytes = 1 << 20 })
		for try := range 2 {
			response, err := s.CallTool(ofCaller(t, "ada"), callOf(t, "draw", ""), invoke.Options{Key: "k"})
			if err != nil || response.CallFailure() != nil || len(response.Files) != 1 || response.Files[0].Name != "a.png" {
				t.Fatalf("%+v, %v", response, err)
			}
			if has := len(response.Files[0].Data) > 0; has != (kept || try == 0) {
				t.Errorf("%d bytes, call %d: it has them: %t", size, try, has)
			}
		}
	}
}

// A call that asks a person waits in its record, and goes on once, with the arguments that
// were shown, for its owner, on any instance.
func TestACallThatAsks(t *testing.T) {
	t.Parallel()
	var offset atomic.Int64
	store, gemini := memory(&offset), geminitest.Start(t)
	b := &bank{}
	confirm := tool.Confirm(func(in payment) string {
		if in.Amount < 5 {
			return ""
		}
		return "Pay " + in.To + "?"
	})
	newService := func() *invoke.Service { return asked(t, store, gemini, b.agent(tool.Effect(b.reconcile), confirm)) }
	a, z := newService(), newService()
	ada, bob := ofCaller(t, "ada"), ofCaller(t, "bob")
	call := callOf(t, "pay", `{"amount":9007199254740993,"to":"Ann"}`)
	waits := func(key string) *invoke.Response {
		t.Helper()
		response, err := a.CallTool(ada, call, invoke.Options{Key: key})
		if err != nil || len(response.Pending) != 1 || response.Pending[0].Question != "Pay Ann?" || response.FinishReason != "WAITING" || response.CallFailure() != nil {
			t.Fatalf("%+v, %v", response, err)
		}
		return response
	}
	yes := []invoke.Approval{{CallID: "call_1_1", Approve: true}}

	if response, err := a.CallTool(ada, callOf(t, "pay", `{"to":"Ann","amount":2}`), invoke.Options{}); err != nil || string(response.Output) != `{"paid":2}` {
		t.Errorf("a call that need not ask: %+v, %v", response, err)
	}
	first := waits("k")
	if again := waits("k"); again.RunID != first.RunID || !again.Replayed() {
		t.Errorf("a retry: %+v", again)
	}
	if info, err := z.Read(ada, first.RunID); err != nil || info.State != session.Waiting || len(info.Pending) != 1 {
		t.Errorf("%+v, %v", info, err)
	}
	gemini.Enqueue(pays(50))
	turn, err := a.Ask(ada, invoke.Request{Query: "pay"}, nil)
	if err != nil || len(turn.Pending) != 1 {
		t.Fatal(turn, err)
	}
	// What is not this call's, and not this owner's.
	for name, try := range map[string]func() (*invoke.Response, error){
		"another owner":      func() (*invoke.Response, error) { return z.GoOnCall(bob, first.RunID, call, yes) },
		"other arguments":    func() (*invoke.Response, error) { return z.GoOnCall(ada, first.RunID, callOf(t, "pay", paysAnn), yes) },
		"another tool":       func() (*invoke.Response, error) { return z.GoOnCall(ada, first.RunID, callOf(t, "look", "{}"), yes) },
		"an id that is none": func() (*invoke.Response, error) { return z.GoOnCall(ada, "x", call, yes) },
		"an id of nothing": func() (*invoke.Response, error) {
			return z.GoOnCall(ada, "0123456789abcdef.0123456789abcdef", call, yes)
		},
		"another call's id": func() (*invoke.Response, error) {
			return z.GoOnCall(ada, first.RunID, call, []invoke.Approval{{CallID: "call_2_1", Approve: true}})
		},
		"a turn that waits":    func() (*invoke.Response, error) { return z.GoOnCall(ada, turn.RunID, call, yes) },
		"by /runs, of another": func() (*invoke.Response, error) { return z.Approve(bob, first.RunID, yes[0], nil) },
	} {
		response, err := try()
		if wantCode(t, err, api.NotFound); response != nil {
			t.Errorf("%s: %+v", name, response)
		}
	}
	if response, err := z.GoOnCall(ada, first.RunID, call, nil); err != nil || len(response.Pending) != 1 {
		t.Errorf("without an answer: %+v, %v", response, err)
	}
	if b.sum() != 2 {
		t.Fatalf("paid %d before it was approved", b.sum())
	}
	// Fifty at once: one goes on, and all that come after read how it ended.
	var wg sync.WaitGroup
	for i := range 50 {
		s := []*invoke.Service{a, z}[i%2]
		wg.Go(func() {
			response, err := s.GoOnCall(ada, first.RunID, call, yes)
			if err != nil || string(response.Output) != `{"paid":9007199254740993}` {
				t.Errorf("%+v, %v", response, err)
			}
		})
	}
	wg.Wait()
	if len(b.begins()) != 2 || b.sum() != 2+9007199254740993 {
		t.Errorf("begun %d times, paid %d", len(b.begins()), b.sum())
	}
	if response, err := z.CallTool(ada, call, invoke.Options{Key: "k"}); err != nil || string(response.Output) != `{"paid":9007199254740993}` || !response.Replayed() {
		t.Errorf("a retry of its key: %+v, %v", response, err)
	}
	if response, err := z.GoOnCall(ada, first.RunID, call, []invoke.Approval{{CallID: "call_1_1"}}); err != nil || response.CallFailure() != nil {
		t.Errorf("a denial that comes late: %+v, %v", response, err)
	}

	denied := waits("")
	response, err := z.GoOnCall(ada, denied.RunID, call, []invoke.Approval{{CallID: "call_1_1", Reason: "too much"}})
	if err != nil || response.CallFailure() == nil || response.CallFailure().Error() != "not run: a person has denied it: too much" {
		t.Errorf("denied: %+v, %v", response, err)
	}
	through := waits("")
	if response, err := z.Approve(ada, through.RunID, yes[0], nil); err != nil || string(response.Output) != `{"paid":9007199254740993}` {
		t.Errorf("approved by POST /runs/{id}/approvals: %+v, %v", response, err)
	}
	stopped := waits("")
	if err := z.Stop(ada, stopped.RunID); err != nil {
		t.Error(err)
	}
	_, err = z.GoOnCall(ada, stopped.RunID, call, yes)
	wantCode(t, err, api.SessionConflict)
	if len(b.begins()) != 3 {
		t.Errorf("begun %d times", len(b.begins()))
	}
}

// A person's time to answer ends, and the key does not wait for ever.
func TestACallThatAsksForTooLong(t *testing.T) {
	t.Parallel()
	var offset atomic.Int64
	b := &bank{}
	a := b.agent(tool.Effect(b.reconcile), tool.Confirm(func(payment) string { return "Pay?" }))
	s, ctx, call := asked(t, memory(&offset), geminitest.Start(t), a, func(c *invoke.Config) {
		c.ApprovalTTL, c.Now = time.Hour, func() time.Time { return time.Now().Add(time.Duration(offset.Load())) }
	}), ofCaller(t, "ada"), callOf(t, "pay", paysAnn)
	response, err := s.CallTool(ctx, call, invoke.Options{Key: "k"})
	if err != nil || len(response.Pending) != 1 {
		t.Fatal(response, err)
	}
	offset.Store(int64(time.Hour + time.Second))
	_, err = s.GoOnCall(ctx, response.RunID, call, []invoke.Approval{{CallID: "call_1_1", Approve: true}})
	wantCode(t, err, api.SessionConflict)
	_, err = s.CallTool(ctx, call, invoke.Options{Key: "k"})
	wantCode(t, err, api.SessionConflict)
	offset.Store(int64(session.RunLife + time.Minute))
	if again, err := s.CallTool(ctx, call, invoke.Options{Key: "k"}); err != nil || len(again.Pending) != 1 || again.Replayed() || len(b.begins()) != 0 {
		t.Errorf("after a day: %+v, %v", again, err)
	}
}

// A call that a person has approved keeps its key, although its time ended: a retry asks
// nobody again.
func TestAnApprovedCallThatTakesTooLong(t *testing.T) {
	t.Parallel()
	slow := func(ctx context.Context, _ payment) (string, error) { <-ctx.Done(); return "", ctx.Err() }
	a := agent.Agent{Tools: []tool.Tool{tool.New("pay", "Pays.", slow, tool.Confirm(func(payment) string { return "Pay?" }), tool.Timeout(time.Minute))}}
	s, ctx, call := asked(t, newMemory(), geminitest.Start(t), a, func(c *invoke.Config) { c.Timeout = time.Second }), ofCaller(t, "ada"), callOf(t, "pay", paysAnn)
	waits, err := s.CallTool(ctx, call, invoke.Options{Key: "k"})
	if err != nil || len(waits.Pending) != 1 {
		t.Fatal(waits, err)
	}
	_, err = s.GoOnCall(ctx, waits.RunID, call, []invoke.Approval{{CallID: "call_1_1", Approve: true}})
	wantCode(t, err, api.Timeout)
	again, err := s.CallTool(ctx, call, invoke.Options{Key: "k"})
	if wantCode(t, err, api.Timeout); again != nil {
		t.Errorf("%+v", again)
	}
}

// What a call leaves in Firestore, which an answer on another instance goes on from, and what
// a deletion of all leaves of it.
func TestCallsInFirestore(t *testing.T) {
	t.Parallel()
	gemini, traffic, b := geminitest.Start(t), &storeTraffic{}, &bank{}
	store := firestore.NewSessions(emulator.Client(t, traffic.options()...), time.Hour, time.Now)
	confirm := tool.Confirm(func(in payment) string {
		if in.Amount == 7 {
			return "Pay?"
		}
		return ""
	})
	newService := func() *invoke.Service { return asked(t, store, gemini, b.agent(tool.Effect(b.reconcile), confirm)) }
	a, z, ctx := newService(), newService(), ofCaller(t, "ada")
	call, yes := callOf(t, "pay", paysAnn), []invoke.Approval{{CallID: "call_1_1", Approve: true}}
	var waits *invoke.Response
	for _, tt := range []struct {
		name          string
		do            func() (*invoke.Response, error)
		output        string
		reads, writes int64
	}{
		{"a call that leaves nothing", func() (*invoke.Response, error) { return a.CallTool(ctx, callOf(t, "look", ""), invoke.Options{}) }, `{"output":"seen"}`, 0, 0},
		{"an effect", func() (*invoke.Response, error) {
			return a.CallTool(ctx, callOf(t, "pay", `{"to":"Ann","amount":3}`), invoke.Options{})
		}, `{"paid":3}`, 0, 2},
		{"with a key", func() (*invoke.Response, error) {
			return a.CallTool(ctx, callOf(t, "pay", `{"to":"Ann","amount":4}`), invoke.Options{Key: "k"})
		}, `{"paid":4}`, 0, 3},
		{"its retry", func() (*invoke.Response, error) {
			return z.CallTool(ctx, callOf(t, "pay", `{"to":"Ann","amount":4}`), invoke.Options{Key: "k"})
		}, `{"paid":4}`, 1, 1},
		{"a question", func() (_ *invoke.Response, err error) {
			waits, err = a.CallTool(ctx, call, invoke.Options{})
			return waits, err
		}, "", 0, 2},
		{"its answer", func() (*invoke.Response, error) { return z.GoOnCall(ctx, waits.RunID, call, yes) }, `{"paid":7}`, 2, 3},
	} {
		traffic.reads.Store(0)
		traffic.writes.Store(0)
		response, err := tt.do()
		if err != nil || string(response.Output) != tt.output {
			t.Errorf("%s: %+v, %v", tt.name, response, err)
		}
		if reads, writes := traffic.reads.Load(), traffic.writes.Load(); reads != tt.reads || writes != tt.writes {
			t.Errorf("%s: %d reads, %d writes, want %d and %d", tt.name, reads, writes, tt.reads, tt.writes)
		}
	}
	if waits, err := a.CallTool(ctx, call, invoke.Options{}); err != nil || len(waits.Pending) != 1 {
		t.Errorf("%+v, %v", waits, err)
	} else if err := store.DeleteAll(ctx, session.OwnerOf("ada", "")); err != nil {
		t.Error(err)
	} else if _, err := z.GoOnCall(ctx, waits.RunID, call, yes); err == nil {
		t.Error("a call goes on that was deleted")
	}
	if runs, _, err := a.Runs(ctx, session.RunFilter{}, 10, ""); err != nil || len(runs) != 0 || b.sum() != 14 {
		t.Errorf("%d runs are left, %v; paid %d", len(runs), err, b.sum())
	}
}

// An effect that has begun ends, and its end is kept, though its client has left; one that is
// stopped is unknown.
func TestACallWhoseClientLeaves(t *testing.T) {
	t.Parallel()
	for _, stopped := range []bool{false, true} {
		b, began, release := &bank{}, make(chan struct{}), make(chan struct{})
		b.pay = func(ctx context.Context, _ string) error {
			close(began)
			select {
			case <-release:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		s := asked(t, newMemory(), geminitest.Start(t), b.agent(tool.Effect[payment, map[string]int](nil)))
		ctx, leave := context.WithCancel(ofCaller(t, "ada"))
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			_, _ = s.CallTool(ctx, callOf(t, "pay", paysAnn), invoke.Options{Key: "k"})
		}()
		<-began
		leave()
		if stopped {
			runs, _, err := s.Runs(ofCaller(t, "ada"), session.RunFilter{}, 1, "")
			if err != nil || len(runs) != 1 {
				t.Fatal(runs, err)
			}
			if err := s.Stop(ofCaller(t, "ada"), runs[0].RunID); err != nil {
				t.Error(err)
			}
		} else {
			close(release)
		}
		<-ended
		response, err := s.CallTool(ofCaller(t, "ada"), callOf(t, "pay", paysAnn), invoke.Options{Key: "k"})
		if err != nil {
			t.Fatal(err)
		}
		failed := response.CallFailure()
		if !stopped && (failed != nil || b.sum() != 7) || stopped && (failed == nil || !strings.Contains(failed.Error(), "(effect_unknown)")) || len(b.begins()) != 1 {
			t.Errorf("stopped: %t: %+v, %v; paid %d", stopped, response, failed, b.sum())
		}
	}
}

// A lateStore makes the first write of a record only when land is called, long after its
// caller has given it up.
type lateStore struct {
	session.Store
	late []*session.Run
}

func (s *lateStore) SaveRun(ctx context.Context, r *session.Run) (*session.Run, error) {
	if r.Revision == nil {
		s.late = append(s.late, r)
		return nil, session.ErrUnavailable
	}
	return s.Store.SaveRun(ctx, r)
}

func (s *lateStore) land(t *testing.T) {
	t.Helper()
	for _, r := range s.late {
		if _, err := s.Store.SaveRun(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
}

// A question that takes its place in the store after it was given up, and after all of its
// owner was deleted, asks nobody.
func TestAQuestionThatComesAfterADeletion(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(t *testing.T, now func() time.Time) session.Store{
		"in memory": func(_ *testing.T, now func() time.Time) session.Store {
			return session.NewMemory(time.Hour, session.MemoryLimit, now, telemetry.Discard())
		},
		"in Firestore": func(t *testing.T, now func() time.Time) session.Store {
			return firestore.NewSessions(emulator.Client(t), time.Hour, now)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var offset atomic.Int64
			store := open(t, func() time.Time { return time.Now().Add(time.Duration(offset.Load())) })
			late, gemini, b := &lateStore{Store: store}, geminitest.Start(t), &bank{}
			pays := b.agent(tool.Effect(b.reconcile), tool.Confirm(func(payment) string { return "Pay?" }))
			a, z, ctx, call := asked(t, late, gemini, pays), asked(t, lapsing{store}, gemini, pays), ofCaller(t, "ada"), callOf(t, "pay", paysAnn)
			_, err := a.CallTool(ctx, call, invoke.Options{})
			wantCode(t, err, api.SessionStoreUnavailable)
			if err := store.DeleteAll(ctx, session.OwnerOf("ada", "")); err != nil {
				t.Fatal(err)
			}
			offset.Store(-int64(time.Second)) // it has the time at which it was sent
			late.land(t)
			if len(late.late) != 1 {
				t.Fatalf("%d writes", len(late.late))
			}
			run, yes := session.RunID(late.late[0].Key.ID, late.late[0].ID), invoke.Approval{CallID: "call_1_1", Approve: true}
			if waits, _, err := z.Runs(ctx, session.RunFilter{State: session.Waiting}, 10, ""); err != nil || len(waits) != 0 {
				t.Errorf("waits: %+v, %v", waits, err)
			}
			if response, err := z.Approve(ctx, run, yes, nil); err == nil {
				t.Errorf("approved: %+v", response)
			}
			response, err := z.GoOnCall(ctx, run, call, []invoke.Approval{yes})
			if wantCode(t, err, api.NotFound); response != nil || len(b.begins()) != 0 {
				t.Errorf("it goes on: %+v, begun %d times", response, len(b.begins()))
			}
			_, err = z.Read(ctx, run)
			wantCode(t, err, api.NotFound)
		})
	}
}
