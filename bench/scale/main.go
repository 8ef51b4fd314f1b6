// Command scale computes what 10, 1 000 and 100 000 turns per second need: instances,
// documents read and written, which document is the hottest, and what it costs.
// It simulates queues, fed with what the benchmark measured.
//
//	cd bench && go run ./scale
//
// What is assumed of a turn is in [assumed]. Arrivals are independent of each
// other; a deployment has more instances than the mean needs, as Cloud Run's
// scaling keeps them at 60 % of their bounds.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"math"
	"os"
	"strings"
	"time"

	"example.com/gatehouse/cmd/cost/cloud"
	"example.com/gatehouse/internal/models"
)

func main() {
	results := flag.String("results", "results/results.json", "`file` that the benchmark wrote")
	flag.Parse()
	m, err := read(*results)
	if err != nil {
		log.Fatal(err)
	}
	if err := table(os.Stdout, m); err != nil {
		log.Fatal(err)
	}
}

// measured are the figures of a turn with everything on and Firestore.
type measured struct {
	cpu           float64 // seconds
	reads, writes float64 // of the session's document
	others        float64 // writes for limits and figures, at 5 turns a second
}

// read finds them in what the benchmark wrote.
func read(file string) (m measured, err error) {
	raw, err := os.ReadFile(file)
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
	if m.cpu == 0 || m.writes == 0 {
		return m, fmt.Errorf("%s has no figures of turns with Firestore", file)
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
}{3, 80, 0.5, 0.6, 5, models.Tokens{Prompt: 1500, Output: 300}, models.BuiltIn().Default, 2500}

// Firestore's sustained rate for one document, and Cloud Run's quota without a request for
// more (https://cloud.google.com/firestore/quotas, https://cloud.google.com/run/quotas).
const (
	documentWrites = 1.0   // a second
	runInstances   = 1000. // of a region, with the quota that large projects have
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
	cloud     float64 // US dollars a million turns, without the model
	tokens    float64 // the model's
}

// planFor simulates one instance of as many as rate needs: they are alike.
func planFor(rate float64, m measured) (plan, error) {
	a := assumed
	p := plan{rate: rate}
	p.instances = math.Ceil(max(1, rate*a.seconds/(a.busy*float64(a.concurrency)), rate*m.cpu/a.busy))
	share := rate / p.instances
	const turns = 200_000
	p.slot = queue{share, a.concurrency, exponential(a.seconds)}.simulate(turns, 1)
	p.cpu = queue{share, 1, constant(m.cpu)}.simulate(turns, 2)

	sessions := 1 / a.perSession // new ones a turn
	// An instance leases a minute's permits for the caller and its end user with a
	// write each, and writes its figures every ten seconds.
	others := min(m.others, 2/(60*share)+1/(10*share))
	p.reads = rate * (1 - sessions) * m.reads
	p.writes = rate * (m.writes + others)
	p.hottest = p.instances / 60

	open := p.instances * (1 - math.Exp(-share*a.seconds)) // seconds a second
	items := map[string]float64{
		"run_cpu_second": open / rate, "run_memory_gib_second": open * a.memoryGiB / rate, "run_request": 1,
		"firestore_read": p.reads / rate, "firestore_write": p.writes / rate, "firestore_delete": sessions + others,
		"logging_gib": a.logBytes / (1 << 30),
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
	p.tokens = 1e6 * *tokens
	return p, nil
}

// table writes what each rate needs.
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
	row("of Cloud Run's 1 000 in a region", func(p plan) string { return fmt.Sprintf("%.1f %%", 100*p.instances/runInstances) })
	row("an instance's requests at once, in use", func(p plan) string { return fmt.Sprintf("%.0f %%", 100*p.slot.busy) })
	row("turns that find none free", func(p plan) string { return fmt.Sprintf("%.2f %%", 100*p.slot.delayed) })
	row("an instance's CPU, in use", func(p plan) string { return fmt.Sprintf("%.1f %%", 100*p.cpu.busy) })
	row("wait for the CPU, p99, ms", func(p plan) string { return fmt.Sprintf("%.2f", 1000*p.cpu.p99) })
	row("documents read a second", func(p plan) string { return fmt.Sprintf("%.0f", p.reads) })
	row("documents written a second", func(p plan) string { return fmt.Sprintf("%.0f", p.writes) })
	row("writes a second of the counter of one caller who makes all turns", func(p plan) string {
		return fmt.Sprintf("%.2f (%.0f %% of what a document sustains)", p.hottest, 100*p.hottest/documentWrites)
	})
	row("Google Cloud, US dollars a million turns", func(p plan) string { return fmt.Sprintf("%.2f", p.cloud) })
	row("the same a month", func(p plan) string { return fmt.Sprintf("%.0f", p.cloud*p.rate*month/1e6) })
	row("the model's tokens, a million turns", func(p plan) string { return fmt.Sprintf("%.0f", p.tokens) })
	_, err := io.WriteString(w, b.String())
	return err
}
