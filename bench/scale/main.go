// Command scale computes what 10, 1 000 and 100 000 turns per second need: instances,
// documents read and written, queues, what runs in the background wait and lose when
// instances end, which limit is reached first, and what it costs. It simulates queues, fed
// with what the benchmark measured.
//
//	cd bench
//	go run ./scale
//	go run ./scale -docs ../docs/performance.md
//
// What is assumed of a turn is in [assumed]. Arrivals are independent of each
// other; a deployment has more instances than the mean needs, as Cloud Run's
// scaling keeps them at 60 % of their bounds.
package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"math"
	"os"
	"slices"
	"strings"
	"time"

	"example.com/gatehouse/cmd/cost/cloud"
	"example.com/gatehouse/internal/models"
	"example.com/gatehouse/session"
)

func main() {
	results := flag.String("results", "results/results.json", "`file` that the benchmark wrote")
	costs := flag.String("costs", "../cmd/cost/measured.json", "`file` with the figures that cmd/cost computes with")
	page := flag.String("docs", "", "`file` to put the tables into, instead of standard output")
	flag.Parse()
	if err := run(*results, *costs, *page); err != nil {
		log.Fatal(err)
	}
}

func run(results, costs, page string) error {
	m, err := read(results, costs)
	if err != nil {
		return err
	}
	if page == "" {
		return table(os.Stdout, m)
	}
	text, err := os.ReadFile(page)
	if err != nil {
		return err
	}
	updated, err := document(string(text), m)
	if err != nil {
		return err
	}
	return os.WriteFile(page, []byte(updated), 0o644)
}

// document puts the tables into a page's text, between the comments <!-- scale --> and
// <!-- end -->.
func document(text string, m measured) (string, error) {
	const begin, end = "<!-- scale -->\n", "<!-- end -->"
	before, rest, found := strings.Cut(text, begin)
	_, after, closed := strings.Cut(rest, end)
	if !found || !closed {
		return "", errors.New("the page has no place for the tables")
	}
	var b strings.Builder
	err := table(&b, m)
	return before + begin + b.String() + end + after, err
}

// measured are the figures of a turn with everything on and Firestore.
type measured struct {
	cpu                 float64 // seconds
	reads, writes       float64 // of the session's document
	others              float64 // writes for limits and figures, at 5 turns a second
	runReads, runWrites float64 // more by a run in the background, beside the one a second
}

// read finds them in what the benchmark wrote, and in what cmd/cost computes with.
func read(file, costs string) (m measured, err error) {
	raw, err := os.ReadFile(costs)
	if err != nil {
		return m, err
	}
	var figures struct {
		Figures map[string]struct{ Value float64 }
	}
	if err := json.Unmarshal(raw, &figures); err != nil {
		return m, fmt.Errorf("%s: %w", costs, err)
	}
	m.runReads, m.runWrites = figures.Figures["run_reads"].Value, figures.Figures["run_writes"].Value
	raw, err = os.ReadFile(file)
	if err != nil {
		return m, err
	}
	var results struct {
		Comparison []struct {
			Scenario, Target, Figure string
			Ours                     float64
		}
		Documents []struct {
			Turn             string
			Sessions, Others struct{ Reads, Writes float64 }
		}
	}
	if err := json.Unmarshal(raw, &results); err != nil {
		return m, fmt.Errorf("%s: %w", file, err)
	}
	for _, c := range results.Comparison {
		if c.Scenario == "unary, 64 at once" && c.Figure == "CPU" && strings.HasSuffix(c.Target, "+ Firestore") {
			m.cpu = c.Ours / 1000
		}
	}
	for _, d := range results.Documents {
		switch {
		case d.Turn == "a turn of a session":
			m.reads, m.writes = d.Sessions.Reads, d.Sessions.Writes
		case strings.HasPrefix(d.Turn, "a turn at 5 a second"):
			m.others = d.Others.Writes
		}
	}
	if m.cpu == 0 || m.writes == 0 || m.runWrites == 0 {
		return m, fmt.Errorf("%s and %s have no figures of turns with Firestore", file, costs)
	}
	return m, nil
}

// assumed is a usual deployment and a usual turn.
var assumed = struct {
	seconds     float64 // of a turn: the model's
	concurrency int     // of an instance, whose CPU is one
	memoryGiB   float64
	busy        float64 // the share of its bounds that scaling aims at
	perSession  float64 // turns
	tokens      models.Tokens
	model       string
	logBytes    float64 // of a turn: our line, the audit's and Cloud Run's
	turnBytes   float64 // of a stored turn
	streamed    float64 // the share of turns that are streams which may be resumed
	background  float64 // the share that are runs in the background
	runSeconds  float64 // of these, the mean
	steps       int     // of a run
	life        float64 // seconds of an instance until it ends without warning, the mean
}{3, 80, 0.5, 0.6, 5, models.Tokens{Prompt: 1500, Output: 300}, models.BuiltIn().Default, 2500, 4000, 0.6, 0.05, 30, 5, 3600}

