package main

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"sync"
	"time"

	"example.com/gatehouse/cmd/cost/cloud"
	"example.com/gatehouse/internal/models"
)

// A month has 30 days.
const (
	days    = 30
	month   = days * 24 * 3600.0 // seconds
	minutes = days * 24 * 60.0
	gib     = 1 << 30
)

//go:embed measured.json
var rawMeasured []byte

// measurements are figures of this program with their sources.
type measurements struct {
	Date    string `json:"date"`
	Figures map[string]struct {
		Value  float64 `json:"value"`
		Of     string  `json:"of"`
		Source string  `json:"source"`
	} `json:"figures"`
}

var measured = sync.OnceValue(func() measurements {
	var m measurements
	if err := json.Unmarshal(rawMeasured, &m); err != nil {
		panic(fmt.Sprintf("cost: measured.json: %v", err)) // embedded, and parsed by the tests
	}
	return m
})

// figure returns a measured value. It panics for one that is not there, which is a mistake
// in this program, rather than leave a cost out.
func figure(name string) float64 {
	f, ok := measured().Figures[name]
	if !ok {
		panic("cost: measured.json has no " + name) // embedded, and parsed by the tests
	}
	return f.Value
}

// A usage is a month's assumed use.
type usage struct {
	Turns        float64
	Sessions     float64 // number of turns in each
	Keyed        float64 // fraction of turns with an Idempotency-Key
	Streamed     float64 // fraction of turns that are streams
	Continued    float64 // of these, fraction that go on without their client
	Effects      float64 // fraction of turns in which a tool changes the world
	Approvals    float64 // fraction of turns that wait for a person
	Background   float64 // fraction of turns that are runs in the background
	Webhooks     float64 // webhooks of each of these
	Callers      float64 // active callers
	Hours        float64 // per day
	Seconds      float64 // per turn
	CPU          float64
	MemoryGiB    float64
	Concurrency  float64
	MinInstances float64
	PromptTokens float64
	CachedTokens float64
	OutputTokens float64
	Searches     float64 // queries of Google Search per turn
	TurnKB       float64
	KeptDays     float64
	AuditDays    float64
	AnswerKB     float64
	Secrets      float64
	Deliveries   float64
	Images       float64 // kept in the registry
	ConditionUSD float64 // per alert condition and month
	Model        string
	Day          time.Time // day whose prices apply
}

// defaults returns the defaults of terraform/, and a turn with one tool call.
func defaults() usage {
	return usage{
		Turns: 1e6, Sessions: 5, Callers: 1, Hours: 24, Seconds: 3,
		CPU: 1, MemoryGiB: 0.5, Concurrency: 80,
		PromptTokens: 1500, OutputTokens: 300, TurnKB: 4, KeptDays: 30, AuditDays: 400, AnswerKB: 3,
		Deliveries: 8, Images: 10, ConditionUSD: cloud.Prices().Prices["alert_condition_month"].USD,
		Model: models.BuiltIn().Default, Day: models.BuiltIn().Date.Begin(),
	}
}

// check returns an error that names the flag at fault. Its comparisons are written so that
// NaN, which flags parse, is refused.
func (u usage) check() error {
	for name, value := range map[string]float64{
		"turns-per-session": u.Sessions, "hours": u.Hours, "seconds": u.Seconds,
		"cpu": u.CPU, "memory": u.MemoryGiB, "concurrency": u.Concurrency,
	} {
		if !(value > 0) || math.IsInf(value, 0) {
			return fmt.Errorf("-%s must be above 0", name)
		}
	}
	for name, value := range map[string]float64{
		"turns": u.Turns, "deliveries": u.Deliveries, "images": u.Images, "condition-usd": u.ConditionUSD, "keyed": u.Keyed, "streamed": u.Streamed, "continued": u.Continued, "effects": u.Effects, "approvals": u.Approvals, "background": u.Background, "webhooks": u.Webhooks, "callers": u.Callers, "min-instances": u.MinInstances, "prompt": u.PromptTokens, "cached": u.CachedTokens,
		"output": u.OutputTokens, "searches": u.Searches, "turn-kb": u.TurnKB, "kept-days": u.KeptDays, "audit-days": u.AuditDays, "answer-kb": u.AnswerKB, "secrets": u.Secrets,
	} {
		if !(value >= 0) || math.IsInf(value, 0) {
			return fmt.Errorf("-%s must not be below 0", name)
		}
	}
	switch {
	case u.Sessions < 1:
		return fmt.Errorf("-turns-per-session must be at least 1")
	case u.Keyed > 1:
		return fmt.Errorf("-keyed is a share, at most 1")
	case max(u.Streamed, u.Continued, u.Effects, u.Approvals, u.Background) > 1:
		return fmt.Errorf("-streamed, -continued, -effects, -approvals and -background are shares, at most 1")
	case u.Hours > 24:
		return fmt.Errorf("-hours must be at most 24")
	case u.CachedTokens > u.PromptTokens:
		return fmt.Errorf("-cached is a part of -prompt")
	}
	return nil
}

