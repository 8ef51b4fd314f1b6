package delivery

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/gatehouse/delivery/internal/monitoringtest"
	"example.com/gatehouse/internal/gcloudtest"
	"example.com/gatehouse/internal/server"
	"example.com/gatehouse/internal/testagent"
	"example.com/gatehouse/internal/testlog"
)

const (
	project   = "test-project"
	region    = "us-central1"
	keySecret = "smoke-key"
	apiKey    = "the-key-of-the-delivery-0123456789"
	digest    = "us-central1-docker.pkg.dev/test-project/gatehouse/gatehouse@sha256:0123456789abcdef"
)

// tools are the steps' programs and the stand-in for gcloud, built once and without
// the race detector, because some start a hundred times.
var tools = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "gatehouse-delivery-")
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	for _, program := range []string{"cmd/smoke", "delivery/watch", "delivery/drift", "internal/gcloudtest/gcloud"} {
		cmd := exec.CommandContext(ctx, "go", "build", "-o", filepath.Join(dir, filepath.Base(program)), "./"+program)
		cmd.Dir = ".."
		if output, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("building %s: %w\n%s", program, err, output)
		}
	}
	return dir, nil
})

// A world is a deployment under delivery: gcloud and its state, Cloud Monitoring, and
// the functions behind the tags' URLs.
type world struct {
	t          *testing.T
	state      string // state passed between steps
	bin        string // for PATH
	cloud      string // gcloud's state file
	monitoring *monitoringtest.Server
	env        []string

	mu      sync.Mutex
	figures func(revision string) (monitoringtest.Figures, bool)
	smoked  int  // number of smoke tests started
	broken  bool // whether the functions return 500
}

// healthy returns the figures of a healthy revision.
func healthy(string) (monitoringtest.Figures, bool) {
	return monitoringtest.Figures{OK: 500, Refused: 10, P95: 2000}, true
}

// newWorld returns a deployment whose revision 1 has all traffic, and an image that is
// built.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, state: t.TempDir(), figures: healthy}
	dir, err := tools()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(dir, filepath.Join(w.state, "bin")); err != nil {
		t.Fatal(err)
	}
	w.keep("image", digest)
	w.monitoring = monitoringtest.New(t, func(revision string) (monitoringtest.Figures, bool) {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.figures(revision)
	})
	c := &gcloudtest.Cloud{Project: project, Region: region, Secrets: map[string]string{keySecret: apiKey},
		Services: map[string]*gcloudtest.Service{}, Fail: map[string]int{}}
	functions := w.functions()
	for name, handler := range map[string]http.Handler{"invoke": functions.Invoke, "health": functions.Health} {
		server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			w.mu.Lock()
			broken := w.broken
			if r.URL.Path == "/health/live" {
				w.smoked++
			}
			w.mu.Unlock()
			if broken {
				rw.WriteHeader(http.StatusInternalServerError)
				return
			}
			handler.ServeHTTP(rw, r)
		}))
		t.Cleanup(server.Close)
		first := name + "-00001"
		c.Services[name] = &gcloudtest.Service{Traffic: map[string]int{first: 100}, Revisions: []string{first}, Images: map[string]string{}, Tags: map[string]string{}, URL: server.URL}
	}
	w.bin, w.cloud = t.TempDir(), filepath.Join(t.TempDir(), "cloud.json")
	if err := os.Symlink(filepath.Join(dir, "gcloud"), filepath.Join(w.bin, "gcloud")); err != nil {
		t.Fatal(err)
	}
	if err := c.Save(w.cloud); err != nil {
		t.Fatal(err)
	}
	w.env = []string{"WATCH_SECONDS=0"}
	return w
}

// functions returns the real functions with the offline model.
func (w *world) functions() *server.Server {
	env := map[string]string{"ENVIRONMENT": "development", "AUTH": "api_key", "LOG_LEVEL": "error",
		"API_KEYS": fmt.Sprintf(`[{"name": "smoke", "sha256": "%x"}]`, sha256.Sum256([]byte(apiKey)))}
	s := server.New(testagent.Options(func(name string) (string, bool) { value, ok := env[name]; return value, ok }, w.t.Output()))
	w.t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = s.Shutdown(ctx)
	})
	return s
}

