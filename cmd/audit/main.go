// Command audit writes audit entries that are missing because a process was killed
// between committing a turn and writing its entry.
//
//	go run ./cmd/audit -project P -since 24h -dry-run
//
// It reads the turns stored since then and the audit log's entries, and writes the
// missing ones with the insert id and time that the service would use. Cloud Logging
// shows two entries with the same insert id as one, so the command may run at any
// time, repeatedly, and while the service runs. It cannot restore entries of turns
// that were replaced or whose session was deleted.
//
// An entry written here has the session's owner, the hash of caller and end user, as
// end_user. The principal and the trace are not stored with a turn.
//
// It needs the roles datastore.viewer, logging.viewAccessor and logging.logWriter, and
// reads FIRESTORE_EMULATOR_HOST and LOGGING_ENDPOINT as the service does. It exits
// with 1 if something could not be read or written.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/gcp/audit"
	"example.com/gatehouse/internal/gcp/firestore"
	"example.com/gatehouse/session"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Getenv, time.Now, os.Stdout)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "audit:", err)
		os.Exit(1)
	}
}

const (
	// settled is the age from which a turn without an entry counts as missing: a
	// younger one may still be written.
	settled = 2 * time.Minute
	// longest is the maximum of -since: the default lifetime of a session.
	longest = 720 * time.Hour
	// batch is the number of entries written in one call.
	batch = 100
)

// options are the command line's.
type options struct {
	project, database, bucket, log string
	emulator, logging              string
	since, until                   time.Time
	dryRun                         bool
}

func run(ctx context.Context, args []string, getenv func(string) string, now func() time.Time, out io.Writer) error {
	m := options{emulator: getenv("FIRESTORE_EMULATOR_HOST"), logging: getenv("LOGGING_ENDPOINT")}
	flags := flag.NewFlagSet("audit", flag.ContinueOnError)
	flags.StringVar(&m.project, "project", "", "the Google Cloud `project`")
	flags.StringVar(&m.database, "database", "(default)", "the Firestore `database`")
	flags.StringVar(&m.bucket, "bucket", "", "the log `bucket` of the trail, projects/P/locations/L/buckets/B: Terraform's output audit_bucket")
	flags.StringVar(&m.log, "log", "agent-audit", "the trail's `log`, AUDIT_LOG of the service")
	since := flags.Duration("since", 24*time.Hour, "how far back, at most 720h")
	flags.BoolVar(&m.dryRun, "dry-run", false, "write nothing, say what is missing")
	if err := flags.Parse(args); err != nil {
		return flag.ErrHelp // the flag package has printed it
	}
	switch {
	case flags.NArg() > 0:
		return fmt.Errorf("unexpected %q", flags.Args())
	case m.project == "":
		return errors.New("-project must name the project")
	case !strings.HasPrefix(m.bucket, "projects/"):
		return errors.New("-bucket must name the trail's bucket, projects/P/locations/L/buckets/B")
	case m.log == "" || m.log == audit.Off || strings.Contains(m.log, `"`):
		return errors.New("-log must name a log")
	case *since < settled || *since > longest:
		return fmt.Errorf("-since must be from %v to %v", settled, longest)
	}
	m.until = now().Add(-settled)
	m.since = now().Add(-*since)
	return m.restore(ctx, now, out)
}

// restore compares turns and entries, writes the missing entries, and reports them to
// out.
func (m *options) restore(ctx context.Context, now func() time.Time, out io.Writer) error {
	client, err := firestore.Connect(ctx, m.project, m.database, m.emulator)
	if err != nil {
		return fmt.Errorf("connecting to Firestore: %w", err)
	}
	defer func() { _ = client.Close() }()
	store := firestore.NewSessions(client, 0, now) // read only
	// Read the entries before the turns: a settled turn without an entry by then will
	// not get one.
	written, err := audit.Turns(ctx, m.bucket, m.log, m.logging, m.since)
	if err != nil {
		return err
	}
	var undelivered refused
	trail, err := audit.New(ctx, m.project, m.log, m.logging, &undelivered)
	if err != nil {
		return err
	}
	defer func() { _ = trail.Close() }()

	turns, missing := 0, []audit.Entry{}
	found := 0
	flush := func() error {
		if !m.dryRun {
			trail.Write(ctx, missing...)
		}
		missing = missing[:0]
		return errors.Join(undelivered.reason, ctx.Err())
	}
	err = store.Since(ctx, m.since, func(key session.Key, turn session.Turn, _ *session.Feedback) error {
		if turn.CreatedAt.After(m.until) {
			return nil
		}
		turns++
		entry := entryOf(key, turn)
		if written[entry.ID] {
			return nil
		}
		found++
		fmt.Fprintf(out, "%s  %s  turn %d of session %s\n", entry.ID, entry.Time.UTC().Format(time.RFC3339Nano), entry.Turn, entry.Session)
		if missing = append(missing, entry); len(missing) == batch {
			return flush()
		}
		return nil
	})
	if err == nil {
		err = flush()
	}
	if err != nil {
		return err
	}
	did := "written now"
	if m.dryRun {
		did = "not written"
	}
	fmt.Fprintf(out, "%d turns from %s to %s, %d without an entry: %s\n",
		turns, m.since.UTC().Format(time.RFC3339), m.until.UTC().Format(time.RFC3339), found, did)
	return nil
}

// entryOf returns the entry of a turn, as far as the stored turn allows.
func entryOf(key session.Key, turn session.Turn) audit.Entry {
	return audit.Entry{
		ID: audit.TurnID(turn.ID), Time: turn.CreatedAt, Action: api.AuditTurn, Outcome: audit.OK,
		EndUser: string(key.Owner), Session: key.Hash(), Turn: turn.Number, Model: turn.Model,
		Tokens: turn.Usage.TotalTokens, CostUSD: turn.Usage.EstimatedCostUSD, Status: 200, RequestID: turn.RequestID,
	}
}

// refused collects the error of entries that the API did not accept.
type refused struct{ reason error }

func (r *refused) Write(line []byte) (int, error) {
	var entry struct {
		Undelivered string `json:"undelivered"`
	}
	if err := json.Unmarshal(bytes.TrimSpace(line), &entry); err != nil {
		return 0, err
	}
	r.reason = fmt.Errorf("the Logging API does not take the entries: %s", entry.Undelivered)
	return len(line), nil
}
