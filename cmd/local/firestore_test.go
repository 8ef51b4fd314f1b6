package main_test

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// needsEmulator skips t, loudly, where the emulator cannot be started; in CI it
// fails it.
func needsEmulator(t *testing.T) {
	t.Helper()
	for _, name := range []string{"gcloud", "java"} {
		if _, err := exec.LookPath(name); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatalf("%s is missing", name)
			}
			t.Skipf("NOT TESTED: cmd/local -firestore, for want of %s: install the Google Cloud CLI with its component cloud-firestore-emulator, and Java", name)
		}
	}
}

// ready is the address of a program that has started.
func ready(t *testing.T, r *run) string {
	t.Helper()
	return r.await(t, `Gatehouse is ready at (http://\S+)`)[1]
}

func TestFirestoreKeepsSessionsOverRestarts(t *testing.T) {
	t.Parallel()
	needsEmulator(t)
	dir := t.TempDir()
	env := []string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.Getenv("HOME"), "PORT=0"}
	args := []string{"-firestore"}

	first := startIn(t, dir, args, env...)
	address := ready(t, first)
	_, body := get(t, request(t, http.MethodPost, address+"/invoke", `{"query": "My name is Ada.", "stream": false}`))
	_, rest, found := strings.Cut(body, `"session_id":"`)
	if !found {
		t.Fatalf("no session: %s", body)
	}
	id, _, _ := strings.Cut(rest, `"`)
	if err := first.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if code := first.code(t); code != 0 {
		t.Fatalf("it ended with code %d", code)
	}
	second := startIn(t, dir, args, env...)
	address = ready(t, second)
	if response, body := get(t, request(t, http.MethodGet, address+"/sessions/"+id, "")); response.StatusCode != http.StatusOK || !strings.Contains(body, "My name is Ada.") {
		t.Errorf("after a restart: %d %s", response.StatusCode, body)
	}
	if err := second.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := second.code(t); code != 0 {
		t.Errorf("it ended with code %d", code)
	}
	if exports, _ := filepath.Glob(filepath.Join(dir, ".gatehouse/firestore/export-*")); len(exports) != 1 {
		t.Errorf("exports kept: %q", exports)
	}
}

func TestFirestoreSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		env  []string
		want string
	}{
		"another emulator": {[]string{"FIRESTORE_EMULATOR_HOST=127.0.0.1:1"}, "unset FIRESTORE_EMULATOR_HOST"},
		"another store":    {[]string{"SESSION_STORE=memory"}, "unset SESSION_STORE"},
		"no gcloud":        {[]string{"PATH=/nowhere"}, "-firestore needs "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := startIn(t, t.TempDir(), []string{"-firestore"}, tt.env...)
			r.await(t, tt.want)
			if code := r.code(t); code != 1 {
				t.Errorf("code %d", code)
			}
		})
	}
}