func (w *world) keep(name, value string) {
	w.t.Helper()
	if err := os.WriteFile(filepath.Join(w.state, name), []byte(value+"\n"), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// now returns gcloud's current state.
func (w *world) now() *gcloudtest.Cloud {
	w.t.Helper()
	c, err := gcloudtest.Load(w.cloud)
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

// change changes gcloud's state.
func (w *world) change(f func(*gcloudtest.Cloud)) {
	w.t.Helper()
	c := w.now()
	f(c)
	if err := c.Save(w.cloud); err != nil {
		w.t.Fatal(err)
	}
}

// command returns a step that is ready to run.
func (w *world) command(ctx context.Context, name string, args ...string) (*exec.Cmd, *testlog.Buffer) {
	cmd := exec.CommandContext(ctx, "./"+name, args...)
	cmd.Env = append([]string{
		"PATH=" + w.bin + ":" + os.Getenv("PATH"), "HOME=" + w.state, "DELIVERY_STATE=" + w.state, "PROJECT_ID=" + project,
		"COMMIT_SHA=c0ffee0123456789", "SMOKE_KEY_SECRET=" + keySecret, gcloudtest.Variable + "=" + w.cloud, "CLOUDSDK_API_ENDPOINT_OVERRIDES_MONITORING=" + w.monitoring.URL + "/",
	}, w.env...)
	said := new(testlog.Buffer)
	cmd.Stdout, cmd.Stderr = said, said
	cmd.WaitDelay = 10 * time.Second
	return cmd, said
}

// step runs a step and returns its exit status and output.
func (w *world) step(name string, args ...string) (int, string) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd, said := w.command(ctx, name, args...)
	err := cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); !ok && err != nil {
		w.t.Fatalf("%s: %v\n%s", name, err, said)
	} else if ok && !exit.Exited() {
		w.t.Fatalf("%s: %v\n%s", name, err, said)
	}
	return cmd.ProcessState.ExitCode(), said.String()
}

// must runs a step that must succeed.
func (w *world) must(name string) string {
	w.t.Helper()
	code, said := w.step(name)
	if code != 0 {
		w.t.Fatalf("%s exits %d:\n%s", name, code, said)
	}
	return said
}

// revision returns the name of a service's new revision.
func (w *world) revision(service string) string {
	w.t.Helper()
	revisions := w.now().Services[service].Revisions
	return revisions[len(revisions)-1]
}

// expect compares the traffic of both services with the expected one, a history of
// changes for invoke.
func (w *world) expect(said string, invoke, health []string) {
	w.t.Helper()
	c := w.now()
	got := map[string][]string{"invoke": {}, "health": {}}
	for name := range got {
		for _, change := range c.Services[name].History {
			got[name] = append(got[name], strings.ReplaceAll(strings.ReplaceAll(change, w.revision(name), "NEW"), name+"-00001", "OLD"))
		}
	}
	want := map[string][]string{"invoke": append([]string{}, invoke...), "health": append([]string{}, health...)}
	if diff := cmp.Diff(want, got); diff != "" {
		w.t.Errorf("the changes of the traffic (-want +got):\n%s\nit said:\n%s", diff, said)
	}
}

func TestACommitReachesEverybody(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.must("deploy")
	c := w.now()
	for name, s := range c.Services {
		if s.Traffic[name+"-00001"] != 100 || len(s.History) != 0 {
			t.Errorf("%s: a deployment changes the traffic: %v", name, s.Traffic)
		}
		if revision := w.revision(name); s.Images[revision] != digest || s.Tags["candidate"] != revision {
			t.Errorf("%s: revision %s of image %s, tags %v", name, revision, s.Images[revision], s.Tags)
		}
	}
	w.must("smoke")
	said := w.must("promote")
	w.expect(said, []string{"NEW=10,OLD=90", "NEW=50,OLD=50", "NEW=100"}, []string{"NEW=100"})
	for _, call := range w.now().Calls {
		if slices.Contains(call, apiKey) || slices.Contains(call, "access-token") {
			t.Errorf("a secret among the arguments of %q", call)
		}
	}
	// The same commit again is another revision.
	first := w.revision("invoke")
	w.must("deploy")
	if c := w.now().Services["invoke"]; w.revision("invoke") == first || c.Tags["candidate"] != w.revision("invoke") || c.Traffic[first] != 100 {
		t.Errorf("delivered again: tags %v, traffic %v", c.Tags, c.Traffic)
	}
}

func TestARevisionThatSomebodyElseMadeIsNotTaken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if err := os.Rename(filepath.Join(w.bin, "gcloud"), filepath.Join(w.bin, "gcloud-itself")); err != nil {
		t.Fatal(err)
	}
	// Somebody else deploys right after the delivery.
	w.stub("gcloud", `gcloud-itself "$@" || exit
case "$*" in
"run deploy "*) gcloud-itself run deploy "$3" --no-traffic --image other@sha256:0 --project `+project+` --region `+region+` ;;
esac`)
	code, said := w.step("deploy")
	if code != 1 || !strings.Contains(said, "somebody else changed it") {
		t.Errorf("deploy exits %d:\n%s", code, said)
	}
	w.expect(said, nil, nil)
	if tags := w.now().Services["invoke"].Tags; len(tags) > 0 {
		t.Errorf("it tagged %v", tags)
	}
}

