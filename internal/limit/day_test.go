package limit_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"example.com/gatehouse/internal/limit"
)

// slowCounters responds after a delay, sometimes after the caller's timeout; the
// update happens anyway.
type slowCounters struct {
	limit.Counters
	mu     sync.Mutex
	random *rand.Rand
	slow   bool
	calls  int
}

func (f *slowCounters) Update(ctx context.Context, name string, u limit.Update) (limit.Account, error) {
	there, back := f.way()
	if err := sleep(ctx, there); err != nil {
		return limit.Account{}, err
	}
	account, err := f.Counters.Update(ctx, name, u)
	if err != nil {
		return limit.Account{}, err
	}
	return account, sleep(ctx, back)
}

func (f *slowCounters) Look(ctx context.Context, name string) (limit.Account, error) {
	there, back := f.way()
	if err := sleep(ctx, there+back); err != nil {
		return limit.Account{}, err
	}
	return f.Counters.Look(ctx, name)
}

func (f *slowCounters) way() (there, back time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	most := 30 * time.Millisecond
	if f.slow {
		most = 4 * time.Second // round trip: two of three take over a second, some time out
	}
	return time.Duration(f.random.Int64N(int64(most))), time.Duration(f.random.Int64N(int64(most)))
}

func (f *slowCounters) turn(slow bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.slow = slow
}

func (f *slowCounters) asked() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// A day simulates 24 hours of a service: turns on unevenly loaded instances, some of
// which crash, while the counters are slow now and then.
type day struct {
	instances, crashes, slowness int
	reservation                  int64 // maximum, in tokens
	turns                        int   // number of turns in the day

	random *rand.Rand
	shared limit.Counters

	mu       sync.Mutex
	used     map[string]int64 // by subject
	inFlight map[string]int64 // reserved, by subject
	peak     map[string]int64 // use and reservations above the budget, by subject
	refused  int
	all      []*slowCounters
}

// An instance is one process until it ends.
type instance struct {
	limiter  *limit.Limiter
	counters *slowCounters
	ends     context.Context
	crash    context.CancelFunc
}

func (d *day) start() *instance {
	counters := &slowCounters{Counters: d.shared, random: rand.New(rand.NewPCG(d.random.Uint64(), 1))}
	d.all = append(d.all, counters)
	i := &instance{counters: counters, limiter: limit.New(limit.Config{
		Counters: counters, MaxInstances: d.instances, Now: time.Now, Log: slog.New(slog.DiscardHandler),
	})}
	i.ends, i.crash = context.WithCancel(context.Background())
	return i
}

// turn simulates one model call.
func (d *day) turn(i *instance, budgets []limit.Budget, reserved, actual int64, takes time.Duration) {
	r, err := i.limiter.Reserve(i.ends, budgets, reserved)
	if errors.As(err, new(*limit.Refusal)) {
		d.mu.Lock()
		d.refused++
		d.mu.Unlock()
		return
	}
	if err != nil {
		return // crashed while the call waited
	}
	d.count(budgets, reserved, 0)
	if sleep(i.ends, takes) != nil {
		d.count(budgets, -reserved, reserved) // not observed to its end: charged as reserved
		return
	}
	d.count(budgets, -reserved, actual)
	r.Settle(spend(actual))
	if i.limiter.Due() {
		i.limiter.Flush(i.ends)
	}
}

func (d *day) count(budgets []limit.Budget, inFlight, used int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, b := range budgets {
		d.inFlight[b.Who] += inFlight
		d.used[b.Who] += used
		d.peak[b.Who] = max(d.peak[b.Who], d.used[b.Who]-b.PerDay)
	}
}

// run simulates the day. of returns the budgets of a turn.
func (d *day) run(of func(turn int) []limit.Budget) {
	d.used, d.inFlight, d.peak = map[string]int64{}, map[string]int64{}, map[string]int64{}
	all := make([]*instance, d.instances)
	for i := range all {
		all[i] = d.start()
	}
	midnight := time.Now().UTC().Truncate(24 * time.Hour).Add(24 * time.Hour)
	time.Sleep(time.Until(midnight))
	const length = 24*time.Hour - 5*time.Minute
	crashAt, slowAt := map[int]bool{}, map[int]int{}
	for range d.crashes {
		crashAt[d.random.IntN(d.turns)] = true
	}
	for range d.slowness {
		slowAt[d.random.IntN(d.turns)] = d.random.IntN(d.instances)
	}
	var turns sync.WaitGroup
	for turn := range d.turns {
		time.Sleep(length / time.Duration(d.turns))
		// One instance gets half of all turns, the next half of the rest, and so on.
		i := 0
		for i < d.instances-1 && d.random.IntN(2) == 0 {
			i++
		}
		reserved := d.reservation/2 + d.random.Int64N(d.reservation/2) + 1
		actual := 1 + d.random.Int64N(reserved)
		takes := time.Duration(1+d.random.IntN(20)) * time.Second
		on := all[i]
		turns.Go(func() { d.turn(on, of(turn), reserved, actual, takes) })
		if crashAt[turn] {
			busiest := d.random.IntN(2) * d.random.IntN(d.instances)
			all[busiest].crash()
			all[busiest] = d.start()
		}
		if which, ok := slowAt[turn]; ok {
			counters := all[which].counters
			counters.turn(true)
			turns.Go(func() {
				time.Sleep(3 * time.Minute)
				counters.turn(false)
			})
		}
	}
	turns.Wait()
	for _, i := range all {
		i.limiter.Close(context.Background())
		i.crash()
	}
	time.Sleep(time.Minute) // calls started by crashed instances
}

