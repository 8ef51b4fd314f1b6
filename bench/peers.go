package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

// Peers are the limit, this project and what people would pick instead, measured side by
// side: all are alive at once, and take turns.
type Peers struct {
	Machine Machine  `json:"machine"`
	Options Options  `json:"options"`
	Servers []Server `json:"servers"`
	Runs    []Run    `json:"runs"` // in the order they were made
}

// A Server is one of them.
type Server struct {
	Name     string   `json:"name"`
	Packages []string `json:"packages,omitempty"` // of Python
	Missing  string   `json:"missing,omitempty"`  // why it was not measured, or not to the end
}

// What is measured of peers.
const (
	starting   = "start"
	sequential = "one after the other"
	atOnce     = "at once"
	streaming  = "streams"
	growing    = "200 turns in a session"
)

const (
	peerRounds     = 7               // of sequential turns
	peerTurns      = 25              // a round
	peerSession    = 200             // turns
	peerAtOnce     = 64              // clients
	peerTimeout    = 5 * time.Minute // of a turn at being measured
	peerFirstTurns = 20              // whose median is compared with that of as many last ones
)

// A compared server, while it is measured.
type compared struct {
	target
	how     command
	server  *server
	dropped bool
}

// comparePeers measures o's peers. What cannot be installed, or fails, is reported and left
// out; without the limit or this project there is nothing to compare.
func comparePeers(ctx context.Context, o Options, targets []target, built build, model *server, services *standins, progress io.Writer) (_ *Peers, err error) {
	p := &Peers{Machine: machine(), Options: o}
	var all []*compared
	defer func() {
		for _, c := range all {
			if c.server != nil && c.server != model {
				c.server.stop()
			}
		}
	}()
	for _, t := range targets {
		server := Server{Name: t.name}
		how := command{binary: built.path(t.program), obeys: true}
		if t.python != nil {
			_, _ = fmt.Fprintf(progress, "installing %s, unless it is\n", t.name)
			venv, packages, err := t.python.install(ctx)
			if err == nil {
				how, err = t.python.command(venv, built.dir, t.program)
			}
			server.Packages = packages
			if err != nil {
				server.Missing = "not installed: " + err.Error()
				_, _ = fmt.Fprintf(progress, "NOT MEASURED: %s: %s\n", t.name, server.Missing)
				p.Servers = append(p.Servers, server)
				continue
			}
		}
		env := map[string]string{"GOOGLE_GEMINI_BASE_URL": "http://" + model.address + "/"}
		maps.Copy(env, how.env)
		maps.Copy(env, t.env)
		maps.Copy(env, services.environment(t))
		how.args, how.env = t.args, env
		p.Servers = append(p.Servers, server)
		all = append(all, &compared{target: t, how: how})
	}

	// each has all take a turn, another one first in each round.
	each := func(scenario string, round int, all []*compared, measure func(*compared, context.Context) (Figures, error)) error {
		_, _ = fmt.Fprintf(progress, "peers, round %d: %s\n", round, scenario)
		for i := range all {
			c := all[(i+round)%len(all)]
			if c.dropped {
				continue
			}
			err := func() error {
				ctx, cancel := context.WithTimeout(ctx, peerTimeout)
				defer cancel()
				f, err := measure(c, ctx)
				if err == nil {
					p.Runs = append(p.Runs, Run{Scenario: scenario, Target: c.name, Round: round, Figures: f})
				}
				return err
			}()
			if err == nil {
				continue
			}
			err = fmt.Errorf("%s: %w", scenario, err)
			last := ""
			if c.server != nil {
				last = c.server.stderr.String()
			}
			if ctx.Err() != nil || c.python == nil && !slices.Contains(foreign, c.program) {
				return fmt.Errorf("%s: %w %s", c.name, err, last)
			}
			c.dropped = true
			p.Servers[slices.IndexFunc(p.Servers, func(s Server) bool { return s.Name == c.name })].Missing = err.Error()
			_, _ = fmt.Fprintf(progress, "NOT MEASURED FURTHER: %s: %v %s\n", c.name, err, last)
		}
		return nil
	}

	for round := range o.Rounds {
		if err := each(starting, round+1, all, (*compared).start); err != nil {
			return nil, err
		}
	}
	withModel := append([]*compared{{target: standin, server: model}}, all...)
	for round := range peerRounds + 1 {
		if err := each(sequential, round, withModel, (*compared).sequential); err != nil {
			return nil, err
		}
	}
	p.Runs = slices.DeleteFunc(p.Runs, func(r Run) bool { return r.Round == 0 }) // which warmed all up
	p.add()
	for round := range o.Rounds {
		if err := each(atOnce, round+1, all, func(c *compared, ctx context.Context) (Figures, error) { return c.load(ctx, o) }); err != nil {
			return nil, err
		}
	}
	for round := range o.Rounds {
		if err := each(streaming, round+1, all, func(c *compared, ctx context.Context) (Figures, error) { return c.streams(ctx, o.PeerStreams) }); err != nil {
			return nil, err
		}
	}
	remembering := slices.DeleteFunc(slices.Clone(all), func(c *compared) bool { return !c.keeps && !c.dialect.carried })
	return p, each(growing, 1, remembering, (*compared).grow)
}

