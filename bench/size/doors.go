package main

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"example.com/gatehouse/bench/internal/program"
)

// doors are the packages of the doors, below gate, with the names that the table has.
var doors = []struct{ pkg, name string }{{"mcp", "MCP"}, {"openai", "OpenAI"}, {"a2a", "A2A"}}

// source is a program with some of the doors: their imports, and their options.
const source = `package main

import (
	"log"
	"os"

	"github.com/GoogleCloudPlatform/functions-framework-go/funcframework"

	"example.com/gatehouse/advisor"
	"example.com/gatehouse/gate"
%s)

func main() {
	gate.Register(advisor.New%s)
	log.Fatal(funcframework.StartHostPort("127.0.0.1", os.Getenv("PORT")))
}
`

// A linked is what a program with some of the doors weighs.
type linked struct {
	name   string
	lines  int   // of Go, of its doors
	size   int64 // bytes of the program, stripped
	cpu    []time.Duration
	memory []int64 // KiB, the most it held until its first answers

	path string
}

// writeDoors builds the program without a door, with each and with all, starts each as
// often as starts, in turns, and writes the table.
func writeDoors(dir string, starts int, out io.Writer) error {
	sets := []linked{{name: "none"}}
	for _, d := range doors {
		sets = append(sets, linked{name: d.name})
	}
	sets = append(sets, linked{name: "all"})
	var err error
	for i := 0; err == nil && i < len(sets); i++ {
		err = sets[i].build(filepath.Join(dir, strconv.Itoa(i)))
	}
	for i := 0; err == nil && i < starts*len(sets); i++ {
		err = sets[i%len(sets)].start()
	}
	if err != nil {
		return err
	}
	fmt.Fprint(out, "| doors | lines of Go | program, MiB | processor, ms | memory, MiB |\n|---|--:|--:|--:|--:|\n")
	for _, l := range sets {
		fmt.Fprintf(out, "| %s | %d | %.1f | %.1f | %.1f |\n", l.name, l.lines, float64(l.size)/(1<<20),
			median(l.cpu).Seconds()*1000, float64(median(l.memory))/1024)
	}
	return nil
}

func median[T cmp.Ordered](all []T) T {
	slices.Sort(all)
	return all[len(all)/2]
}

// build builds the program in dir, as the buildpack does, and stripped.
func (l *linked) build(dir string) error {
	var imports, options string
	for _, d := range doors {
		if l.name != "all" && l.name != d.name {
			continue
		}
		imports += "\t\"example.com/gatehouse/gate/" + d.pkg + "\"\n"
		options += ", " + d.pkg + ".Door()"
		files, err := filepath.Glob(filepath.Join(program.Root(), "gate", d.pkg, "*.go"))
		if err != nil {
			return err
		}
		for _, file := range files {
			content, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			if !strings.HasSuffix(file, "_test.go") {
				l.lines += bytes.Count(content, []byte("\n"))
			}
		}
	}
	main := filepath.Join(dir, "main.go")
	l.path = filepath.Join(dir, "program")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(main, fmt.Appendf(nil, source, imports, options), 0o600); err != nil {
		return err
	}
	if err := program.Build(context.Background(), "", append(program.Flags(), "-ldflags=-s -w", "-o", l.path, main)...); err != nil {
		return err
	}
	info, err := os.Stat(l.path)
	if err == nil {
		l.size = info.Size()
	}
	return err
}

// start starts the program, asks it until it has answered, ends it, and notes what that
// took.
func (l *linked) start() error {
	port, err := program.FreePort()
	if err != nil {
		return err
	}
	cmd := exec.Command(l.path)
	cmd.Env = []string{fmt.Sprintf("PORT=%d", port), "FUNCTION_TARGET=invoke", "ENVIRONMENT=test", "AUTH=none", "GEMINI_API_KEY=x", "SESSION_STORE=memory"}
	if err := cmd.Start(); err != nil {
		return err
	}
	err = answers(fmt.Sprintf("http://127.0.0.1:%d", port))
	status, statusErr := os.ReadFile(fmt.Sprintf("/proc/%d/status", cmd.Process.Pid)) // proc_pid_status(5)
	_ = cmd.Process.Kill()
	_ = cmd.Wait() // it was killed
	if err = cmp.Or(err, statusErr); err != nil {
		return err
	}
	_, rest, _ := bytes.Cut(status, []byte("\nVmHWM:"))
	peak, _, _ := bytes.Cut(rest, []byte(" kB"))
	memory, err := strconv.ParseInt(string(bytes.TrimSpace(peak)), 10, 64)
	l.memory = append(l.memory, memory)
	l.cpu = append(l.cpu, cmd.ProcessState.UserTime()+cmd.ProcessState.SystemTime())
	return err
}

// answers waits until the service at url has answered, ten seconds at most.
func answers(url string) error {
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	end := time.Now().Add(10 * time.Second)
	for _, path := range []string{"/health/live", "/"} {
		response, err := client.Get(url + path)
		for ; err != nil && time.Now().Before(end); response, err = client.Get(url + path) {
			time.Sleep(time.Millisecond) // it does not listen yet
		}
		if err != nil {
			return err
		}
		_ = response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return fmt.Errorf("GET %s: %s", path, response.Status)
		}
	}
	return nil
}
