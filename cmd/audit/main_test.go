package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	"example.com/gatehouse/internal/gcp/audit"
	"example.com/gatehouse/internal/gcp/audit/loggingtest"
	"example.com/gatehouse/internal/gcp/emulator"
	"example.com/gatehouse/internal/gcp/firestore"
	"example.com/gatehouse/session"
	"example.com/gatehouse/session/sessiontest"
)

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(emulator.Main(m))
}

var now = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// A deployment is a project with turns and an audit log.
type deployment struct {
	t       *testing.T
	host    string
	project string
	trail   *loggingtest.Server
	log     *audit.Log
	clock   time.Time
	store   *firestore.Sessions
}

func newDeployment(t *testing.T) *deployment {
	t.Helper()
	d := &deployment{t: t, host: emulator.Host(t), project: emulator.Project(), trail: loggingtest.Start(t)}
	d.store = firestore.NewSessions(emulator.Connect(t, d.host, d.project), 720*time.Hour, func() time.Time { return d.clock })
	log, err := audit.New(t.Context(), d.project, "agent-audit", d.trail.Addr, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = log.Close() })
	d.log = log
	return d
}

// turn stores a turn of the given age and returns its expected entry.
func (d *deployment) turn(key session.Key, ago time.Duration, query string) audit.Entry {
	d.t.Helper()
	d.clock = now.Add(-ago)
	s, err := d.store.Load(d.t.Context(), key)
	if errors.Is(err, session.ErrNotFound) {
		s, err = session.New(key), nil
	}
	if err != nil {
		d.t.Fatal(err)
	}
	turn := sessiontest.Turn(query)
	turn.CreatedAt, turn.RequestID = d.clock.Add(-time.Millisecond+123*time.Nanosecond), "r-"+turn.ID
	meta, err := session.Commit(d.t.Context(), d.store, s, turn, session.Conditions{})
	if err != nil {
		d.t.Fatal(err)
	}
	turn.Number = meta.Turns
	return entryOf(key, turn)
}

// run runs the command.
func (d *deployment) run(args ...string) (string, error) {
	d.t.Helper()
	var out bytes.Buffer
	bucket := "projects/" + d.project + "/locations/us-central1/buckets/gatehouse-audit"
	err := run(d.t.Context(), append([]string{"-project", d.project, "-bucket", bucket}, args...), func(name string) string {
		return map[string]string{"FIRESTORE_EMULATOR_HOST": d.host, "LOGGING_ENDPOINT": d.trail.Addr}[name]
	}, func() time.Time { return now }, &out)
	return out.String(), err
}

// ids counts the audit log's entries by insert id.
func (d *deployment) ids() map[string]int {
	n := map[string]int{}
	for _, e := range d.trail.Entries() {
		n[e.GetInsertId()]++
	}
	return n
}

func newKey(caller string) session.Key {
	return session.Key{Owner: session.OwnerOf(caller, ""), ID: session.NewID()}
}