func TestAFailingSmokeTestLeavesTheTrafficAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.must("deploy")
	w.mu.Lock()
	w.broken = true
	w.mu.Unlock()
	code, said := w.step("smoke")
	if code != 1 {
		t.Errorf("smoke exits %d:\n%s", code, said)
	}
	w.expect(said, nil, nil)
	for _, call := range w.now().Calls {
		if slices.Contains(call, "--to-revisions") {
			t.Errorf("gcloud %q", call)
		}
	}
}

func TestARevisionThatDoesNotStartLeavesTheTrafficAlone(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.change(func(c *gcloudtest.Cloud) { c.Fail["run deploy health"] = 1 })
	if code, said := w.step("deploy"); code == 0 {
		t.Errorf("deploy passes:\n%s", said)
	}
	w.expect("", nil, nil)
	if code, said := w.step("smoke"); code != 1 || !strings.Contains(said, "run delivery/deploy first") {
		t.Errorf("smoke exits %d without a deployment:\n%s", code, said)
	}
}

// at returns figures that depend on the new revision's current share.
func (w *world) at(shares map[int]monitoringtest.Figures) func(string) (monitoringtest.Figures, bool) {
	return func(revision string) (monitoringtest.Figures, bool) {
		c, err := gcloudtest.Load(w.cloud)
		if err != nil {
			return monitoringtest.Figures{}, false
		}
		if f, ok := shares[c.Services["invoke"].Traffic[revision]]; ok && revision != "invoke-00001" {
			return f, true
		}
		return healthy(revision)
	}
}

func TestPromotion(t *testing.T) {
	failing := monitoringtest.Figures{OK: 400, Failed: 100, P95: 2000}
	for _, c := range []struct {
		name   string
		shares map[int]monitoringtest.Figures
		status int // of Cloud Monitoring
		fail   map[string]int
		broken bool // the new revision, from now on
		code   int
		invoke []string
		health []string
		says   string
	}{
		{
			name: "harm at 10 %", shares: map[int]monitoringtest.Figures{10: failing}, code: 1,
			invoke: []string{"NEW=10,OLD=90", "OLD=100"}, says: "does harm",
		},
		{
			name: "harm at 50 %", shares: map[int]monitoringtest.Figures{50: failing}, code: 1,
			invoke: []string{"NEW=10,OLD=90", "NEW=50,OLD=50", "OLD=100"}, says: "does harm",
		},
		{
			name: "harm at 100 %", shares: map[int]monitoringtest.Figures{100: failing}, code: 1,
			invoke: []string{"NEW=10,OLD=90", "NEW=50,OLD=50", "NEW=100", "OLD=100"}, says: "does harm",
		},
		{
			name: "slow at 50 %", shares: map[int]monitoringtest.Figures{50: {OK: 500, P95: 9000}}, code: 1,
			invoke: []string{"NEW=10,OLD=90", "NEW=50,OLD=50", "OLD=100"}, says: "slower",
		},
		{
			name: "too few requests, and the smoke test passes", shares: map[int]monitoringtest.Figures{10: {OK: 3}, 50: {}}, code: 0,
			invoke: []string{"NEW=10,OLD=90", "NEW=50,OLD=50", "NEW=100"}, health: []string{"NEW=100"}, says: "too few requests",
		},
		{
			name: "too few requests, and the smoke test fails", shares: map[int]monitoringtest.Figures{10: {OK: 3}}, broken: true, code: 1,
			invoke: []string{"NEW=10,OLD=90", "OLD=100"}, says: "does not pass any more",
		},
		{
			name: "the figures cannot be read", status: http.StatusForbidden, code: 1,
			invoke: []string{"NEW=10,OLD=90", "OLD=100"}, says: "cannot be read",
		},
		{
			name: "no access token", fail: map[string]int{"auth print-access-token": 1}, code: 1,
			invoke: []string{"NEW=10,OLD=90", "OLD=100"}, says: "no access token",
		},
		{
			name: "the traffic cannot be set", fail: map[string]int{"run services update-traffic invoke": 1}, code: 1,
			says: "out of order",
		},
		{
			name: "health cannot follow", fail: map[string]int{"run services update-traffic health": 1}, code: 1,
			invoke: []string{"NEW=10,OLD=90", "NEW=50,OLD=50", "NEW=100", "OLD=100"}, says: "out of order",
		},
		{
			name: "going back works on the second try", shares: map[int]monitoringtest.Figures{10: failing}, code: 1,
			fail:   map[string]int{"run services update-traffic invoke invoke-00001=100": 1},
			invoke: []string{"NEW=10,OLD=90", "OLD=100"}, says: "back to invoke-00001",
		},
		{
			name: "going back does not work", shares: map[int]monitoringtest.Figures{10: failing}, code: 2,
			fail:   map[string]int{"run services update-traffic invoke invoke-00001=100": 9},
			invoke: []string{"NEW=10,OLD=90"},
			says:   "By hand: gcloud run services update-traffic invoke --project test-project --region us-central1 --to-revisions invoke-00001=100",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.must("deploy")
			w.mu.Lock()
			w.figures, w.broken = w.at(c.shares), c.broken
			w.mu.Unlock()
			if c.status != 0 {
				w.monitoring.Answer(c.status)
			}
			w.change(func(cloud *gcloudtest.Cloud) {
				if c.fail != nil {
					cloud.Fail = c.fail
				}
			})
			code, said := w.step("promote")
			if code != c.code || !strings.Contains(said, c.says) {
				t.Errorf("exit %d, want %d with %q:\n%s", code, c.code, c.says, said)
			}
			w.expect(said, c.invoke, c.health)
			if c.code == 1 {
				if got := w.now().Services["invoke"].Traffic; !cmp.Equal(got, map[string]int{"invoke-00001": 100}) {
					t.Errorf("the traffic is %v", got)
				}
			}
		})
	}
}