// The limits of what a deployment stands on.
const (
	documentWrites = 1.0     // of one document, a second, sustained: https://cloud.google.com/firestore/quotas
	databaseWrites = 10_000. // of a database, a second: the same
	rampBegin      = 500.    // operations a second from which, by at most half every five minutes, a load should grow: https://cloud.google.com/firestore/docs/best-practices
	rampFactor     = 1.5
	rampMinutes    = 5.
	sessionBytes   = 700 << 10 // of the 1 MiB that a document holds, at which a session's oldest turns move to its archive
	queueRate      = 500.      // deliveries of a queue, a second: https://cloud.google.com/tasks/docs/quotas
	queueAtOnce    = 5000.     // at once: the same
	ourRate        = 100.      // of terraform/background.tf's queue
	ourAtOnce      = 50.       // of the same, unless background.concurrent_runs is another
	runInstances   = 1000.     // of a region, with the quota that large projects have: https://cloud.google.com/run/quotas
	minBackoff     = 2.        // of terraform/background.tf's queue, in seconds
)

// month is 30 days, in seconds.
const month = 30 * 24 * 3600.0

// A plan is what a rate of turns needs.
type plan struct {
	rate      float64 // turns a second
	instances float64
	slot      waited // for one of an instance's requests at once
	cpu       waited // for its CPU
	reads     float64
	writes    float64 // a second
	hottest   float64 // writes a second of one caller's counter, all turns being that caller's
	queues    float64 // of Cloud Tasks
	runs      ran     // of one queue
	cloud     float64 // US dollars a million turns, without the model
	tokens    float64 // the model's
}

// planFor simulates one instance of as many as rate needs, and one queue: they are alike.
func planFor(rate float64, m measured) (plan, error) {
	a := assumed
	p := plan{rate: rate}
	seconds := (1-a.background)*a.seconds + a.background*a.runSeconds // of a request, mean
	p.instances = math.Ceil(max(1, rate*seconds/(a.busy*float64(a.concurrency)), rate*m.cpu/a.busy))
	share := rate / p.instances
	const turns = 200_000
	p.slot = queue{share, a.concurrency, exponential(seconds)}.simulate(turns, 1)
	p.cpu = queue{share, 1, constant(m.cpu)}.simulate(turns, 2)

	background := rate * a.background
	p.queues = math.Ceil(max(background/(a.busy*queueRate), background*a.runSeconds/(a.busy*queueAtOnce)))
	p.runs = runner{
		rate: background / p.queues, takes: exponential(a.runSeconds), steps: a.steps, instances: int(math.Ceil(p.instances / p.queues)), life: a.life,
		dispatches: queueRate, concurrent: queueAtOnce, lease: session.LeaseTime.Seconds(), backoff: minBackoff,
	}.simulate(turns, 3)

	sessions := 1 / a.perSession // new ones a turn
	// An instance leases a minute's permits for the caller and its end user with a
	// write each, and writes its figures every ten seconds.
	others := min(m.others, 2/(60*share)+1/(10*share))
	// A record is written from the first second on, once a second, and with the turn.
	journal := a.streamed*math.Ceil(a.seconds) + a.background*(m.runWrites+a.runSeconds-1+p.runs.takenOver)
	p.reads = rate * ((1-sessions)*m.reads + a.background*(m.runReads+2*p.runs.deliveries))
	p.writes = rate * (m.writes + others + journal)
	p.hottest = p.instances / 60

	open := p.instances * (1 - math.Exp(-share*seconds)) // seconds a second
	items := map[string]float64{
		"run_cpu_second": open / rate, "run_memory_gib_second": open * a.memoryGiB / rate, "run_request": 1 + a.background*p.runs.deliveries,
		"firestore_read": p.reads / rate, "firestore_write": p.writes / rate, "firestore_delete": sessions + others + a.streamed + a.background,
		"logging_gib": a.logBytes / (1 << 30), "tasks_operation": a.background * (1 + p.runs.deliveries),
	}
	for name, amount := range items {
		item, ok := cloud.Prices().Prices[name]
		if !ok {
			return plan{}, fmt.Errorf("the price list has no %q", name)
		}
		p.cloud += 1e6 * amount * item.USD
	}
	tokens := models.BuiltIn().Estimate(a.model, a.tokens, time.Now())
	if tokens == nil {
		return plan{}, fmt.Errorf("the price list has no %q", a.model)
	}
	p.tokens = 1e6 * *tokens * (1 + a.background*p.runs.again)
	return p, nil
}

// A bound is a limit, and how much of it a plan uses.
type bound struct {
	name string
	most float64
	unit string
	use  func(plan) float64
}