// start starts the server, in the place of the one before, and makes its first turn.
func (c *compared) start(ctx context.Context) (Figures, error) {
	if c.server != nil {
		c.server.stop()
	}
	var err error
	// A server outlives the context of its start.
	if c.server, err = start(context.WithoutCancel(ctx), c.how); err != nil {
		return nil, err
	}
	answer, err := c.server.first(ctx, c.target, false)
	if err != nil {
		return nil, err
	}
	turn, err := c.server.first(ctx, c.target, true)
	if err != nil {
		return nil, err
	}
	idle, err := proportional(c.server.cmd.Process.Pid)
	return Figures{firstAnswer: ms(answer), firstTurn: ms(turn), idleMemory: mib(idle)}, err
}

// sequential makes turns one after the other, each of a new session. To create the session,
// where that is another request, is no part of the time.
func (c *compared) sequential(ctx context.Context) (Figures, error) {
	client, err := connect(ctx, c.server.address, c.target)
	if err != nil {
		return nil, err
	}
	defer client.close()
	took := make([]time.Duration, peerTurns)
	for i := range took {
		if err := client.begin(acceptJSON); err != nil {
			return nil, err
		}
		begin := time.Now()
		if err := client.ask(); err != nil {
			return nil, err
		}
		took[i] = time.Since(begin)
	}
	slices.Sort(took)
	return Figures{p50: ms(percentile(took, 50))}, nil
}

// load has clients call at once, each turn in a new session. To create it, where that is
// another request, is part of the turn.
func (c *compared) load(ctx context.Context, o Options) (Figures, error) {
	if _, err := load(ctx, c.server.address, c.target, peerAtOnce, 0, o.Warm()); err != nil {
		return nil, err
	}
	var took []time.Duration
	wall, cpuUsed, err := spent(c.server.cmd.Process.Pid, func() (err error) {
		took, err = load(ctx, c.server.address, c.target, peerAtOnce, 0, o.Duration)
		return err
	})
	if err != nil {
		return nil, err
	}
	f := Figures{
		throughput: float64(len(took)) / wall.Seconds(), p50: ms(percentile(took, 50)), p99: ms(percentile(took, 99)),
		cpu: ms(cpuUsed) / float64(len(took)),
	}
	f[peakMemory], err = c.peak()
	return f, err
}

func (c *compared) streams(ctx context.Context, n int) (Figures, error) {
	var out streamed
	_, cpuUsed, err := spent(c.server.cmd.Process.Pid, func() (err error) {
		out, err = streams(ctx, c.server.address, c.target, n)
		return err
	})
	if err != nil {
		return nil, err
	}
	f, err := out.figures(n)
	if err != nil {
		return nil, err
	}
	f[cpu] = ms(cpuUsed) / float64(n)
	f[peakMemory], err = c.peak()
	return f, err
}

// grow makes many turns in one session.
func (c *compared) grow(ctx context.Context) (Figures, error) {
	pid := c.server.cmd.Process.Pid
	client, err := connect(ctx, c.server.address, c.target)
	if err != nil {
		return nil, err
	}
	defer client.close()
	before, err := proportional(pid)
	if err != nil {
		return nil, err
	}
	if err := client.begin(acceptJSON); err != nil {
		return nil, err
	}
	var took []time.Duration
	half := func() error {
		for range peerSession / 2 {
			begin := time.Now()
			if err := client.ask(); err != nil {
				return fmt.Errorf("turn %d: %w", len(took)+1, err)
			}
			took = append(took, time.Since(begin))
			client.request = c.turn(acceptJSON, client.asked)
		}
		return nil
	}
	_, first, err := spent(pid, half)
	if err != nil {
		return nil, err
	}
	_, last, err := spent(pid, half)
	if err != nil {
		return nil, err
	}
	after, err := proportional(pid)
	middle := func(some []time.Duration) float64 { return ms(percentile(slices.Sorted(slices.Values(some)), 50)) }
	return Figures{
		firstTurns: middle(took[:peerFirstTurns]), lastTurns: middle(took[len(took)-peerFirstTurns:]),
		firstCPU: ms(first) / (peerSession / 2), lastCPU: ms(last) / (peerSession / 2), grown: mib(after - before),
	}, err
}

