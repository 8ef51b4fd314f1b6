package local

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"example.com/gatehouse/internal/gcp/emulator/process"
)

// firestoreDir is where a local Firestore's documents are kept between runs,
// below the working directory.
const firestoreDir = ".gatehouse/firestore"

// A firestore is Google's emulator, started for this run. It keeps nothing by
// itself: its documents are exported at the end and imported by the next run.
type firestore struct {
	*process.Process
	project  string
	database string
	dir      string   // of the exports
	lock     *os.File // of dir, held until the last export is there
}

// firestoreExport bounds the export.
const firestoreExport = 30 * time.Second

// exported is the file that an export is complete with.
const exported = ".overall_export_metadata"

// startFirestore starts the emulator, with what the last run has left in dir.
// lookup is the environment.
func startFirestore(ctx context.Context, lookup func(string) (string, bool), dir string, say io.Writer) (*firestore, error) {
	get := func(name string) string { value, _ := lookup(name); return strings.TrimSpace(value) }
	if get("FIRESTORE_EMULATOR_HOST") != "" {
		return nil, errors.New("-firestore starts its own emulator; unset FIRESTORE_EMULATOR_HOST, or leave -firestore out")
	}
	if store := get("SESSION_STORE"); store != "" && store != "firestore" {
		return nil, fmt.Errorf("-firestore keeps sessions in Firestore; unset SESSION_STORE, which is %q", store)
	}
	for program, mend := range map[string]string{
		"gcloud": "install the Google Cloud CLI (https://cloud.google.com/sdk/docs/install), then: gcloud components install cloud-firestore-emulator",
		"java":   "install a Java runtime, 11 or later",
	} {
		if _, err := exec.LookPath(program); err != nil {
			return nil, fmt.Errorf("-firestore needs %s: %s", program, mend)
		}
	}
	f := &firestore{project: cmp.Or(get("GOOGLE_CLOUD_PROJECT"), "local"), database: cmp.Or(get("FIRESTORE_DATABASE"), "(default)")}
	var err error
	if f.dir, err = filepath.Abs(dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return nil, fmt.Errorf("making a place for Firestore's documents: %w", err)
	}
	// Of two runs at once, the second to end would drop the documents of the first.
	lock, held, err := process.TryLock(filepath.Join(f.dir, "lock"))
	if err != nil {
		return nil, err
	}
	if !held {
		return nil, fmt.Errorf("another run with -firestore keeps its sessions in %s; end it, or start this one in another directory", dir)
	}
	f.lock = lock
	var args []string
	if last := f.last(); last != "" {
		args = append(args, "--import-data="+filepath.Join(last, filepath.Base(last)+exported))
	}
	fmt.Fprintln(say, "Starting Firestore's emulator; it takes some seconds.")
	// In a group of its own: Ctrl-C must not reach it before its documents are exported.
	if f.Process, err = process.Start(ctx, args...); err != nil {
		_ = f.lock.Close()
		return nil, err
	}
	return f, nil
}

// close exports the documents for the next run and ends the emulator.
func (f *firestore) close(ctx context.Context) error {
	err := f.save(ctx)
	f.Stop()
	return errors.Join(err, f.lock.Close())
}

// last is the newest export that is complete, "" when there is none.
func (f *firestore) last() string {
	exports, _ := filepath.Glob(filepath.Join(f.dir, "export-*", "export-*"+exported)) // sorted, and named by their time
	if len(exports) == 0 {
		return ""
	}
	return filepath.Dir(exports[len(exports)-1])
}

// environment is lookup, with sessions in the emulator.
func (f *firestore) environment(lookup func(string) (string, bool)) func(string) (string, bool) {
	return func(name string) (string, bool) {
		switch name {
		case "FIRESTORE_EMULATOR_HOST":
			return f.Host, true
		case "SESSION_STORE":
			return "firestore", true
		}
		return lookup(name)
	}
}

// save exports the documents for the next run, and then drops older exports: a
// crash in the middle leaves the last that is complete.
func (f *firestore) save(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, firestoreExport)
	defer cancel()
	name := "export-" + time.Now().UTC().Format("20060102T150405.000000000")
	body, err := json.Marshal(map[string]string{
		"database": "projects/" + f.project + "/databases/" + f.database, "export_directory": f.dir, "export_name": name,
	})
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+f.Host+"/emulator/v1/projects/"+f.project+":export", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("exporting Firestore's documents: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1024))
		return fmt.Errorf("exporting Firestore's documents: %s: %s", resp.Status, text)
	}
	if last := f.last(); filepath.Base(last) != name {
		return fmt.Errorf("the export %s is not complete", name)
	}
	all, err := filepath.Glob(filepath.Join(f.dir, "export-*"))
	for _, old := range all {
		if filepath.Base(old) != name {
			err = errors.Join(err, os.RemoveAll(old))
		}
	}
	return err
}
