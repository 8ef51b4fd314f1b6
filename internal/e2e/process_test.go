package e2e_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-json-experiment/json"

	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/internal/openapi/openapitest"
	gatehouse "example.com/gatehouse/internal/server"
	"example.com/gatehouse/internal/testagent"
	"example.com/gatehouse/internal/testlog"
)

// limit bounds every wait of a test.
const limit = 60 * time.Second

// apiKey is the secret that services are started with; it must show nowhere.
const apiKey = "AIzaSyTheKeyThatMustNotShow"

// bounded is a context that no test outlives.
func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	return ctx
}

// moduleRoot is the directory of the module, seen from this package.
const moduleRoot = "../.."

// programs is where the tests' programs are built; TestMain removes it.
var programs = sync.OnceValues(func() (string, error) { return os.MkdirTemp("", "gatehouse-programs-") })

// localProgram is the local program of the tests' own agent, built once, to look for
// data races if the tests do; or that of the variable LOCAL_PROGRAM, which serves an agent
// with the same tools. The module adk has such a one.
var localProgram = sync.OnceValues(func() (string, error) {
	if program := os.Getenv("LOCAL_PROGRAM"); program != "" {
		return program, nil
	}
	const pkg = "./internal/testagent/program"
	if raceDetector {
		return build(moduleRoot, "local", "-race", pkg)
	}
	return build(moduleRoot, "local", pkg)
})

// build compiles a package of the module in dir into programs.
func build(dir, name string, args ...string) (string, error) {
	to, err := programs()
	if err != nil {
		return "", err
	}
	path := filepath.Join(to, name)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", append([]string{"build", "-o", path}, args...)...)
	cmd.Dir = dir
	if output, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building %s: %w\n%s", name, err, output)
	}
	return path, nil
}

// A process is a program that a test has started. Its methods are safe for
// concurrent use.
type process struct {
	cmd            *exec.Cmd
	stdout, stderr *testlog.Buffer
	exited         chan struct{}
}

// spawn starts a program with this environment and nothing else of ours but
// PATH. It is killed when t ends, if it has not ended before.
func spawn(t *testing.T, program string, env ...string) *process {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Hour) // a long storm's first process lives as long
	cmd := exec.CommandContext(ctx, program)
	cmd.Dir = t.TempDir()
	cmd.Env = slices.Concat([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + cmd.Dir,
		"RATE_LIMIT_PER_MINUTE=1000000", "CALLER_RATE_LIMIT_PER_MINUTE=1000000"}, testagent.NoCloud(), env)
	if raceDetector {
		cmd.Env = append(cmd.Env, "GORACE=atexit_sleep_ms=0") // else it sleeps a second at its end
	}
	p := &process{cmd: cmd, stdout: &testlog.Buffer{}, stderr: &testlog.Buffer{}, exited: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p.stdout, p.stderr
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		cancel()
		t.Fatalf("starting %s: %v", program, err)
	}
	go func() {
		defer close(p.exited)
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		cancel()
		<-p.exited
		if t.Failed() {
			t.Logf("stdout of %s:\n%s\nstderr:\n%s", filepath.Base(program), p.stdout, p.stderr)
		}
	})
	return p
}

// end signals the process and returns its exit code.
func (p *process) end(t *testing.T, signal os.Signal) int {
	t.Helper()
	_ = p.cmd.Process.Signal(signal)
	return p.wait(t)
}

// wait returns the exit code once the process has ended.
func (p *process) wait(t *testing.T) int {
	t.Helper()
	timer := time.NewTimer(15 * time.Second)
	defer timer.Stop()
	select {
	case <-p.exited:
		return p.cmd.ProcessState.ExitCode()
	case <-timer.C:
		t.Errorf("the process did not end within 15 s")
		return -1
	}
}

// memory returns the process's resident memory in MiB, 0 if the system does not report
// it.
func (p *process) memory() int {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	match := regexp.MustCompile(`VmRSS:\s+(\d+) kB`).FindSubmatch(status)
	if match == nil {
		return 0
	}
	kilobytes, _ := strconv.Atoi(string(match[1]))
	return kilobytes >> 10
}

// A service is a running program that answers at URL.
type service struct {
	*process
	URL    string
	root   string // the documented path that "/" is; "": itself
	client *http.Client
}

