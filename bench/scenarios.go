package main

import (
	"context"
	"fmt"
	"maps"
	"time"

	"example.com/gatehouse/bench/internal/control"
)

// A scenario is one way of calling a server, and what is measured of it.
type scenario struct {
	name    string
	run     func(ctx context.Context, r *run) (Figures, error)
	profile string            // the name of its CPU profile's file; "" has none
	budgets map[string]budget // by figure, beside the limit
	starts  bool              // it is about the start of a process
}

// scenarios are what o asks for.
func scenarios(o Options) []scenario {
	var all []scenario
	for _, n := range o.AtOnce {
		all = append(all, unary(n))
	}
	for _, n := range o.Streams {
		all = append(all, manyStreams(n))
	}
	return append(all, coldStart())
}

// A run is one scenario on one target.
type run struct {
	Options
	target  target
	binary  string
	model   string                         // the stand-in's address
	profile string                         // file to write a CPU profile to, or ""
	told    func(target) map[string]string // of the stand-ins
}

// start starts the run's server.
func (r *run) start(ctx context.Context) (*server, error) {
	env := map[string]string{"GOOGLE_GEMINI_BASE_URL": "http://" + r.model + "/"}
	maps.Copy(env, r.target.env)
	maps.Copy(env, r.told(r.target))
	return start(ctx, command{binary: r.binary, args: r.target.args, env: env, obeys: true})
}

// serve starts a server, waits until it answers, hands it to use and ends it.
func (r *run) serve(ctx context.Context, use func(*server) error) error {
	s, err := r.start(ctx)
	if err != nil {
		return err
	}
	defer s.stop()
	if _, err := s.first(ctx, r.target, false); err != nil {
		return err
	}
	if err := use(s); err != nil {
		return fmt.Errorf("%w %s", err, &s.stderr)
	}
	return nil
}

// cost is what a server spent on some work.
type cost struct {
	wall, cpu time.Duration
	allocated uint64
	peak      int64 // memory, since its start
}

// measure returns the cost of work for the server.
func (r *run) measure(s *server, work func() error) (c cost, err error) {
	if r.profile != "" {
		if _, err := s.command(control.Profile + " " + r.profile); err != nil {
			return c, err
		}
	}
	before, err := s.command(control.Figures)
	if err != nil {
		return c, err
	}
	if c.wall, c.cpu, err = spent(s.cmd.Process.Pid, work); err != nil {
		return c, err
	}
	after, err := s.command(control.Figures)
	if err != nil {
		return c, err
	}
	c.allocated = after.Allocated - before.Allocated
	if r.profile != "" {
		if _, err := s.command(control.Stop); err != nil {
			return c, err
		}
	}
	_, c.peak, err = memory(s.cmd.Process.Pid)
	return c, err
}

// spent is how long work took, and how much of the CPU's time the process.
func spent(pid int, work func() error) (wall, cpu time.Duration, err error) {
	before, err := cpuTime(pid)
	if err != nil {
		return 0, 0, err
	}
	begin := time.Now()
	if err := work(); err != nil {
		return 0, 0, err
	}
	wall = time.Since(begin)
	after, err := cpuTime(pid)
	return wall, after - before, err
}

// unary is n clients that ask for whole answers. What a server remembers of the
// turns is part of its peak memory, and grows with their number.
func unary(n int) scenario {
	budgets := map[string]budget{throughput: atLeast(0.6), cpu: atMost(2)}
	if n == 1 {
		budgets = map[string]budget{p50: atMost(1.5)}
	}
	return scenario{
		name: fmt.Sprintf("unary, %d at once", n), profile: fmt.Sprintf("unary-%d", n), budgets: budgets,
		run: func(ctx context.Context, r *run) (Figures, error) {
			var f Figures
			err := r.serve(ctx, func(s *server) error {
				if _, err := load(ctx, s.address, r.target, n, r.SessionTurns, r.Warm()); err != nil {
					return err
				}
				var took []time.Duration
				c, err := r.measure(s, func() (err error) {
					took, err = load(ctx, s.address, r.target, n, r.SessionTurns, r.Duration)
					return err
				})
				if err != nil {
					return err
				}
				calls := float64(len(took))
				f = Figures{
					throughput: calls / c.wall.Seconds(),
					p50:        ms(percentile(took, 50)),
					p99:        ms(percentile(took, 99)),
					cpu:        ms(c.cpu) / calls,
					allocated:  float64(c.allocated) / 1024 / calls,
					peakMemory: mib(c.peak),
				}
				return nil
			})
			return f, err
		},
	}
}

// warmStreams are opened first, so that what is made once is made.
const warmStreams = 16

// manyStreams is n streams at once.
func manyStreams(n int) scenario {
	return scenario{
		name: fmt.Sprintf("%d streams at once", n), profile: fmt.Sprintf("streams-%d", n),
		budgets: map[string]budget{failures: atMost(0), firstP99: atMost(1.2), peakMemory: atMost(1.5)},
		run: func(ctx context.Context, r *run) (Figures, error) {
			var f Figures
			err := r.serve(ctx, func(s *server) error {
				if _, err := streams(ctx, s.address, r.target, min(n, warmStreams)); err != nil {
					return err
				}
				var out streamed
				c, err := r.measure(s, func() (err error) {
					out, err = streams(ctx, s.address, r.target, n)
					return err
				})
				if err != nil {
					return err
				}
				if f, err = out.figures(n); err != nil {
					return err
				}
				f[cpu], f[allocated], f[peakMemory] = ms(c.cpu)/float64(n), float64(c.allocated)/1024/float64(n), mib(c.peak)
				return nil
			})
			return f, err
		},
	}
}

// coldStart is processes that have just been started.
func coldStart() scenario {
	return scenario{
		name: "start of the process", starts: true,
		budgets: map[string]budget{firstAnswer: atMost(10), firstTurn: atMost(30), idleMemory: atMost(1.5)},
		run: func(ctx context.Context, r *run) (Figures, error) {
			var answers, turns, idle []float64
			for range r.Starts {
				answer, _, err := r.startOnce(ctx, false)
				if err != nil {
					return nil, err
				}
				turn, memory, err := r.startOnce(ctx, true)
				if err != nil {
					return nil, err
				}
				answers, turns, idle = append(answers, ms(answer)), append(turns, ms(turn)), append(idle, mib(memory))
			}
			return Figures{firstAnswer: median(answers), firstTurn: median(turns), idleMemory: median(idle)}, nil
		},
	}
}

// startOnce starts a server, asks once, for a turn or whether it lives, and returns the time from the start of the
// process to the answer, and the memory held then.
func (r *run) startOnce(ctx context.Context, turn bool) (time.Duration, int64, error) {
	s, err := r.start(ctx)
	if err != nil {
		return 0, 0, err
	}
	defer s.stop()
	took, err := s.first(ctx, r.target, turn)
	if err != nil {
		return 0, 0, err
	}
	now, _, err := memory(s.cmd.Process.Pid)
	return took, now, err
}
