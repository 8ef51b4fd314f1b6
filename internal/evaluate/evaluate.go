// Package evaluate runs cases against an agent behind the whole gate, and scores the
// answers: by deterministic scorers, and by a model that judges. Cases come from files,
// or are turns that users rated. It writes a report, and the answers as
// Google's EvaluationDataset.
//
// Scorers that need no model decide first and cost nothing; a judge is asked only where a case
// has a criterion. The outcome is an exit code for a pipeline, a report for a reader, and a
// dataset for the Gen AI evaluation service, which can judge the same answers by its own
// metrics.
//
// The service runs in this process, as it is deployed, on the model that the
// environment configures: Gemini, or the offline stand-in without one. Tools run, with
// what they do: an evaluation belongs in a separate environment.
package evaluate

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"example.com/gatehouse/internal/offline"
	"example.com/gatehouse/internal/server"
	"example.com/gatehouse/internal/trial"
)

// ErrBelow is the error of [Run] if too few cases pass.
var ErrBelow = errors.New("fewer cases pass than the threshold asks for")

// maxParallel bounds cases at the same time.
const maxParallel = 64

// defaultFiles are the case files without arguments: of the module, and of the
// directories in it, such as advisor/evals.
var defaultFiles = []string{"evals/*.yaml", "*/evals/*.yaml"}

// options are the command line's.
type options struct {
	judge          string
	judgeThreshold int
	threshold      float64
	out            string
	parallel       int
	timeout        time.Duration
	files          []string
	verbose        bool
	stored         storedOptions
}

func parse(args []string, stderr io.Writer) (*options, error) {
	o := &options{}
	flags := flag.NewFlagSet("eval", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&o.judge, "judge", "", "the `model` that judges where a case has a criterion; empty: none does")
	flags.IntVar(&o.judgeThreshold, "judge-threshold", 4, "the points, 1 to 5, from which a judge's score passes")
	flags.Float64Var(&o.threshold, "threshold", 1, "the share of cases, 0 to 1, that must pass")
	flags.StringVar(&o.out, "out", "build/evaluation", "the `directory` for report.md, report.json and dataset.json")
	flags.IntVar(&o.parallel, "parallel", 4, "cases at the same time")
	flags.DurationVar(&o.timeout, "timeout", 30*time.Minute, "of the whole evaluation")
	flags.BoolVar(&o.verbose, "v", false, "write the service's log to standard error")
	o.stored.flags(flags)
	flags.Usage = func() {
		fmt.Fprintf(stderr, "usage: eval [flags] [case files]\n\nWithout files: %q. See docs/your-agent.md, Evaluations.\n\n", defaultFiles)
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return nil, flag.ErrHelp // the flag package has printed it
	}
	switch {
	// Written so that NaN, which the flag package parses, is refused.
	case !(o.threshold >= 0 && o.threshold <= 1):
		return nil, errors.New("-threshold must be from 0 to 1")
	case o.judgeThreshold < 1 || o.judgeThreshold > 5:
		return nil, errors.New("-judge-threshold must be from 1 to 5")
	case o.parallel < 1 || o.parallel > maxParallel:
		return nil, fmt.Errorf("-parallel must be from 1 to %d", maxParallel)
	case o.timeout <= 0:
		return nil, errors.New("-timeout must be above 0")
	}
	if err := o.stored.check(flags.NArg()); err != nil {
		return nil, err
	}
	o.files = flags.Args()
	if len(o.files) > 0 || o.stored.since > 0 {
		return o, nil
	}
	for _, pattern := range defaultFiles {
		found, err := filepath.Glob(pattern)
		if err != nil {
			return nil, err
		}
		o.files = append(o.files, found...)
	}
	if len(o.files) == 0 {
		return nil, fmt.Errorf("no case files: %q match none", defaultFiles)
	}
	return o, nil
}

// overrides are variables that an evaluation sets: sessions in memory, the caller
// nobody in particular, no limits, and no telemetry or audit of a deployment.
//
// PLAYGROUND is off because nobody looks, and LOG_CONTENT because questions may be people's.
// Limits are off or out of reach: all cases come from one caller within minutes.
var overrides = map[string]string{
	"ENVIRONMENT": "test", "SESSION_STORE": "memory", "AUTH": "none", "AUDIT_LOG": "off", "LOG_CONTENT": "false",
	"OTEL_TRACES_EXPORTER": "none", "OTEL_METRICS_EXPORTER": "none", "PLAYGROUND": "false",
	"RATE_LIMIT_PER_MINUTE": "1000000", "CALLER_RATE_LIMIT_PER_MINUTE": "1000000",
	"DAILY_TOKEN_LIMIT": "0", "CALLER_DAILY_TOKEN_LIMIT": "0", "SERVICE_DAILY_TOKEN_LIMIT": "0",
}

// unset are variables that an evaluation does not hand on: of callers, which are not
// admitted, and of the platform.
var unset = []string{
	"K_SERVICE", "K_REVISION", "FUNCTION_TARGET", "IAM_ENFORCED", "OIDC_ISSUERS", "OIDC_AUDIENCES", "API_KEYS", "API_KEYS_SECRET",
	"OPERATORS", "ALLOWED_ORIGINS", "ALLOWED_ORIGINS_SECRET",
}

// environment returns lookup as an evaluation uses it.
func environment(lookup func(string) (string, bool)) func(string) (string, bool) {
	return func(name string) (string, bool) {
		if value, ok := overrides[name]; ok {
			return value, true
		}
		if slices.Contains(unset, name) {
			return "", false
		}
		return lookup(name)
	}
}

