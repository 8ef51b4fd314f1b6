package local_test

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.com/gatehouse/session"
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
	third := startIn(t, dir, args, env...)
	third.await(t, `another run with -firestore keeps its sessions in \.gatehouse/firestore`)
	if code := third.code(t); code != 1 {
		t.Errorf("a run beside another ended with code %d", code)
	}
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

func TestNoEmulatorIsLeftBehind(t *testing.T) {
	t.Parallel()
	needsEmulator(t)
	for name, tt := range map[string]struct {
		signal syscall.Signal
		when   string // it has said this
		code   int
	}{
		"Ctrl-C while the emulator starts": {syscall.SIGINT, `Starting Firestore's emulator`, 0},
		"Ctrl-C":                           {syscall.SIGINT, `Gatehouse is ready at`, 0},
		"a kill while the emulator starts": {syscall.SIGKILL, `Starting Firestore's emulator`, -1},
		"a kill":                           {syscall.SIGKILL, `Gatehouse is ready at`, -1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// The emulator and all that it starts inherit this name.
			mark := "GATEHOUSE_TEST=" + session.NewID()
			r := startIn(t, t.TempDir(), []string{"-firestore"}, "PATH="+os.Getenv("PATH"), "HOME="+os.Getenv("HOME"), "PORT=0", mark)
			r.await(t, tt.when)
			if !running(t, mark) {
				t.Fatal("the test does not see the program that it has started")
			}
			if err := r.cmd.Process.Signal(tt.signal); err != nil {
				t.Fatal(err)
			}
			if code := r.code(t); code != tt.code {
				t.Errorf("code %d, want %d", code, tt.code)
			}
			for end := time.Now().Add(limit); running(t, mark); time.Sleep(20 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatal("processes are left")
				}
			}
		})
	}
}

// running says whether a process with this in its environment runs.
func running(t *testing.T, mark string) bool {
	t.Helper()
	list, err := exec.CommandContext(t.Context(), "ps", "axeww", "-o", "stat=,command=").Output()
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(list)) {
		if strings.Contains(line, mark) && !strings.HasPrefix(line, "Z") {
			return true
		}
	}
	return false
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
