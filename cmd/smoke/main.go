// Command smoke checks that a deployment works by calling it as clients do:
//
//	go run ./cmd/smoke -invoke https://invoke-….run.app -health https://health-….run.app
//
// It asks the agent, streams, repeats a call with an idempotency key, and makes calls
// that must be refused. Then it deletes its sessions. The credential is, in this
// order: an API key in GATEHOUSE_API_KEY; a bearer token in GATEHOUSE_TOKEN or -token;
// gcloud's identity token, of the service account in -impersonate if set. With both an
// API key and -impersonate, the key is for invoke and the account for health, which
// does not accept keys in a deployment. It exits with 1 if a check fails, 3 if Cloud
// Run refuses the caller for one of the functions, and takes at most three minutes.
//
// It is for the moment before a revision gets traffic, so it checks what a unit test
// cannot: that the identity, the roles, the secrets, the model and the store of this
// deployment fit together. It costs three answers of the model. A check that fails does not
// end the others, since one report of all is what the person needs who has to correct them.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Getenv, os.Stdout)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case errors.Is(err, errNotLetIn):
		fmt.Fprintln(os.Stderr, "smoke:", err)
		os.Exit(3)
	case err != nil:
		fmt.Fprintln(os.Stderr, "smoke:", err)
		os.Exit(1)
	}
}

// errChecksFailed is the error of a deployment that fails a check.
var errChecksFailed = errors.New("the deployment failed its checks")

func run(ctx context.Context, args []string, getenv func(string) string, out io.Writer) error {
	flags := flag.NewFlagSet("smoke", flag.ContinueOnError)
	invoke := flags.String("invoke", "", "the `URL` of the function invoke, or of one of its tags")
	health := flags.String("health", "", "the `URL` of the function health, or of one of its tags")
	token := flags.String("token", getenv("GATEHOUSE_TOKEN"), "a bearer `token`; the variable GATEHOUSE_TOKEN keeps it out of process lists")
	account := flags.String("impersonate", "", "the service `account` whose identity token gcloud is asked for")
	timeout := flags.Duration("timeout", 3*time.Minute, "how long all of it may take")
	if err := flags.Parse(args); err != nil {
		return flag.ErrHelp // the flag package has printed it
	}
	ctx, cancel := context.WithTimeout(ctx, *timeout)
	defer cancel()
	d := &deployment{client: newClient(), apiKey: getenv("GATEHOUSE_API_KEY")}
	for _, f := range []struct {
		name, address string
		to            *function
	}{{"invoke", *invoke, &d.invoke}, {"health", *health, &d.health}} {
		base, err := url.Parse(f.address)
		if err != nil || base.Host == "" || base.Scheme != "https" && base.Scheme != "http" {
			return fmt.Errorf("-%s must be the function's URL, such as https://%s-….run.app", f.name, f.name)
		}
		f.to.base = strings.TrimSuffix(base.String(), "/")
		switch {
		case d.apiKey != "" && (f.name == "invoke" || *account == ""): // with the key
		case *token != "":
			f.to.token = *token
		default:
			if f.to.token, err = identityToken(ctx, *account, audience(base)); err != nil {
				return err
			}
		}
	}
	return report(out, d.check(ctx))
}

// audience returns the audience of a token for the function at base: the service's URL,
// even if base is that of a tag, which Cloud Run puts before the name
// (https://cloud.google.com/run/docs/rollouts-rollbacks-traffic-migration#tags).
func audience(base *url.URL) string {
	host := base.Host
	if _, name, ok := strings.Cut(host, "---"); ok {
		host = name
	}
	return base.Scheme + "://" + host
}

// identityToken returns an identity token from gcloud. A person's token has gcloud's own
// audience, which Cloud Run accepts; only a service account's can name one, and needs its
// e-mail in it for the service to know the account.
func identityToken(ctx context.Context, account, audience string) (string, error) {
	args := []string{"auth", "print-identity-token", "--quiet"}
	if account != "" {
		args = append(args, "--impersonate-service-account="+account, "--audiences="+audience, "--include-email")
	}
	var stderr strings.Builder
	cmd := exec.CommandContext(ctx, "gcloud", args...)
	cmd.Stderr = &stderr
	output, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("gcloud returned no identity token; set GATEHOUSE_TOKEN or GATEHOUSE_API_KEY instead: %w\n%s", err, stderr.String())
	}
	return strings.TrimSpace(string(output)), nil
}

// report prints the results as a table, and returns an error unless all passed.
func report(out io.Writer, results []result) error {
	failed := 0
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, r := range results {
		mark, detail := "ok", r.detail
		switch {
		case r.skipped:
			mark = "--"
		case r.err != nil:
			mark, detail = "FAIL", r.err.Error()
			failed++
		}
		fmt.Fprintf(table, "%s\t%s\t%.2f s\t%s\n", mark, r.name, r.took.Seconds(), strings.Join(strings.Fields(detail), " "))
	}
	if err := table.Flush(); err != nil {
		return err
	}
	if slices.ContainsFunc(results, func(r result) bool { return errors.Is(r.err, errNotLetIn) }) {
		return fmt.Errorf("%w: %w", errChecksFailed, errNotLetIn)
	}
	if failed > 0 {
		return fmt.Errorf("%w: %d of %d checks failed", errChecksFailed, failed, len(results))
	}
	fmt.Fprintf(out, "%d checks passed\n", len(results))
	return nil
}
