// Command cost prints the cost of a deployment for a month of 30 days, and the part of
// it that one turn causes:
//
//	go run ./cmd/cost -turns 1e6
//
// It multiplies measurements (measured.json has their sources) by price lists:
// cloud/cloud.json for Google Cloud and internal/models/models.json for models, which
// is also the source of estimated_cost_usd in answers. -h lists the assumptions that
// can be changed.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"text/tabwriter"
	"time"

	"example.com/gatehouse/cmd/cost/cloud"
	"example.com/gatehouse/internal/models"
)

func main() {
	if err := run(os.Args[1:], os.Stdout, time.Now()); err != nil {
		if !errors.Is(err, flag.ErrHelp) {
			fmt.Fprintln(os.Stderr, "cost:", err)
		}
		os.Exit(2)
	}
}

// run prints the bill of a month with the prices of the day of now, unless args name
// another day.
func run(args []string, out io.Writer, now time.Time) error {
	u := defaults()
	u.Day = now
	flags := flag.NewFlagSet("cost", flag.ContinueOnError)
	number := func(to *float64, name, usage string) { flags.Float64Var(to, name, *to, usage) }
	number(&u.Turns, "turns", "turns in the month")
	number(&u.Sessions, "turns-per-session", "turns of a session")
	number(&u.Keyed, "keyed", "share of turns with an Idempotency-Key, 0 to 1")
	number(&u.Streamed, "streamed", "share of turns that are streams, 0 to 1")
	number(&u.Continued, "continued", "share of the streams that go on without their client: of /chat, with a key, or by on_disconnect, 0 to 1")
	number(&u.Effects, "effects", "share of turns in which a tool changes the world, 0 to 1")
	number(&u.Approvals, "approvals", "share of turns that wait for a person, 0 to 1")
	number(&u.Background, "background", "share of turns that are runs in the background, 0 to 1")
	number(&u.Webhooks, "webhooks", "webhooks of each of these runs")
	number(&u.Callers, "callers", "callers and end users at work in the same minute")
	number(&u.Hours, "hours", "hours of the day in which the turns come")
	number(&u.Seconds, "seconds", "seconds that a turn takes, nearly all of it the model's")
	number(&u.CPU, "cpu", "vCPUs of an instance")
	number(&u.MemoryGiB, "memory", "GiB of an instance")
	number(&u.Concurrency, "concurrency", "requests at once in an instance")
	number(&u.MinInstances, "min-instances", "instances that are always there")
	number(&u.PromptTokens, "prompt", "prompt tokens of a turn, over all its model calls")
	number(&u.CachedTokens, "cached", "of them, from the model's cache")
	number(&u.OutputTokens, "output", "tokens of answers and thoughts of a turn")
	number(&u.Searches, "searches", "queries of Google Search that a turn makes; what is free of them is not taken off")
	number(&u.TurnKB, "turn-kb", "KB stored of a turn")
	number(&u.KeptDays, "kept-days", "days a session is kept after its last turn")
	number(&u.AuditDays, "audit-days", "days the audit trail is kept")
	number(&u.AnswerKB, "answer-kb", "KB sent of a turn")
	number(&u.Deliveries, "deliveries", "deliveries in the month")
	number(&u.Images, "images", "images kept in the registry")
	number(&u.ConditionUSD, "condition-usd", "dollars that an alert condition costs a month; Google's pages say 0.10 or 1.50")
	number(&u.Secrets, "secrets", "secrets that are wired")
	flags.Func("day", "the day whose prices hold for the model, as 2027-01-01 (default today)", func(text string) (err error) {
		u.Day, err = time.Parse(time.DateOnly, text)
		return err
	})
	flags.StringVar(&u.Model, "model", u.Model, "the model, as the price list names it")
	free := flags.Bool("free", true, "take off what is free")
	list := flags.Bool("models", false, "print the table of models instead")
	if err := flags.Parse(args); err != nil {
		return flag.ErrHelp // the flag package has printed it
	}
	if flags.NArg() > 0 {
		return fmt.Errorf("unexpected %q", flags.Args())
	}
	if *list {
		return writeModels(out, models.BuiltIn(), u.Day)
	}
	if err := u.check(); err != nil {
		return err
	}
	lines, err := u.bill()
	if err != nil {
		return err
	}
	return write(out, u, lines, *free)
}

// write prints the bill as a Markdown table.
func write(out io.Writer, u usage, lines []line, free bool) error {
	t := tabwriter.NewWriter(out, 0, 0, 1, ' ', 0)
	fmt.Fprintf(t, "| what\t| how many\t| at list price\t| free\t| to pay\t|\n|---\t|---\t|---\t|---\t|---\t|\n")
	var list, pay float64
	for _, l := range lines {
		given := min(l.amount, l.item.Free)
		if !free {
			given = 0
		}
		full, due := l.amount*l.item.USD, (l.amount-given)*l.item.USD
		list += full
		pay += due
		fmt.Fprintf(t, "| %s\t| %s\t| $%.2f\t| %s\t| $%.2f\t|\n", l.name, count(l.amount), full, count(given), due)
	}
	fmt.Fprintf(t, "| **together**\t| \t| **$%.2f**\t| \t| **$%.2f**\t|\n", list, pay)
	if u.Turns > 0 {
		fmt.Fprintf(t, "| **a thousand turns**\t| \t| **$%.4f**\t| \t| **$%.4f**\t|\n", 1000*list/u.Turns, 1000*pay/u.Turns)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	always := alwaysOn(free)
	_, err := fmt.Fprintf(out, "\nInstances of invoke: $%.2f. An always-on instance of 4 CPUs and 8 GiB: $%.2f.\nPrices of %s (Google Cloud), %s (models); measured %s.\n",
		instances(lines, free), always, cloud.Prices().Date, models.BuiltIn().Date, measured().Date)
	return err
}

// count formats a number for people.
func count(n float64) string {
	switch {
	case n == 0:
		return "0"
	case n >= 1e9:
		return fmt.Sprintf("%.2f G", n/1e9)
	case n >= 1e6:
		return fmt.Sprintf("%.2f M", n/1e6)
	case n >= 1e4:
		return fmt.Sprintf("%.1f k", n/1e3)
	case n == float64(int64(n)):
		return fmt.Sprintf("%.0f", n)
	}
	return fmt.Sprintf("%.2f", n)
}