// begin starts a promotion with a long watch, and waits until the new revision is watched
// at its first share.
func (w *world) begin() (cmd *exec.Cmd, said *testlog.Buffer, ended chan error) {
	w.t.Helper()
	w.must("deploy")
	w.env = []string{"WATCH_SECONDS=600"}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	w.t.Cleanup(cancel)
	cmd, said = w.command(ctx, "promote")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	ended = make(chan error, 1)
	go func() {
		ended <- cmd.Wait()
		cancel()
	}()
	w.t.Cleanup(func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	if _, err := said.Await(ctx, regexp.MustCompile(`is compared with`)); err != nil {
		w.t.Fatalf("promote does not begin: %v\n%s", err, said)
	}
	return cmd, said, ended
}

func TestAnInterruptedPromotionGoesBack(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		t.Run(signal.String(), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			cmd, said, ended := w.begin()
			// Ctrl-C goes to all that run. Only a shell that waits for a command in the background,
			// as now, is sure to see it: it may lose one that comes just as another command ends.
			_ = syscall.Kill(-cmd.Process.Pid, signal)
			err := <-ended
			if exit, ok := errors.AsType[*exec.ExitError](err); !ok || exit.ExitCode() != 128+int(signal) {
				t.Errorf("promote ends with %v", err)
			}
			w.expect(said.String(), []string{"NEW=10,OLD=90", "OLD=100"}, nil)
		})
	}
}

func TestAKilledPromotionIsTakenBackByTheNextDelivery(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	cmd, _, ended := w.begin()
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	<-ended
	killed := w.revision("invoke")
	w.expect("", []string{"NEW=10,OLD=90"}, nil)
	w.env = []string{"WATCH_SECONDS=0", "COMMIT_SHA=decade0123456789"}
	said := w.must("deploy")
	if history := w.now().Services["invoke"].History; history[len(history)-1] != "invoke-00001=100" {
		t.Errorf("the next delivery leaves the traffic at %v:\n%s", history, said)
	}
	said = w.must("promote")
	traffic := w.now().Services["invoke"].Traffic
	if traffic[w.revision("invoke")] != 100 || w.revision("invoke") == killed {
		t.Errorf("the traffic is %v:\n%s", traffic, said)
	}
}