// With any number of crashes and slow counters, nearly all of a budget can be used,
// and never more.
func TestSimulatedDay(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name         string
		reservations int64 // the budget, in reservations
		people       int   // end users that share the turns; each has such a budget
		reservation  int64
		seeds        uint64
	}{
		{"a service of 10000 reservations", 10_000, 1, 2000, 1},
		{"a service of 4000 reservations", 4000, 1, 5000, 1},
		{"a budget of 1000 reservations", 1000, 1, 5000, 2},
		{"a budget of 400 reservations", 400, 1, 5000, 3},
		{"a budget of 101 reservations", 101, 1, 5000, 10},
		{"twenty people of 150 reservations each", 150, 20, 5000, 2},
	} {
		for seed := range tt.seeds {
			t.Run(fmt.Sprintf("%s, seed %d", tt.name, seed), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					budget := tt.reservations * tt.reservation
					random := rand.New(rand.NewPCG(seed, uint64(tt.reservations)))
					d := &day{
						instances: 10, crashes: 30, slowness: 30, reservation: tt.reservation, random: random, shared: limit.NewMemory(time.Now),
						turns: int(tt.reservations) * tt.people * 4, // a turn uses three eighths of a reservation
					}
					d.run(func(turn int) []limit.Budget {
						return []limit.Budget{{Name: "budget", Who: fmt.Sprint(turn % tt.people), PerDay: budget}}
					})
					least, most := int64(1<<62), int64(0)
					for _, used := range d.used {
						least, most = min(least, used), max(most, used)
					}
					over := int64(0)
					for _, peak := range d.peak {
						over = max(over, peak)
					}
					calls := 0
					for _, f := range d.all {
						calls += f.asked()
					}
					t.Logf("%.1f %% to %.1f %% used, at most %.2f reservations over; %d of %d turns refused, %.3f calls of the counters a turn let through",
						100*float64(least)/float64(budget), 100*float64(most)/float64(budget), float64(over)/float64(tt.reservation),
						d.refused, d.turns, float64(calls)/float64(d.turns-d.refused))
					if least < budget*9/10 {
						t.Errorf("%d of %d tokens used", least, budget)
					}
					if over > tt.reservation {
						t.Errorf("%d tokens over a budget of %d, a reservation is %d", over, budget, tt.reservation)
					}
				})
			})
		}
	}
}

// For any sequence of updates, also repeated and late ones, an account never grants
// more than the limit, and what an instance was charged stays charged.
func TestAccountProperties(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		perDay := rapid.Int64Range(1, 1000).Draw(t, "budget")
		perMinute := rapid.Int64Range(1, 60).Draw(t, "rate") * limit.Turn
		at := start
		var account limit.Account
		seq := map[string]int64{}
		var earlier []limit.Update
		for range rapid.IntRange(1, 80).Draw(t, "updates") {
			if rapid.IntRange(0, 5).Draw(t, "late") == 0 && len(earlier) > 0 {
				again := rapid.SampledFrom(earlier).Draw(t, "again")
				if at.Sub(again.At) > time.Minute {
					continue // no update is that late
				}
				after, changed := account.Apply(again)
				if changed || after.Charged() != account.Charged() {
					t.Fatal("a late update changed the account")
				}
				continue
			}
			at = at.Add(time.Duration(rapid.IntRange(0, 3000).Draw(t, "seconds")) * time.Second)
			minute := at.Unix() / 60
			who := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "who")
			seq[who]++
			mine := account.Shares[who]
			u := limit.Update{
				Instance: who, Seq: seq[who], At: at, Expires: at.Add(time.Hour), PerDay: perDay, PerMinute: perMinute, Minute: minute,
				Spent: mine.Spent + rapid.Int64Range(0, max(0, mine.Held)).Draw(t, "spent"), // at most what it holds
				More:  rapid.Int64Range(0, 200).Draw(t, "more"), MoreLeast: 10,
			}
			u.Want = rapid.Int64Range(0, 300).Draw(t, "want")
			if mine.Minute == minute {
				u.Calls = rapid.Int64Range(0, mine.Calls).Draw(t, "calls")
			}
			before := account.Charged()
			after, _ := account.Apply(u)
			earlier = append(earlier, u)
			got := after.Shares[who]
			switch {
			case after.Charged() > max(perDay, before):
				t.Fatalf("%d charged of %d", after.Charged(), perDay)
			case after.Calls(minute) > perMinute:
				t.Fatalf("%d tenths leased of %d", after.Calls(minute), perMinute)
			case got.Held > u.Want || got.Spent != u.Spent || got.Calls > u.Calls+u.More:
				t.Fatalf("asked for %+v, got %+v", u, got)
			case u.Want > 0 && got.Held == 0 && before < perDay && mine.Held == 0 && mine.Spent == 0:
				t.Fatalf("nothing was granted of %d left", perDay-before)
			}
			account = after
		}
	})
}
