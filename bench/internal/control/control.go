// Package control is the part of the benchmark inside the servers it starts: it
// reports what only the process itself knows, and ends the process with the
// benchmark. It listens on no port: commands come on standard input, answers go
// to a pipe.
package control

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"os"
	"runtime/metrics"
	"runtime/pprof"
	"strings"
)

// Variable is set in the environment of servers that are to be controlled.
const Variable = "BENCH_CONTROL"

// The commands, each a line. Every one is answered by an [Answer] on a line.
const (
	Figures = "figures"
	Profile = "profile" // followed by a space and a path: write a CPU profile there
	Stop    = "stop"    // end the CPU profile
)

// An Answer is the result of a command.
type Answer struct {
	Allocated uint64 `json:"allocated"` // bytes on the heap, since the process started
	Error     string `json:"error,omitempty"`
}

// replies is the descriptor that answers go to, the first of exec.Cmd.ExtraFiles.
const replies = 3

// Start obeys commands in the background, and ends the process when no more can
// come. It does nothing in a process that the benchmark did not start.
func Start() {
	if os.Getenv(Variable) == "" {
		return
	}
	go func() {
		serve(os.Stdin, os.NewFile(replies, "replies"))
		os.Exit(0)
	}()
}

func serve(commands io.Reader, answers io.Writer) {
	encoder := json.NewEncoder(answers)
	var profile *os.File
	for lines := bufio.NewScanner(commands); lines.Scan(); {
		var err error
		switch command, path, _ := strings.Cut(lines.Text(), " "); command {
		case Figures:
		case Profile:
			profile, err = startProfile(path)
		case Stop:
			pprof.StopCPUProfile()
			err = profile.Close()
		default:
			err = errors.New("unknown command " + command)
		}
		answer := Answer{Allocated: allocated()}
		if err != nil {
			answer.Error = err.Error()
		}
		if encoder.Encode(answer) != nil {
			return
		}
	}
}

func startProfile(path string) (*os.File, error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	return f, pprof.StartCPUProfile(f)
}

func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}
