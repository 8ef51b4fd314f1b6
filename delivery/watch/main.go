// Command watch compares a new revision of a Cloud Run service with the old one while
// both have traffic, for the duration of a step of the delivery:
//
//	MONITORING_TOKEN=$(gcloud auth print-access-token) \
//	go run ./delivery/watch -project P -service invoke -old invoke-1 -new invoke-2 -for 10m
//
// It checks once a minute and ends at once if the new revision does harm. Its exit
// status is the verdict: 0 as good as the old one, 3 harm, 4 too few requests to
// judge, 5 the figures could not be read.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code, err := run(ctx, os.Args[1:], os.Getenv, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "watch:", err)
	}
	os.Exit(code)
}

// Exit codes in addition to those of [verdict].
const (
	exitFailed = 1
	exitUsage  = 2
)

// options are the command line's.
type options struct {
	monitoring
	old, new string
	length   time.Duration
	every    time.Duration
	now      func() time.Time
}

// run watches, reports to out, and returns the exit code.
func run(ctx context.Context, args []string, getenv func(string) string, out io.Writer) (int, error) {
	w := options{now: time.Now}
	flags := flag.NewFlagSet("watch", flag.ContinueOnError)
	flags.StringVar(&w.project, "project", "", "the Google Cloud `project`")
	flags.StringVar(&w.region, "region", "", "the service's `region`")
	flags.StringVar(&w.service, "service", "invoke", "the Cloud Run `service`")
	flags.StringVar(&w.old, "old", "", "the `revision` that is trusted")
	flags.StringVar(&w.new, "new", "", "the `revision` that is watched")
	flags.DurationVar(&w.length, "for", 10*time.Minute, "how long to watch")
	flags.DurationVar(&w.every, "every", time.Minute, "how often to look")
	if err := flags.Parse(args); err != nil {
		return exitUsage, nil // the flag package has printed it
	}
	for name, value := range map[string]string{"project": w.project, "region": w.region, "service": w.service, "old": w.old, "new": w.new} {
		if value == "" || strings.ContainsAny(value, "\"\\\n") {
			return exitUsage, fmt.Errorf("-%s must name one", name)
		}
	}
	w.token = getenv("MONITORING_TOKEN")
	// gcloud's variable, for the endpoint of a private network or a stand-in.
	w.endpoint = strings.TrimSuffix(getenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_MONITORING"), "/")
	if w.endpoint == "" {
		w.endpoint = "https://monitoring.googleapis.com"
	}
	v, err := w.watch(ctx, out)
	if err != nil {
		return exitFailed, err
	}
	return int(v), nil
}

// lag is the maximum delay of Cloud Run's figures; a shorter step has no figures of
// itself.
const lag = 3 * time.Minute

// history is the period before the step that the old revision's figures include, so
// that it can be compared even if it has no traffic any more.
const history = time.Hour

// watch checks until the time is over or the new revision does harm.
func (w *options) watch(ctx context.Context, out io.Writer) (verdict, error) {
	begin := w.now()
	end := begin.Add(w.length)
	fmt.Fprintf(out, "%s is compared with %s for %v\n", w.new, w.old, w.length)
	if w.length > 0 && w.length < lag {
		fmt.Fprintf(out, "the figures come up to %v late: in %v little will be seen\n", lag, w.length)
	}
	for {
		if pause := min(w.every, end.Sub(w.now())); pause > 0 {
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				return 0, errors.New("interrupted")
			}
		}
		v, err := w.look(ctx, begin, out)
		if ctx.Err() != nil {
			return 0, errors.New("interrupted")
		}
		if err != nil {
			v = unread
			fmt.Fprintln(out, err)
		}
		if v == harm || !w.now().Before(end) {
			return v, nil
		}
	}
}

// look reads both revisions' figures once and judges them.
func (w *options) look(ctx context.Context, begin time.Time, out io.Writer) (verdict, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	now := w.now()
	length := max(now.Sub(begin), time.Minute)
	newer, err := w.figures(ctx, w.new, now, length)
	if err != nil {
		return unread, fmt.Errorf("the figures of %s: %w", w.new, err)
	}
	older, err := w.figures(ctx, w.old, now, length+history)
	if err != nil {
		return unread, fmt.Errorf("the figures of %s: %w", w.old, err)
	}
	v, why := judge(older, newer)
	fmt.Fprintf(out, "%s\n  old %v\n  new %v\n", why, older, newer)
	return v, nil
}