func TestTrafficThatSomebodyElseSetIsTheirs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.must("deploy")
	w.change(func(c *gcloudtest.Cloud) {
		c.Services["invoke"].Revisions = append(c.Services["invoke"].Revisions, "invoke-by-hand")
		c.Services["invoke"].Traffic = map[string]int{"invoke-by-hand": 100}
	})
	code, said := w.step("promote")
	if code != 1 || !strings.Contains(said, "somebody else") {
		t.Errorf("exit %d:\n%s", code, said)
	}
	if c := w.now().Services["invoke"]; len(c.History) != 0 || c.Traffic["invoke-by-hand"] != 100 {
		t.Errorf("the traffic is %v, after %v", c.Traffic, c.History)
	}
}

func TestTrafficThatSomebodyElseSetsMeanwhileIsTheirs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.must("deploy")
	w.mu.Lock()
	w.figures = func(revision string) (monitoringtest.Figures, bool) {
		w.change(func(c *gcloudtest.Cloud) {
			c.Services["invoke"].Traffic = map[string]int{"invoke-00001": 70, w.revision("invoke"): 30}
		})
		return healthy(revision)
	}
	w.mu.Unlock()
	code, said := w.step("promote")
	if code != 1 || !strings.Contains(said, "left as it is") {
		t.Errorf("exit %d:\n%s", code, said)
	}
	w.expect(said, []string{"NEW=10,OLD=90"}, nil)
	if c := w.now().Services["invoke"]; c.Traffic["invoke-00001"] != 70 {
		t.Errorf("the traffic is %v", c.Traffic)
	}
}

func TestOneDeliveryAtATime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.change(func(c *gcloudtest.Cloud) { c.Ongoing = "build-1" })
	w.env = []string{"BUILD_ID=build-2", "TRIGGER_NAME=delivery"}
	if code, said := w.step("deploy"); code != 1 || !strings.Contains(said, "build-1 is under way") {
		t.Errorf("a second delivery exits %d:\n%s", code, said)
	}
	if n := len(w.now().Services["invoke"].Revisions); n != 1 {
		t.Errorf("it made a revision: %d", n)
	}
	w.env = []string{"BUILD_ID=build-1", "TRIGGER_NAME=delivery"}
	w.must("deploy")
}

// TestDryRuns checks that every step prints what it would do, without any program that
// it calls.
func TestDryRuns(t *testing.T) {
	t.Parallel()
	for name, says := range map[string]string{
		"check":   "'go' 'test' '-race'",
		"verdict": "'gcloud' 'storage' 'cp'",
		"build":   "'pack' 'build'",
		"plan":    "'terraform' '-chdir=environments' 'plan'",
		"serving": "'gcloud' 'run' 'services' 'describe' 'invoke'",
		"apply":   "'terraform' '-chdir=environments' 'apply'",
		"deploy":  "'gcloud' 'run' 'deploy' 'invoke'",
		"smoke":   "'-invoke' 'https://TAG---invoke'",
		"promote": "'--to-revisions' 'invoke-new=50,invoke-old=50'",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			defer cancel()
			state := filepath.Join(t.TempDir(), "state")
			cmd := exec.CommandContext(ctx, "./"+name, "--dry-run")
			cmd.Env = []string{"PATH=" + only(t, "bash", "env", "dirname", "date", "awk", "sort", "sed", "seq", "mkdir"), "DELIVERY_STATE=" + state,
				"COMMIT_SHA=c0ffee0123456789", "CHECK=test", "REPORT_BUCKET=reports"}
			said, err := cmd.CombinedOutput()
			if err != nil || !strings.Contains(string(said), says) {
				t.Errorf("%v, without %s:\n%s", err, says, said)
			}
			if _, err := os.Stat(state); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("it left %s: %v", state, err)
			}
		})
	}
}

