package evaluate

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"example.com/gatehouse/internal/gcp/audit"
	"example.com/gatehouse/internal/gcp/firestore"
	"example.com/gatehouse/session"
)

const (
	longestSince = 720 * time.Hour // the default lifetime of a session
	storedBefore = 5               // earlier questions of a stored turn that are asked again
	auditBatch   = 100
)

// AuditRead is the action of the audit entries for turns whose content an evaluation
// reads.
const AuditRead = "evaluation.read"

// defaultCriterion is what the judge is asked of stored turns.
const defaultCriterion = "The answer is correct, answers what was asked, and is helpful."

// storedOptions select which stored turns become cases. What people wrote is read only for
// an operator who is named, or for the owner whose own turns they are, and each turn has
// an entry in the audit log before it is used.
//
// The turns are read before the entries are delivered, in this process only; nothing is asked,
// shown or written until the log has all entries.
type storedOptions struct {
	since             time.Duration // 0: none
	project, database string
	feedback          string // bad, good or any
	operator, owner   string
	log               string
}

func (o *storedOptions) flags(flags *flag.FlagSet) {
	flags.DurationVar(&o.since, "turns-since", 0, "instead of files: the stored turns of this long, at most 720h, that end users rated")
	flags.StringVar(&o.project, "project", "", "of stored turns: the Google Cloud `project`")
	flags.StringVar(&o.database, "database", "(default)", "of stored turns: the Firestore `database`")
	flags.StringVar(&o.feedback, "feedback", "bad", "of stored turns: the opinion, bad, good or any")
	flags.StringVar(&o.operator, "operator", "", "of stored turns: you, `name`, read what end users wrote, as an operator who may; the audit log names you")
	flags.StringVar(&o.owner, "owner", "", "of stored turns: only those of this owner, the `hash` of caller and end user, with their consent")
	flags.StringVar(&o.log, "audit-log", "agent-audit", "of stored turns: the audit `log`, AUDIT_LOG of the service")
}

func (o *storedOptions) check(files int) error {
	if o.since == 0 {
		if o.project != "" || o.operator != "" || o.owner != "" {
			return errors.New("-project, -operator and -owner are about stored turns: set -turns-since")
		}
		return nil
	}
	switch {
	case files > 0:
		return errors.New("-turns-since and case files exclude each other")
	case o.since < 0 || o.since > longestSince:
		return fmt.Errorf("-turns-since must be at most %v", longestSince)
	case o.project == "":
		return errors.New("-project must name the project of the stored turns")
	// Exactly one of them: with both it would be unclear whose right the reading rests on.
	case (o.operator == "") == (o.owner == ""):
		return errors.New("stored turns hold what people wrote: set -operator to your name if you may read that, or -owner to one owner who agrees")
	case !slices.Contains([]string{"bad", "good", "any"}, o.feedback):
		return errors.New("-feedback must be bad, good or any")
	case o.log == "" || o.log == audit.Off || strings.Contains(o.log, `"`):
		return errors.New("-audit-log must name a log: what is read is audited")
	}
	return nil
}

// wanted reports whether a turn with this opinion is one of the cases.
func (o *storedOptions) wanted(key session.Key, f *session.Feedback) bool {
	if f == nil || o.owner != "" && string(key.Owner) != o.owner {
		return false
	}
	return o.feedback == "any" || o.feedback == "bad" && f.Score < 0 || o.feedback == "good" && f.Score > 0
}

// read returns the stored turns as cases. It fails unless the audit log has taken an
// entry for each.
func (o *storedOptions) read(ctx context.Context, lookup func(string) (string, bool), stderr io.Writer) ([]Case, error) {
	emulator, _ := lookup("FIRESTORE_EMULATOR_HOST")
	logging, _ := lookup("LOGGING_ENDPOINT")
	client, err := firestore.Connect(ctx, o.project, o.database, emulator)
	if err != nil {
		return nil, fmt.Errorf("connecting to Firestore: %w", err)
	}
	defer func() { _ = client.Close() }()
	var undelivered bytes.Buffer
	trail, err := audit.New(ctx, o.project, o.log, logging, &undelivered)
	if err != nil {
		return nil, err
	}
	defer func() { _ = trail.Close() }()

	store := firestore.NewSessions(client, 0, time.Now) // read only
	var cases []Case
	var entries []audit.Entry
	// An error is the one way to end Since early.
	full := errors.New("enough")
	err = store.Since(ctx, time.Now().Add(-o.since), func(key session.Key, turn session.Turn, f *session.Feedback) error {
		if !o.wanted(key, f) {
			return nil
		}
		if len(cases) == maxCases {
			return full
		}
		before, err := earlier(ctx, store, key, turn.Number)
		if err != nil {
			return err
		}
		entries = append(entries, audit.Entry{
			Action: AuditRead, Outcome: audit.OK, Principal: cmp.Or(o.operator, o.owner), EndUser: string(key.Owner), Session: key.Hash(), Turn: turn.Number,
		})
		cases = append(cases, storedCase(key, turn, *f, before))
		return nil
	})
	if errors.Is(err, full) {
		fmt.Fprintf(stderr, "Only the first %d turns are cases.\n", maxCases)
	} else if err != nil {
		return nil, err
	}
	for some := range slices.Chunk(entries, auditBatch) {
		// The trail writes what the API did not take to undelivered, in the place of the
		// service's stdout.
		if trail.Write(ctx, some...); undelivered.Len() > 0 {
			return nil, errors.New("the audit log does not take the entries, so no stored turn is used")
		}
	}
	return cases, nil
}

// earlier returns the questions before a turn of a session.
func earlier(ctx context.Context, store *firestore.Sessions, key session.Key, number int) ([]string, error) {
	first := max(0, number-1-storedBefore)
	if number == 1 {
		return nil, nil
	}
	_, records, err := store.Turns(ctx, key, first, number-1-first)
	if errors.Is(err, session.ErrNotFound) {
		return nil, nil // deleted or expired since
	}
	if err != nil {
		return nil, err
	}
	var queries []string
	for _, r := range records {
		turn, err := r.Turn()
		if err != nil {
			return nil, err
		}
		if query, _ := turn.Texts(); query != "" {
			queries = append(queries, query)
		}
	}
	return queries, nil
}

// storedCase returns a stored turn as a case. An answer that was liked is a reference;
// of one that was not, the judge learns why.
func storedCase(key session.Key, turn session.Turn, f session.Feedback, before []string) Case {
	query, response := turn.Texts()
	c := Case{Name: fmt.Sprintf("turn %d of session %s", turn.Number, key.Hash()), Before: before, Query: query, Judge: defaultCriterion}
	c.where = "stored " + turn.CreatedAt.UTC().Format(time.RFC3339)
	if turn.AgentDigest != "" {
		c.where += ", made by " + turn.AgentDigest
	}
	switch {
	case f.Score > 0:
		c.Reference = response
	case f.Score < 0 && f.Comment != "":
		c.Judge += " An end user was not satisfied with an earlier answer and said: " + f.Comment
	case f.Score < 0:
		c.Judge += " An end user was not satisfied with an earlier answer."
	}
	return c
}
