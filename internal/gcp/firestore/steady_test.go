package firestore_test

import (
	"errors"
	"log/slog"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"example.com/gatehouse/internal/gcp/emulator"
	"example.com/gatehouse/internal/gcp/firestore"
	"example.com/gatehouse/internal/limit"
	"example.com/gatehouse/internal/testclock"
)

// What a deployment as Terraform makes it limits: by default a service of 20 million
// tokens a day, and a tenth of it for each end user.
func limits(user string) (rules []limit.Rule, budgets []limit.Budget) {
	rules = []limit.Rule{{Name: "end_user", Who: user, PerMinute: 60}, {Name: "caller", Who: "c", PerMinute: 600}}
	return rules, []limit.Budget{{Name: "end_user", Who: user, PerDay: 2_000_000}, {Name: "caller", Who: "c"}, {Name: "service", Who: "everybody", PerDay: 20_000_000}}
}

func spend(tokens int64) map[string]limit.Spend {
	return map[string]limit.Spend{"gemini-3.5-flash-lite": {Tokens: tokens, CostUSD: float64(tokens) / 1e6}}
}

// At a steady load of 20 turns a minute and more of one caller, limits take at most
// 0.2 writes a turn.
func TestWritesAtASteadyLoad(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		users  []string
		turns  int // a minute
		tokens int64
		most   float64
	}{
		// What a budget of two million is for, all day long.
		{"one end user, 20 turns a minute", []string{"a"}, 20, 2_000_000 / (24 * 60 * 20), 0.2},
		{"one end user, 60 turns a minute", []string{"a"}, 60, 2_000_000 / (24 * 60 * 60), 0.2},
		{"ten end users, 300 turns a minute", []string{"a", "b", "c", "d", "e", "f", "g", "h", "i", "j"}, 300, 2_000_000 / (24 * 60 * 30), 0.2},
		// Ten times as much: the end user's budget is used up in two and a half hours,
		// and its leases are no larger for it.
		{"one end user in a hurry", []string{"a"}, 20, 700, 0.5},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			clock := testclock.New(start)
			var w wire
			l := limit.New(limit.Config{
				Counters:     firestore.NewCounters(emulator.Client(t, w.options()...)),
				MaxInstances: 10, Now: clock.Now, Log: slog.New(slog.DiscardHandler),
			})
			const minutes = 4
			for minute := range minutes + 1 {
				if minute == 1 {
					w.take() // the first is no steady one
				}
				for i := range tt.turns {
					rules, budgets := limits(tt.users[i%len(tt.users)])
					permit, err := l.Take(t.Context(), rules, limit.Turn)
					if err != nil {
						t.Fatal(err)
					}
					r, err := l.Reserve(t.Context(), budgets, 2048+500)
					if err != nil {
						t.Fatal(err)
					}
					r.Settle(spend(tt.tokens))
					permit.Settle(limit.Turn)
					if l.Due() {
						l.Flush(t.Context())
					}
					clock.Advance(time.Minute / time.Duration(tt.turns))
				}
			}
			calls := strings.Fields(w.take())
			writes := strings.Count(strings.Join(calls, " "), "Commit")
			each := float64(writes) / float64(minutes*tt.turns)
			t.Logf("%d writes and %d reads for %d turns: %.3f a turn", writes, len(calls)-writes, minutes*tt.turns, each)
			if each > tt.most {
				t.Errorf("%.3f writes a turn, want at most %.1f", each, tt.most)
			}
			l.Close(t.Context())
		})
	}
}

// A report reads one document, however much was used and by however many instances.
func TestAReportReadsOneDocument(t *testing.T) {
	t.Parallel()
	clock := testclock.New(start)
	host, project := emulator.Host(t), emulator.Project()
	var w wire
	start := func(w *wire) *limit.Limiter {
		return limit.New(limit.Config{
			Counters:     firestore.NewCounters(emulator.Connect(t, host, project, w.options()...)),
			MaxInstances: 10, Now: clock.Now, Log: slog.New(slog.DiscardHandler),
		})
	}
	rules, budgets := limits("ada")
	total := int64(0)
	for range 3 {
		l := start(&wire{})
		for i := range int64(5) {
			r, err := l.Reserve(t.Context(), budgets, 3000)
			if err != nil {
				t.Fatal(err)
			}
			r.Settle(spend(100 * i))
			total += 100 * i
		}
		clock.Advance(time.Minute)
		l.Flush(t.Context())
	}
	l := start(&w)
	if _, err := l.Take(t.Context(), rules, limit.Get); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Reserve(t.Context(), budgets[2:], 3000); err != nil { // it has heard of the service
		t.Fatal(err)
	}
	w.take()
	report, err := l.Report(t.Context(), rules, budgets)
	if calls := w.take(); err != nil || calls != "BatchGetDocuments" || report.Usage["gemini-3.5-flash-lite"].Tokens != total {
		t.Errorf("calls %q, %+v, %v; want %d tokens", calls, report, err, total)
	}
	l.Close(t.Context())
}

// Instances that end without a word leave next to nothing of a budget unused, and what
// they leased is not leased again.
func TestInstancesThatCrash(t *testing.T) {
	t.Parallel()
	const reservation, reservations = 100, 150
	clock := testclock.New(start)
	host, project := emulator.Host(t), emulator.Project()
	random := rand.New(rand.NewPCG(1, 2))
	begin := func() *limit.Limiter {
		return limit.New(limit.Config{
			Counters:     firestore.NewCounters(emulator.Connect(t, host, project)),
			MaxInstances: 4, Now: clock.Now, Log: slog.New(slog.DiscardHandler),
		})
	}
	budgets := []limit.Budget{{Name: "end_user", Who: "ada", PerDay: reservation * reservations}}
	instances := []*limit.Limiter{begin(), begin(), begin()}
	used, refused, crashes := int64(0), 0, 0
	for turn := 0; refused < 30; turn++ {
		clock.Advance(7 * time.Second)
		i := random.IntN(len(instances))
		r, err := instances[i].Reserve(t.Context(), budgets, reservation)
		if errors.As(err, new(*limit.Refusal)) {
			refused++
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		if turn%10 == 9 { // in the middle of a call, which costs what was reserved
			used += reservation
			instances[i] = begin()
			crashes++
			continue
		}
		actual := 1 + random.Int64N(reservation)
		used += actual
		r.Settle(spend(actual))
		if instances[i].Due() {
			instances[i].Flush(t.Context())
		}
		if turn%10 == 4 { // between two calls
			instances[i] = begin()
			crashes++
		}
	}
	t.Logf("%d of %d tokens used with %d crashes", used, reservation*reservations, crashes)
	if used < reservation*reservations*9/10 || used > reservation*reservations {
		t.Errorf("%d of %d tokens used", used, reservation*reservations)
	}
	for _, l := range instances {
		l.Close(t.Context())
	}
}