func TestMissingEntriesAreWritten(t *testing.T) {
	d := newDeployment(t)
	alice, bob := newKey("alice"), newKey("bob")
	want := map[string]int{}
	d.turn(alice, 30*time.Hour, "too long ago")
	for n := range 7 { // more than one page of the stand-in
		e := d.turn(alice, 20*time.Hour-time.Duration(n)*time.Minute, "told of")
		d.log.Write(t.Context(), e)
		want[e.ID] = 1
	}
	lost := []audit.Entry{d.turn(alice, time.Hour, "lost"), d.turn(bob, 2*time.Hour, "lost, the only one of its session")}
	d.turn(bob, time.Minute, "its process may still be at it")
	if _, err := d.run("-dry-run"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, d.ids()); diff != "" {
		t.Errorf("a dry run writes (-want +got):\n%s", diff)
	}

	said, err := d.run()
	if err != nil || !strings.HasSuffix(said, "9 turns from 2026-11-23T12:00:00Z to 2026-11-24T11:58:00Z, 2 without an entry: written now\n") {
		t.Errorf("%v: it says\n%s", err, said)
	}
	for _, e := range lost {
		want[e.ID] = 1
		if !strings.Contains(said, e.ID) {
			t.Errorf("it does not say %s", e.ID)
		}
	}
	if diff := cmp.Diff(want, d.ids()); diff != "" {
		t.Errorf("the trail (-want +got):\n%s", diff)
	}
	for _, got := range d.trail.Entries()[7:] {
		i := slices.IndexFunc(lost, func(e audit.Entry) bool { return e.ID == got.GetInsertId() })
		if i < 0 {
			t.Fatalf("an entry of no turn: %v", got)
		}
		payload := got.GetJsonPayload().AsMap()
		if e := lost[i]; !got.GetTimestamp().AsTime().Equal(e.Time) || payload["session_id"] != e.Session || payload["end_user"] != e.EndUser ||
			payload["action"] != "session.turn" || payload["outcome"] != "ok" || payload["request_id"] != e.RequestID || payload["turn"] != float64(e.Turn) {
			t.Errorf("the entry %v of %+v", got, e)
		}
	}
	if said, err := d.run(); err != nil || !strings.Contains(said, " 0 without an entry") {
		t.Errorf("a second time: %v\n%s", err, said)
	}
	if diff := cmp.Diff(want, d.ids()); diff != "" {
		t.Errorf("after a second time (-want +got):\n%s", diff)
	}
}

func TestArchivedTurnsAndManySessionsAreSeen(t *testing.T) {
	d := newDeployment(t)
	long := newKey("long")
	want := map[string]int{}
	d.turn(long, 25*time.Hour, "before")
	for n := range 30 { // 40 KB each, twice that with the answer: most are archived
		e := d.turn(long, 10*time.Hour-time.Duration(n)*time.Minute, strings.Repeat("x", 20<<10))
		want[e.ID] = 1
	}
	for n := range 20 {
		e := d.turn(newKey(fmt.Sprint("caller ", n)), 5*time.Hour, "hello")
		want[e.ID] = 1
	}
	if said, err := d.run(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	if diff := cmp.Diff(want, d.ids()); diff != "" {
		t.Errorf("the trail (-want +got):\n%s", diff)
	}
}

func TestWhatCannotBeReadOrWrittenIsSaid(t *testing.T) {
	d := newDeployment(t)
	d.turn(newKey("alice"), time.Hour, "lost")
	d.trail.Fail(codes.PermissionDenied)
	if said, err := d.run(); err == nil || !strings.Contains(err.Error(), "reading the log") {
		t.Errorf("a log that cannot be read: %v\n%s", err, said)
	}
	d.trail.Fail(codes.OK)
	d.trail.FailNext(codes.ResourceExhausted, 1)
	if said, err := d.run("-dry-run"); err != nil || !strings.Contains(said, "1 without an entry: not written") {
		t.Errorf("a quota that comes back: %v\n%s", err, said)
	}
	// The first call succeeds, the next is refused.
	d.trail.FailAfter(1, codes.PermissionDenied)
	if said, err := d.run(); err == nil || !strings.Contains(err.Error(), "does not take the entries") || strings.Contains(said, "written now") {
		t.Errorf("a log that cannot be written: %v\n%s", err, said)
	}
	if n := len(d.ids()); n != 0 {
		t.Errorf("%d entries", n)
	}
}

func TestUsage(t *testing.T) {
	for name, args := range map[string]string{
		"no project":         "-project= -bucket projects/p/locations/l/buckets/b",
		"no bucket":          "-project p",
		"a bucket's id":      "-project p -bucket gatehouse-audit",
		"the trail off":      "-project p -bucket projects/p/locations/l/buckets/b -log off",
		"a moment":           "-project p -bucket projects/p/locations/l/buckets/b -since 1s",
		"longer than stored": "-project p -bucket projects/p/locations/l/buckets/b -since 721h",
		"words":              "-project p -bucket projects/p/locations/l/buckets/b all",
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			if err := run(t.Context(), strings.Fields(args), func(string) string { return "" }, time.Now, &out); err == nil || out.Len() > 0 {
				t.Errorf("error %v, and it printed:\n%s", err, &out)
			}
		})
	}
}