// Run runs the evaluation that args describe, of the agent of base, and writes what it
// finds to stdout and into files. The error is [flag.ErrHelp] after wrong usage that
// has been printed, and wraps [ErrBelow] if too few cases pass.
func Run(ctx context.Context, args []string, base server.Options, stdout, stderr io.Writer) error {
	o, err := parse(args, stderr)
	if err != nil {
		return err
	}
	// The cause is what the command prints, rather than "context deadline exceeded" of some
	// call within.
	ctx, cancel := context.WithTimeoutCause(ctx, o.timeout, fmt.Errorf("the evaluation took longer than %v", o.timeout))
	defer cancel()
	cases, err := ReadCases(o.files)
	if err != nil {
		return err
	}
	if o.stored.since > 0 {
		if cases, err = o.stored.read(ctx, base.Lookup, stderr); err != nil {
			return err
		}
		if len(cases) == 0 {
			fmt.Fprintln(stdout, "No stored turn has such feedback.")
			return nil
		}
	}
	base.Lookup, base.Log, base.Loopback = environment(base.Lookup), io.Discard, false
	if o.verbose {
		base.Log = stderr
	}
	// The stand-in answers only where the environment configures no model.
	base.StandIn = &server.StandIn{Model: offline.Model, Transport: offline.New()}
	s, err := trial.Start(ctx, base)
	defer func() { _ = s.Close(ctx) }()
	if err != nil {
		return err
	}
	report, err := o.evaluate(ctx, s, cases)
	if err != nil {
		return err
	}
	if err := report.write(o.out); err != nil {
		return fmt.Errorf("writing the report: %w", err)
	}
	fmt.Fprint(stdout, report.markdown())
	fmt.Fprintf(stdout, "\nWritten to %s: report.md, report.json, dataset.json\n", o.out)
	if !report.Pass {
		return fmt.Errorf("%w: %d of %d, at least %.0f %% must", ErrBelow, report.Passed, report.Cases, 100*o.threshold)
	}
	return nil
}

// evaluate runs the cases, some at the same time.
func (o *options) evaluate(ctx context.Context, s *trial.Service, cases []Case) (*Report, error) {
	var j *judge
	if o.judge != "" {
		if s.Server().Config.Offline() {
			return nil, errors.New("-judge needs a model: the offline stand-in does not judge; set GEMINI_API_KEY or GOOGLE_GENAI_USE_VERTEXAI")
		}
		j = &judge{s.Server().Model(), o.judge, o.judgeThreshold}
	}
	report := &Report{
		Agent: s.Server().Agent().Name, Digest: s.Server().AgentDigest(), Model: s.Server().ModelName(), Judge: o.judge,
		Began: time.Now(), Threshold: o.threshold, Results: make([]Result, len(cases)),
	}
	var mu sync.Mutex
	judged, spent := 0.0, 0.0
	group, ctx := errgroup.WithContext(ctx)
	// Each case writes its own element of Results, which needs no lock; the sums of costs do.
	group.SetLimit(o.parallel)
	for i := range cases {
		group.Go(func() error {
			result, judging, turns, err := run(ctx, s, &cases[i], j)
			report.Results[i] = result
			mu.Lock()
			judged, spent = judged+judging, spent+turns
			mu.Unlock()
			return err
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	report.Seconds = time.Since(report.Began).Seconds()
	report.sum(judged, spent)
	return report, nil
}

// run runs one case, and returns what judging and the turns cost in dollars.
//
// Its error is about what keeps the evaluation from going on, such as its timeout. What the
// agent gets wrong, an error of the service among it, is a score.
func run(ctx context.Context, s *trial.Service, c *Case, j *judge) (r Result, judging, turns float64, err error) {
	sessionID, answers := "", []string{}
	ask := func(query string) (trial.Answer, error) {
		a, err := s.Ask(ctx, trial.Question{Query: query, SessionID: sessionID})
		if ctx.Err() != nil {
			return a, context.Cause(ctx)
		}
		if cost := costOf(&a); cost != nil {
			turns += *cost
		}
		if a.Error == "" {
			sessionID = a.SessionID
		}
		return a, err
	}
	for i, query := range c.Before {
		a, err := ask(query)
		if err != nil {
			return Result{}, 0, turns, fmt.Errorf("%s: %w", c.where, err)
		}
		if a.Error != "" {
			r := newResult(c, &a)
			// The case cannot be asked as it is meant, so it fails, rather than being left out
			// of the share.
			r.Scores = []Score{{Scorer: "before", Detail: fmt.Sprintf("earlier question %d: the error %s: %s", i+1, a.Error, a.Message)}}
			return r, 0, turns, nil
		}
		answers = append(answers, a.Text)
	}
	a, err := ask(c.Query)
	if err != nil {
		return Result{}, 0, turns, fmt.Errorf("%s: %w", c.where, err)
	}
	r = newResult(c, &a)
	r.answers = answers
	r.Scores = c.score(&a)
	switch {
	case c.Judge == "" || a.Error != "":
	case j == nil:
		r.NotJudged = true
	default:
		var score Score
		score, judging = j.score(ctx, c, &a)
		if ctx.Err() != nil { // no judgment, which is not the agent's failure
			return Result{}, judging, turns, fmt.Errorf("%s: %w", c.where, context.Cause(ctx))
		}
		r.Scores = append(r.Scores, score)
	}
	r.Pass = !slices.ContainsFunc(r.Scores, func(s Score) bool { return !s.Pass })
	return r, judging, turns, nil
}