// only returns a PATH with only these programs.
func only(t *testing.T, programs ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, program := range programs {
		path, err := exec.LookPath(program)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(path, filepath.Join(dir, program)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// stub puts a program on the PATH that appends its arguments to the file calls and
// runs a line of shell.
func (w *world) stub(program, does string) (calls string) {
	w.t.Helper()
	calls = filepath.Join(w.state, program+".calls")
	script := fmt.Sprintf("#!/bin/sh\necho \"$@\" >>%q\n%s\n", calls, does)
	if err := os.WriteFile(filepath.Join(w.bin, program), []byte(script), 0o755); err != nil {
		w.t.Fatal(err)
	}
	return calls
}

func TestTheImageIsKnownByItsDigest(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	built := "sha256:" + strings.Repeat("ab", 32)
	// pack writes a report to the directory in its option.
	calls := w.stub("pack", fmt.Sprintf(`while [ "$1" != --report-output-dir ]; do shift; done
printf '[build]\n[image]\ntags = ["a"]\ndigest = "%s"\n' >"$2/report.toml"`, built))
	w.must("build")
	kept, err := os.ReadFile(filepath.Join(w.state, "image"))
	if want := "us-central1-docker.pkg.dev/test-project/gatehouse/gatehouse@" + built + "\n"; err != nil || string(kept) != want {
		t.Errorf("kept %q, %v, want %q", kept, err, want)
	}
	said, _ := os.ReadFile(calls)
	for _, argument := range []string{"/gatehouse:c0ffee012345 ", "--builder gcr.io/buildpacks/builder@sha256:", "/project.toml ", "GOOGLE_FUNCTION_TARGET=invoke", "GOOGLE_GO_VERSION=1.26.8 ", "GOFLAGS=-tags=grpcnotrace ", "--publish"} {
		if !strings.Contains(string(said), argument) {
			t.Errorf("pack was called without %q:\n%s", argument, said)
		}
	}
	w.stub("pack", "exit 0")
	if err := os.Remove(filepath.Join(w.state, "report", "report.toml")); err != nil {
		t.Fatal(err)
	}
	if code, said := w.step("build"); code == 0 {
		t.Errorf("a build without a digest passes:\n%s", said)
	}
}

// Go's downloads and build cache are next to the source. pack and gofmt must not take
// them for source.
func TestWhatIsDownloadedIsNotOurs(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	tree := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		name = filepath.Join(tree, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"check", "lib.sh"} {
		write("delivery/"+name, read(t, name))
	}
	write(".delivery/modules/x.go", "package x\nfunc  f(){}\n")
	write("a/a.go", "package a\n")
	w.stub("go", "")
	w.env = []string{"CHECK=vet"}
	lint := func() (int, string) {
		cmd, said := w.command(t.Context(), "check")
		cmd.Path, cmd.Dir = filepath.Join(tree, "delivery", "check"), tree
		_ = cmd.Run()
		return cmd.ProcessState.ExitCode(), said.String()
	}
	if code, said := lint(); code != 0 {
		t.Errorf("lint exits %d:\n%s", code, said)
	}
	write("a/b.go", "package a\nfunc  f(){}\n")
	if code, said := lint(); code != 1 || !strings.Contains(said, "not gofmt-ed: ./a/b.go") {
		t.Errorf("lint exits %d:\n%s", code, said)
	}

	excluded := regexp.MustCompile(`(?m)^  "(.*)",$`).FindAllStringSubmatch(read(t, "project.toml"), -1)
	var got []string
	for _, e := range excluded {
		got = append(got, e[1])
	}
	want := []string{"/.delivery/", "/.git/"}
	for _, e := range regexp.MustCompile(`":\(exclude(,glob)?\)(?:\*\*/)?([^"]+)"`).FindAllStringSubmatch(read(t, "../internal/deploy/source.go"), -1) {
		if e[1] != "" {
			want = append(want, e[2])
		} else {
			want = append(want, "/"+e[2]+"/")
		}
	}
	if diff := cmp.Diff(want, got); diff != "" || len(want) < 5 {
		t.Errorf("pack leaves out (-want, as a deployment by hand does, +got):\n%s", diff)
	}
}

func TestADifferenceInTheInfrastructureStopsTheDelivery(t *testing.T) {
	const address = `"address": "google_cloud_run_v2_service.function", "type": "google_cloud_run_v2_service"`
	for _, c := range []struct {
		name string
		plan int    // exit status of terraform plan
		json string // the plan
		code int
		says string
	}{
		{"no difference", 0, "", 0, "as this commit asks"},
		{"the commit asks for another", 2, `"resource_changes": [{` + address + `, "change": {"actions": ["create"], "after": {}}}]`, 3,
			"gcloud builds triggers run gatehouse-infrastructure --project test-project --region us-central1 --sha c0ffee0123456789"},
		{"somebody changed it by hand", 2, `"resource_drift": [{` + address + `, "change": {"actions": ["update"], "before": {"a": "1"}, "after": {"a": "2"}}}],
			"resource_changes": [{` + address + `, "change": {"actions": ["update"], "before": {"a": "2"}, "after": {"a": "1"}}}]`, 4, "by hand: somebody changed"},
		{"the API returns another form", 2, `"resource_changes": [{` + address + `, "change": {"actions": ["update"],
			"before": {"name": "invoke", "template": [{"containers": [{"name": "invoke-1"}]}]}, "after": {"name": "invoke", "template": [{"containers": [{}]}]}}}]`, 0, "by the API: "},
		{"a plan that fails", 1, "", 1, "the plan failed"},
		{"a plan that cannot be read", 2, "no JSON", 1, "the plan failed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.env = []string{"STATE_BUCKET=state", "PLAN_ACCOUNT=planner@p.iam.gserviceaccount.com", "VAR_FILE=environments/small.tfvars"}
			shown := `{"format_version": "1.2", ` + c.json + "}"
			if c.name == "a plan that cannot be read" {
				shown = c.json
			}
			calls := w.stub("terraform", fmt.Sprintf(`if [ "$2" = plan ]; then echo "as $GOOGLE_IMPERSONATE_SERVICE_ACCOUNT" >>%q; exit %d; fi
if [ "$2" = show ]; then cat <<'END'
%s
END
fi`, filepath.Join(w.state, "terraform.calls"), c.plan, shown))
			code, said := w.step("plan")
			if code != c.code || !strings.Contains(said, c.says) {
				t.Errorf("plan exits %d:\n%s", code, said)
			}
			called, _ := os.ReadFile(calls)
			if strings.Contains(string(called), "apply") || !strings.Contains(string(called), "as planner@p.iam.gserviceaccount.com") ||
				!strings.Contains(string(called), " -var project_id=test-project -var region=us-central1 -var settings=../environments/small.tfvars -var image="+digest) {
				t.Errorf("terraform was called with:\n%s", called)
			}
		})
	}
}

// Without the deployment's settings file a plan or an apply would reset everything to
// the defaults.
func TestInfrastructureIsNeverComparedWithTheDefaults(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.env = []string{"STATE_BUCKET=state"}
	calls := w.stub("terraform", "")
	for _, step := range []string{"plan", "apply"} {
		if code, said := w.step(step); code != 1 || !strings.Contains(said, "environments/test-project.tfvars is missing") {
			t.Errorf("%s exits %d:\n%s", step, code, said)
		}
	}
	if called, err := os.ReadFile(calls); err == nil {
		t.Errorf("terraform was called with:\n%s", called)
	}
	w.env = []string{"STATE_BUCKET=state", "VAR_FILE=environments/serious.tfvars"}
	w.must("apply")
	called, _ := os.ReadFile(calls)
	if want := "apply -input=false -auto-approve -lock-timeout 5m -var project_id=test-project -var region=us-central1 -var settings=../environments/serious.tfvars"; !strings.Contains(string(called), want) {
		t.Errorf("terraform was called with:\n%s, want\n%s", called, want)
	}
	w.stub("terraform", `case "$*" in *init*) exit 3 ;; esac`)
	for _, step := range []string{"plan", "apply"} {
		if code, said := w.step(step); code == 0 {
			t.Errorf("%s passes after a failed init:\n%s", step, said)
		}
	}
}

// A change of the infrastructure creates revisions from the image in use, not from the
// commit's, which may not be delivered yet.
func TestAnInfrastructureChangeKeepsTheImage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.change(func(c *gcloudtest.Cloud) { c.Services["invoke"].Images["invoke-00001"] = "serving" })
	w.must("serving")
	if kept := read(t, filepath.Join(w.state, "image")); kept != "serving\n" {
		t.Errorf("it keeps %q", kept)
	}
	w.change(func(c *gcloudtest.Cloud) { delete(c.Services, "invoke") })
	if code, said := w.step("serving"); code != 1 || !strings.Contains(said, "run scripts/deploy first") {
		t.Errorf("without a service it exits %d:\n%s", code, said)
	}
}

// A program of a step is built again when its source has changed, and steps without Go use
// what there is.
func TestAProgramFollowsItsSource(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(name, text string, age time.Duration) {
		t.Helper()
		path, at := filepath.Join(dir, name), time.Now().Add(-age)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o600), os.Chtimes(path, at, at)); err != nil {
			t.Fatal(err)
		}
	}
	source := func(word string, age time.Duration) {
		write("cmd/x/main.go", "package main\n\nfunc main() { print(\""+word+"\") }\n", age)
	}
	run := func(path string) string {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "bash", "-c", `. ./lib.sh; $(tool cmd/x) 2>&1`)
		cmd.Env = append(os.Environ(), "REPOSITORY_DIR="+dir, "DELIVERY_STATE=.delivery", "GOWORK=off", "GOFLAGS=-mod=mod")
		if path != "" {
			cmd.Env = append(cmd.Env, "PATH="+path)
		}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	write("go.mod", "module example.com/gatehouse\n\ngo 1.26.0\n", time.Hour)
	source("first", time.Hour)
	if got := run(""); got != "first" {
		t.Errorf("%q", got)
	}
	source("second", -time.Minute)
	if got := run("/usr/bin:/bin"); got != "first" {
		t.Errorf("without Go: %q", got)
	}
	if got := run(""); got != "second" {
		t.Errorf("its source has changed: %q", got)
	}
}