// A line is a line of the bill.
type line struct {
	name   string
	amount float64
	item   cloud.Item
}

// busy is the fraction of an instance's concurrency and CPU that Cloud Run's
// autoscaling aims at.
const busy = 0.6

// open returns the seconds per month for which instances have an open request;
// request-based billing charges for these. Turns are assumed to be independent, so if
// an instance has r of them on average, it has none for a fraction of e^-r of the
// time.
func (u usage) open() float64 {
	n := u.instances()
	return u.time() * n * (1 - math.Exp(-u.rate()*u.Seconds/n))
}

// time returns the seconds of the month in which turns come, and rate the turns per
// second.
func (u usage) time() float64 { return month * u.Hours / 24 }
func (u usage) rate() float64 { return u.Turns / u.time() }

// instances returns the number of instances while turns come. It is the largest of three:
// one, those that the open requests fill, and those that the CPU fills. A fraction is an
// average over time.
func (u usage) instances() float64 {
	return max(1, u.rate()*u.Seconds/(busy*u.Concurrency), u.rate()*figure("cpu_ms")/1000/(busy*u.CPU))
}

// figures returns the use of GET /health's statistics: writes by instances, each by
// the first turn after the pause since the previous write; documents written, one per
// instance and minute; and documents that the pings read.
func (u usage) figures() (writes, documents, read float64) {
	n := u.instances()
	between := n / u.rate() // seconds between two turns on an instance
	writes = u.time() * n / (figure("figures_seconds") + between)
	perMinute := n * (1 - math.Exp(-60/between))
	documents = u.time() / 60 * perMinute
	// A query without results is charged as one read.
	read = minutes*figure("sum_reads") + minutes*max(1, u.Hours/24*min(mostStates, figure("sum_minutes")*perMinute))
	return writes, documents, read
}

// mostStates is the limit on documents that one ping reads, as in package
// internal/gcp/firestore.
const mostStates = 500

// Prefix of the lines about instances.
const invokeInstances = "invoke: "