// peak is the most memory that the server has held, in MiB: that of the process less what it
// shares with others now. A server that has made others would cost more than is counted.
func (c *compared) peak() (float64, error) {
	pid := c.server.cmd.Process.Pid
	if n, err := children(pid); err != nil || n > 0 {
		return 0, errors.Join(err, fmt.Errorf("it has %d processes more, which are not measured", n))
	}
	now, most, err := memory(pid)
	if err != nil {
		return 0, err
	}
	share, err := proportional(pid)
	return mib(most - now + share), err
}

// add puts into each sequential run what the server added to the model's time in that round.
func (p *Peers) add() {
	model := map[int]float64{}
	for _, r := range p.Runs {
		if r.Scenario == sequential && r.Target == standin.name {
			model[r.Round] = r.Figures[p50]
		}
	}
	for _, r := range p.Runs {
		if r.Scenario == sequential {
			r.Figures[added] = r.Figures[p50] - model[r.Round]
		}
	}
}

// values are a figure of a server, by round.
func (p *Peers) values(scenario, target, figure string) map[int]float64 {
	values := map[int]float64{}
	for _, r := range p.Runs {
		if value, ok := r.Figures[figure]; ok && r.Scenario == scenario && r.Target == target {
			values[r.Round] = value
		}
	}
	return values
}

// tables are those of the page.
func (p *Peers) tables() map[string]string {
	m := p.Machine
	missing, versions := "", []string{}
	for _, s := range p.Servers {
		if s.Missing != "" {
			missing += fmt.Sprintf("\n**Not measured, or not to its end: %s**: %.300s\n", s.Name, strings.ReplaceAll(s.Missing, "\n", " "))
		}
		// ADK and LiteLLM have a FastAPI each, too.
		for _, name := range []string{"google-adk==", "litellm==", "fastapi=="} {
			if i := slices.IndexFunc(s.Packages, func(pinned string) bool { return strings.HasPrefix(pinned, name) }); i >= 0 {
				versions = append(versions, ", "+strings.Replace(s.Packages[i], "==", " ", 1))
				break
			}
		}
	}
	return map[string]string{
		"peers machine": fmt.Sprintf("%s on %s, %d cores, %s; load average before: %.1f%s.\n%s",
			m.Date.Format("2006-01-02 15:04 UTC"), m.CPU, m.Cores, m.Go, m.LoadBefore, strings.Join(slices.Compact(versions), ""), missing),
		"peers": p.table([]column{
			{sequential, added, added}, {atOnce, throughput, "64 at once: throughput"}, {atOnce, p50, "p50"}, {atOnce, cpu, cpu}, {starting, firstAnswer, firstAnswer},
			{starting, firstTurn, firstTurn}, {starting, idleMemory, idleMemory}, {streaming, peakMemory, peakMemory},
		}),
		"peers streams": p.table([]column{
			{streaming, failures, failures}, {streaming, open, open}, {streaming, firstP50, "first text, p50"}, {streaming, firstP99, "first text, p99"}, {streaming, cpu, cpu},
		}),
		"peers growth": p.table([]column{
			{growing, firstTurns, firstTurns}, {growing, lastTurns, lastTurns}, {growing, firstCPU, firstCPU}, {growing, lastCPU, lastCPU}, {growing, grown, grown},
		}),
	}
}

type column struct{ scenario, figure, title string }

// table is a line a server and a column a figure: the median, and in brackets the median
// ratio to the limit's in the same round, or from which to which the rounds' figures are.
func (p *Peers) table(columns []column) string {
	var b strings.Builder
	b.WriteString("| |")
	for _, c := range columns {
		b.WriteString(" " + c.title)
		if unit := metricOf(c.figure).unit; unit != "" {
			b.WriteString(", " + unit)
		}
		b.WriteString(" |")
	}
	b.WriteString("\n|---|" + strings.Repeat("--:|", len(columns)) + "\n")
	for _, s := range p.Servers {
		line, measured := "| "+s.Name+" |", false
		for _, c := range columns {
			m, values, limits := metricOf(c.figure), p.values(c.scenario, s.Name, c.figure), p.values(c.scenario, limit.name, c.figure)
			if len(values) == 0 {
				line += " |"
				continue
			}
			measured = true
			line += fmt.Sprintf(" %.*f", m.decimals, median(slices.Collect(maps.Values(values))))
			var ratios []float64
			for round, value := range values {
				if limits[round] > 0 && m.compare == ratio {
					ratios = append(ratios, value/limits[round])
				}
			}
			least, most := slices.Min(slices.Collect(maps.Values(values))), slices.Max(slices.Collect(maps.Values(values)))
			switch {
			case s.Name == limit.name && m.compare == ratio:
			case len(ratios) > 0:
				line += fmt.Sprintf(" (%.2f)", median(ratios))
			case least < most:
				line += fmt.Sprintf(" (%.*f to %.*f)", m.decimals, least, m.decimals, most)
			}
			line += " |"
		}
		if measured {
			b.WriteString(line + "\n")
		}
	}
	return b.String()
}