func TestAGoVersionIsExact(t *testing.T) {
	for mod, want := range map[string]string{
		"go 1.26.8\n": "1.26.8\n", "go 1.26.0\n\ntoolchain go1.26.8\n": "1.26.8\n",
		"go 1.26\n": "", "module x\n": "", "go 1.26.0\ntoolchain go1.27rc1\n": "", "go 1.26\ntoolchain default\n": "",
	} {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "go.mod"), []byte(mod), 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), "bash", "-c", `. ./lib.sh; go_version`)
		cmd.Env = append(os.Environ(), "REPOSITORY_DIR="+dir)
		out, err := cmd.Output()
		if string(out) != want || (err == nil) != (want != "") {
			t.Errorf("%q: %q, %v", mod, out, err)
		}
	}
}

// The cases of a commit are evaluated before it gets traffic, and the report is kept.
func TestAnEvaluationStopsTheDelivery(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		files  []string
		env    []string
		exits  string // the evaluation
		calls  []string
		passes bool
	}{
		{"no cases", nil, nil, "exit 1", nil, true},
		{"they pass", []string{"evals/a.yaml", "rates/evals/b.yaml"}, nil, "exit 0", []string{"run ./cmd/local eval -out STATE/evaluation evals/a.yaml rates/evals/b.yaml"}, true},
		{"they do not", []string{"evals/a.yaml"}, nil, "exit 1", []string{"run ./cmd/local eval -out STATE/evaluation evals/a.yaml"}, false},
		{
			"on a model, with a judge", []string{"evals/a.yaml"}, []string{"EVALUATION_MODEL=m", "JUDGE=j"},
			`[ "$MODEL $GOOGLE_GENAI_USE_VERTEXAI $GOOGLE_CLOUD_PROJECT" = "m true ` + project + `" ]`,
			[]string{"run ./cmd/local eval -out STATE/evaluation -judge j evals/a.yaml"}, true,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			w, repository := newWorld(t), t.TempDir()
			for _, name := range c.files {
				path := filepath.Join(repository, name)
				if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, nil, 0o644)); err != nil {
					t.Fatal(err)
				}
			}
			w.env = append(c.env, "REPOSITORY_DIR="+repository, "REPORT_BUCKET=reports")
			evaluated := w.stub("go", `mkdir -p "$DELIVERY_STATE/evaluation"; `+c.exits)
			if err := os.Remove(filepath.Join(w.bin, "gcloud")); err != nil { // a link to what other tests use
				t.Fatal(err)
			}
			kept := w.stub("gcloud", "exit 0")
			w.must("evaluate")
			code, said := w.step("verdict")
			if (code == 0) != c.passes || !c.passes && !strings.Contains(said, "did not pass") {
				t.Errorf("exit %d:\n%s", code, said)
			}
			raw, _ := os.ReadFile(evaluated)
			if got := strings.ReplaceAll(strings.TrimSpace(string(raw)), w.state, "STATE"); got != strings.Join(c.calls, "\n") {
				t.Errorf("runs %q", got)
			}
			if raw, _ := os.ReadFile(kept); strings.Contains(string(raw), "report.md") != (c.calls != nil) || c.calls != nil && !strings.Contains(string(raw), "gs://reports/c0ffee012345/") {
				t.Errorf("the report is kept by %q", raw)
			}
		})
	}
	w := newWorld(t)
	if code, said := w.step("verdict"); code != 1 || !strings.Contains(said, "run delivery/evaluate first") {
		t.Errorf("without an evaluation: exit %d:\n%s", code, said)
	}
}

func TestMissingSettingsAreNamed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.env = []string{"PROJECT_ID="}
	if code, said := w.step("deploy"); code != 1 || !strings.Contains(said, "set PROJECT in the environment") {
		t.Errorf("exit %d:\n%s", code, said)
	}
	if code, said := w.step("deploy", "--what"); code != 64 || !strings.Contains(said, "usage") {
		t.Errorf("exit %d:\n%s", code, said)
	}
}