// bill returns the cost of the month's use.
//
// What is not known is counted high: leases as if all callers were at work in every minute
// that has turns, point-in-time recovery as a copy of all that is stored. Lines without an
// amount are left out. What is free is taken off when the bill is printed.
func (u usage) bill() ([]line, error) {
	tokens := models.BuiltIn().Estimate(u.Model, models.Tokens{Prompt: int64(u.PromptTokens), Cached: int64(u.CachedTokens), Output: int64(u.OutputTokens)}, u.Day)
	if tokens == nil {
		return nil, fmt.Errorf("the price list has no model %q", u.Model)
	}
	open := u.open()
	idle := max(0, u.MinInstances*month-open)
	sessions := u.Turns / u.Sessions
	leases := min(2*u.Turns, figure("minute_leases")*u.Callers*minutes*u.Hours/24)
	stored := u.Turns * u.TurnKB * 1000 / gib * u.KeptDays / days
	pings := minutes // by the scheduler, one per minute
	figureWrites, figureDocuments, figureReads := u.figures()
	entries := u.Turns * figure("audit_bytes") / gib
	runs := u.Turns * u.Background
	deliveries := runs * (1 + u.Webhooks)
	journal := max(0, math.Ceil(u.Seconds)-1) // writes of a record: a second after the start, then each second
	records := runs + u.Turns*(u.Effects+u.Approvals)
	recordWrites := runs*(figure("run_writes")+journal) + u.Turns*(u.Effects*figure("effect_writes")+u.Approvals*figure("approval_writes"))
	left := 0.0      // streams of which the queue has a task, in case nobody ends them
	if journal > 0 { // and one more with the turn
		records += u.Turns * u.Streamed
		recordWrites += u.Turns * u.Streamed * (journal + 1)
		left = u.Turns * u.Streamed * u.Continued
		deliveries += left
	}
	var lines []line
	var missing error
	add := func(name string, amount float64, item string) {
		p, ok := cloud.Prices().Prices[item]
		if !ok {
			missing = fmt.Errorf("the price list has no %q", item)
		}
		if amount > 0 {
			lines = append(lines, line{name, amount, p})
		}
	}
	add(invokeInstances+"vCPU-seconds with a request", open*u.CPU, "run_cpu_second")
	add(invokeInstances+"GiB-seconds with a request", open*u.MemoryGiB, "run_memory_gib_second")
	add(invokeInstances+"vCPU-seconds idle, minimum instances", idle*u.CPU, "run_idle_cpu_second")
	add(invokeInstances+"GiB-seconds idle, minimum instances", idle*u.MemoryGiB, "run_idle_memory_gib_second")
	add("requests, a health ping a minute among them", u.Turns+deliveries+pings, "run_request")
	add("Firestore reads", (u.Turns-sessions)*figure("commit_reads")+pings*figure("ping_reads")+figureReads+runs*(figure("run_reads")+u.Webhooks*figure("webhook_reads"))+u.Turns*u.Approvals*figure("approval_reads")+left*figure("left_reads"), "firestore_read")
	add("Firestore writes", u.Turns*(figure("commit_writes")+u.Keyed*figure("key_writes"))+leases+figureWrites+recordWrites, "firestore_write")
	add("Firestore deletions, by TTL", sessions+leases+figureDocuments+records, "firestore_delete")
	add("Firestore GiB stored", stored, "firestore_gib_month")
	add("Firestore GiB for point-in-time recovery, at most", stored, "firestore_pitr_gib_month")
	add("Firestore GiB of seven daily backups", 7*stored, "firestore_backup_gib_month")
	add("log GiB: our line and Cloud Run's a request, an audit entry a turn", (u.Turns+deliveries+pings)*(figure("line_bytes")+figure("platform_bytes"))/gib+entries, "logging_gib")
	add("audit GiB kept beyond 30 days", entries*max(0, u.AuditDays/days-1), "logging_retention_gib_month")
	add("secret versions", u.Secrets, "secret_version_month")
	add("secret accesses, at most one in five minutes and open instance", u.Secrets*(open/300+pings), "secret_access")
	add("operations of Cloud Tasks", 2*deliveries, "tasks_operation")
	add("scheduler jobs", 1, "scheduler_job_month")
	add("metric samples, by OTLP", figureDocuments*figure("metric_samples")+pings*figure("health_samples"), "monitoring_sample")
	add("alert conditions", figure("alert_conditions"), "alert_condition_month")
	lines[len(lines)-1].item.USD = u.ConditionUSD
	add("Cloud Build minutes", u.Deliveries*figure("build_minutes"), "build_minute")
	add("registry GiB", u.Images*figure("image_gib"), "registry_gib_month")
	add("GiB to the internet", u.Turns*u.AnswerKB*1000/gib, "egress_gib")
	if u.Turns == 0 {
		return lines, missing
	}
	lines = append(lines, line{"turns' tokens, " + u.Model, u.Turns, cloud.Item{USD: *tokens}})
	if u.Searches == 0 {
		return lines, missing
	}
	search := models.BuiltIn().Model(u.Model).Search
	if search == nil {
		return nil, fmt.Errorf("the price list has no searches of %q", u.Model)
	}
	name, amount := "queries of Google Search", u.Turns*u.Searches
	if search.Per == models.PerPrompt {
		name, amount = "turns with Google Search", u.Turns*min(1, u.Searches)
	}
	return append(lines, line{name, amount, cloud.Item{USD: search.USD / 1000}}), missing
}

// instances returns the cost of invoke's instances, without requests.
func instances(lines []line, free bool) float64 {
	var usd float64
	for _, l := range lines {
		if strings.HasPrefix(l.name, invokeInstances) {
			usd += due(l.amount, l.item, free)
		}
	}
	return usd
}

// alwaysOn returns the cost of an instance with 4 CPUs and 8 GiB that is charged around the
// clock, as common agent templates deploy. It is printed for comparison, without requests,
// as [instances] is.
func alwaysOn(free bool) float64 {
	p := cloud.Prices().Prices
	return due(4*month, p["run_always_cpu_second"], free) + due(8*month, p["run_always_memory_gib_second"], free)
}

// due returns the cost of an amount beyond the free quota.
func due(amount float64, item cloud.Item, free bool) float64 {
	if free {
		amount = max(0, amount-item.Free)
	}
	return amount * item.USD
}