var readyAt = regexp.MustCompile(`ready at (http://\S+)\n`)

// startLocal runs the local program with this environment on a free port until t ends,
// and then checks that it ended well and what it logged.
func startLocal(t *testing.T, env ...string) *service {
	t.Helper()
	program, err := localProgram()
	if err != nil {
		t.Fatal(err)
	}
	p := spawn(t, program, append([]string{"PORT=0"}, env...)...)
	ctx, cancel := context.WithCancel(bounded(t))
	defer cancel()
	go func() {
		select {
		case <-p.exited:
			cancel()
		case <-ctx.Done():
		}
	}()
	match, err := p.stdout.Await(ctx, readyAt)
	if err != nil {
		t.Fatalf("the local program did not get ready: %v", err)
	}
	s := newService(t, p, match[1])
	t.Cleanup(func() {
		s.client.CloseIdleConnections()
		if code := p.end(t, syscall.SIGTERM); code != 0 {
			t.Errorf("the local program ended with code %d", code)
		}
		checkLogs(t, p)
	})
	return s
}

func newService(t *testing.T, p *process, address string) *service {
	transport := &http.Transport{MaxIdleConnsPerHost: 16}
	t.Cleanup(transport.CloseIdleConnections)
	return &service{process: p, URL: address, client: &http.Client{
		Transport:     transport,
		Timeout:       limit,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// startGemini runs the local program with a stand-in for Gemini, one model and the
// memory store, unless env overrides them.
func startGemini(t *testing.T, env ...string) (*service, *geminitest.Server) {
	t.Helper()
	gemini := geminitest.Start(t)
	return startLocal(t, append([]string{"GEMINI_API_KEY=" + apiKey, "GOOGLE_GEMINI_BASE_URL=" + gemini.URL, "MODEL_FALLBACKS=none"}, env...)...), gemini
}

// greeting are the lines that are not log lines: the functions framework's own,
// an empty one a request among them, and the local program's.
var greeting = regexp.MustCompile(`^$|^Serving function: |^Gatehouse is ready at |^  (model|sessions)  |^Try:$|^  curl |^Open |^Ctrl-C ends it\.$|^Ending`)

// checkLogs checks that a process wrote one JSON object a line, and neither
// secrets nor signs of a bug.
func checkLogs(t *testing.T, p *process) {
	t.Helper()
	for name, text := range map[string]string{"stdout": p.stdout.String(), "stderr": p.stderr.String()} {
		for line := range strings.Lines(text) {
			line = strings.TrimSuffix(line, "\n")
			if greeting.MatchString(line) {
				continue
			}
			var entry struct {
				Severity string         `json:"severity"`
				Time     time.Time      `json:"time"`
				Message  string         `json:"message"`
				Request  map[string]any `json:"httpRequest"`
				Rest     map[string]any `json:",inline"`
			}
			if err := json.Unmarshal([]byte(line), &entry); err != nil {
				t.Errorf("%s has a line that is not a log entry: %v\n%s", name, err, line)
				continue
			}
			if entry.Severity == "" || entry.Time.IsZero() || entry.Message == "" {
				t.Errorf("log entry without severity, time or message: %s", line)
			}
			if entry.Request != nil && len(line) >= 2<<10 {
				t.Errorf("the line that sums up a request has %d bytes, over 2 KiB: %s", len(line), line)
			}
			if regexp.MustCompile(`(?i)\bpanic\b`).MatchString(entry.Message) {
				t.Errorf("a panic: %s", line)
			}
		}
		for _, bad := range []string{apiKey, "DATA RACE", "\ngoroutine 1 ["} {
			if strings.Contains(text, bad) {
				t.Errorf("%s contains %q", name, bad)
			}
		}
	}
}

// An answer is a response that was read whole.
type answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// do sends a request and reads the response. Headers are name, value, …; a JSON body
// gets its Content-Type unless they set one.
func (s *service) do(t *testing.T, method, path string, body any, headers ...string) answer {
	t.Helper()
	a, err := s.try(bounded(t), method, path, body, headers...)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	return a
}

// try is do for use beside the test's own goroutine.
func (s *service) try(ctx context.Context, method, path string, body any, headers ...string) (answer, error) {
	response, err := s.open(ctx, method, path, body, headers...)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = response.Body.Close() }()
	read, err := io.ReadAll(response.Body)
	if err != nil {
		return answer{}, fmt.Errorf("reading the answer: %w", err)
	}
	c, err := contract()
	if err != nil {
		return answer{}, err
	}
	if err := c.Check(method, s.described(path), response.StatusCode, response.Header, read); err != nil {
		return answer{}, undocumented(err)
	}
	return answer{response.StatusCode, response.Header, read}, nil
}

// described is the path that the document has path's answers under.
func (s *service) described(path string) string {
	switch {
	case s.root == "":
	case path == "/":
		return s.root
	case !strings.HasPrefix(path, s.root):
		return "/not/served" // the document is the other function's
	}
	return path
}

func undocumented(err error) error {
	return fmt.Errorf("the answer is not as the OpenAPI document has it: %w", err)
}

// contract is the OpenAPI document of all that the service can answer.
var contract = sync.OnceValues(func() (*openapitest.Contract, error) {
	env := map[string]string{"AUTH": "api_key,none", "API_KEYS": `[{"name": "any", "sha256": "` + strings.Repeat("0", 64) + `"}]`}
	s := gatehouse.New(testagent.Options(func(name string) (string, bool) { value, ok := env[name]; return value, ok }, io.Discard))
	w := httptest.NewRecorder()
	s.Both.ServeHTTP(w, httptest.NewRequestWithContext(context.Background(), http.MethodGet, "http://127.0.0.1/openapi.json", nil))
	return openapitest.New(w.Body.Bytes())
})

// A documentedStream is an event stream that cannot be read on once something in
// it is not as the document has it.
type documentedStream struct {
	io.ReadCloser
	stream *openapitest.Stream
}

// Read implements [io.Reader].
func (s *documentedStream) Read(p []byte) (int, error) {
	n, err := s.ReadCloser.Read(p)
	_, problem := s.stream.Write(p[:n])
	if problem == nil && errors.Is(err, io.EOF) {
		problem = s.stream.End()
	}
	if problem != nil {
		return 0, undocumented(problem)
	}
	return n, err
}

// open sends a request and returns when the answer's header has come. An event
// stream is held against the document while it is read. A body is
// nil, a string, a []byte, an io.Reader of unknown length, or a value to encode.
func (s *service) open(ctx context.Context, method, path string, body any, headers ...string) (*http.Response, error) {
	var reader io.Reader
	switch body := body.(type) {
	case nil:
	case string:
		reader = strings.NewReader(body)
	case []byte:
		reader = bytes.NewReader(body)
	case io.Reader:
		reader = body
	default:
		encoded, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		reader = bytes.NewReader(encoded)
	}
	request, err := http.NewRequestWithContext(ctx, method, s.URL+path, reader)
	if err != nil {
		return nil, err
	}
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		request.Header[http.CanonicalHeaderKey(headers[i])] = nil
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i+1] != absent {
			request.Header.Add(headers[i], headers[i+1])
		}
	}
	response, err := s.client.Do(request)
	if err != nil {
		return nil, err
	}
	c, err := contract()
	if err != nil {
		_ = response.Body.Close()
		return nil, err
	}
	stream, err := c.Stream(method, s.described(path), response.StatusCode, response.Header)
	if err != nil {
		_ = response.Body.Close()
		return nil, undocumented(err)
	}
	if stream != nil {
		response.Body = &documentedStream{response.Body, stream}
	}
	return response, nil
}

// absent as a header's value leaves the header out.
const absent = "\x00absent"

// invoke asks a question and returns the turn, which must be answered.
func (s *service) invoke(t *testing.T, body map[string]any, headers ...string) turn {
	t.Helper()
	return wantTurn(t, s.do(t, http.MethodPost, "/invoke", body, headers...))
}

// rawRequest sends bytes on a new connection and reads the response to them, without
// closing the sending side.
func (s *service) rawRequest(t *testing.T, text string) answer {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(8 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, text); err != nil && !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
		t.Fatal(err)
	}
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatalf("reading the answer: %v", err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatalf("reading the answer's body: %v", err)
	}
	return answer{response.StatusCode, response.Header, body}
}