// bounds are those that more turns reach. Each plan's use grows with its rate.
var bounds = []bound{
	{"one caller's counter, when all turns are that caller's", documentWrites, "write a second of a document", func(p plan) float64 { return p.hottest }},
	{"the queue's runs at once, by Terraform's default", ourAtOnce, "runs", func(p plan) float64 { return p.rate * assumed.background * assumed.runSeconds }},
	{"the queue's deliveries, as Terraform makes it", ourRate, "a second", func(p plan) float64 { return p.rate * assumed.background * p.runs.deliveries }},
	{"one queue's deliveries, at Cloud Tasks' most", queueRate, "a second", func(p plan) float64 { return p.rate * assumed.background * p.runs.deliveries }},
	{"one queue's runs at once, at Cloud Tasks' most", queueAtOnce, "runs", func(p plan) float64 { return p.rate * assumed.background * assumed.runSeconds }},
	{"the database's writes", databaseWrites, "a second", func(p plan) float64 { return p.writes }},
	{"Cloud Run's instances in a region", runInstances, "instances", func(p plan) float64 { return p.instances }},
}

// reached is the rate at which a plan's use of b is all there is, between two rates at
// which it grows evenly.
func (b bound) reached(p plan) float64 { return p.rate * b.most / b.use(p) }

// ramp is the minutes in which a load on Firestore may grow from nothing to so many
// operations a second.
func ramp(operations float64) float64 {
	return max(0, math.Ceil(math.Log(operations/rampBegin)/math.Log(rampFactor))*rampMinutes)
}

// table writes what each rate needs, and then what breaks first.
func table(w io.Writer, m measured) error {
	var plans []plan
	for _, rate := range []float64{10, 1000, 100_000} {
		p, err := planFor(rate, m)
		if err != nil {
			return err
		}
		plans = append(plans, p)
	}
	var b strings.Builder
	row := func(name string, value func(plan) string) {
		b.WriteString("| " + name)
		for _, p := range plans {
			b.WriteString(" | " + value(p))
		}
		b.WriteString(" |\n")
	}
	row("turns a second", func(p plan) string { return fmt.Sprintf("%.0f", p.rate) })
	b.WriteString("|---|--:|--:|--:|\n")
	row(fmt.Sprintf("instances of 1 CPU and %d requests at once", assumed.concurrency), func(p plan) string { return fmt.Sprintf("%.0f", p.instances) })
	row("an instance's requests at once, in use", func(p plan) string { return fmt.Sprintf("%.0f %%", 100*p.slot.busy) })
	row("turns that find none free", func(p plan) string { return fmt.Sprintf("%.2f %%", 100*p.slot.delayed) })
	row("an instance's CPU, in use", func(p plan) string { return fmt.Sprintf("%.1f %%", 100*p.cpu.busy) })
	row("wait for the CPU, p99, ms", func(p plan) string { return fmt.Sprintf("%.2f", 1000*p.cpu.p99) })
	row("documents read a second", func(p plan) string { return fmt.Sprintf("%.0f", p.reads) })
	row("documents written a second", func(p plan) string { return fmt.Sprintf("%.0f", p.writes) })
	row("minutes in which Firestore lets that grow from nothing", func(p plan) string { return fmt.Sprintf("%.0f", ramp(p.reads+p.writes)) })
	row("turns until a session's oldest move out of its document", func(plan) string { return fmt.Sprintf("%d", int(sessionBytes/assumed.turnBytes)) })
	row("queues of Cloud Tasks", func(p plan) string { return fmt.Sprintf("%.0f", p.queues) })
	row("runs at work in the background", func(p plan) string { return fmt.Sprintf("%.0f", p.runs.atWork*p.queues) })
	row("wait for a run's delivery, p99, ms", func(p plan) string { return fmt.Sprintf("%.0f", 1000*p.runs.wait.p99) })
	row("runs whose instance ends and that another goes on with", func(p plan) string { return fmt.Sprintf("%.2f %%", 100*p.runs.takenOver) })
	row("seconds until it does, mean", func(p plan) string { return fmt.Sprintf("%.1f", p.runs.gap) })
	row("of runs' work, done twice", func(p plan) string { return fmt.Sprintf("%.2f %%", 100*p.runs.again) })
	row("Google Cloud, US dollars a million turns", func(p plan) string { return fmt.Sprintf("%.2f", p.cloud) })
	row("the same a month", func(p plan) string { return fmt.Sprintf("%.0f", p.cloud*p.rate*month/1e6) })
	row("the model's tokens, a million turns", func(p plan) string { return fmt.Sprintf("%.0f", p.tokens) })

	middle := plans[1]
	slices.SortStableFunc(bounds, func(a, b bound) int { return cmp.Compare(a.reached(middle), b.reached(middle)) })
	b.WriteString("\n| what is used up, first to last | most | at turns a second | of it, at 10 | at 1000 | at 100000 |\n|---|--:|--:|--:|--:|--:|\n")
	for _, bound := range bounds {
		fmt.Fprintf(&b, "| %s | %.0f %s | %.0f |", bound.name, bound.most, bound.unit, bound.reached(middle))
		for _, p := range plans {
			fmt.Fprintf(&b, " %.*f %% |", precision(bound.use(p)/bound.most), 100*bound.use(p)/bound.most)
		}
		b.WriteString("\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// precision is the decimals that a small percentage is shown with.
func precision(share float64) int {
	if share < 0.1 {
		return 1
	}
	return 0
}
