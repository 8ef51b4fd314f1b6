package main

import (
	"errors"
	"flag"
	"fmt"
	"slices"
	"strings"
	"time"

	"example.com/gatehouse/bench/internal/program"
)

// Options configure what is measured, and for how long.
type Options struct {
	Configs      []string      `json:"configs"` // of [others]
	Peers        []string      `json:"peers"`   // of [peers]
	Rounds       int           `json:"rounds"`
	Pairs        int           `json:"pairs"`       // of the limit and the server with budgets, a round; of the others 1
	Duration     time.Duration `json:"duration_ns"` // of one unary run
	AtOnce       []int         `json:"at_once"`     // unary clients
	Streams      []int         `json:"streams"`     // at once
	PeerStreams  int           `json:"peer_streams"`
	Starts       int           `json:"starts"` // of each kind, a round
	SessionTurns int           `json:"session_turns"`
	Latency      time.Duration `json:"model_latency_ns"` // before a whole answer
	First        time.Duration `json:"model_first_ns"`   // before a stream's first chunk
	Gap          time.Duration `json:"model_gap_ns"`     // before each further one
	Steady       time.Duration `json:"steady_ns"`        // of the turns whose documents are counted
	Shared       time.Duration `json:"shared_ns"`        // of the turns that several processes share
	BuildFlags   []string      `json:"build_flags"`

	Out        string `json:"-"` // file for the results
	CPUProfile string `json:"-"` // folder for CPU profiles
	Keep       bool   `json:"-"` // replace the results that the page is made from
	Install    bool   `json:"-"` // only install the peers
	Docs       bool   `json:"-"` // only bring the page of results up to date
}

// Warm is how long a server is called before it is measured.
func (o *Options) Warm() time.Duration { return o.Duration / 4 }

// pairs is how often t takes turns with the limit in a round.
func (o *Options) pairs(t target) int {
	if t.held {
		return o.Pairs
	}
	return 1
}

// full is the usual measurement, in some minutes.
func full() Options {
	return Options{
		Rounds: 3, Pairs: 3, Duration: 1200 * time.Millisecond, AtOnce: []int{1, 64, 512}, Streams: []int{1000}, PeerStreams: 100, Starts: 5,
		First: 20 * time.Millisecond, Gap: 250 * time.Millisecond, Steady: 65 * time.Second, Shared: 20 * time.Second, BuildFlags: program.Flags(),
	}
}

// quick shows in seconds that everything works. Its figures are rough.
func quick() Options {
	return Options{
		Rounds: 2, Pairs: 1, Duration: 200 * time.Millisecond, AtOnce: []int{1, 64}, Streams: []int{100}, PeerStreams: 20, Starts: 1,
		First: 20 * time.Millisecond, Gap: 20 * time.Millisecond, Steady: time.Second, Shared: time.Second, // without -trimpath, what other builds compiled is used
	}
}

// parse reads the command line.
func parse(args []string) (Options, error) {
	o := full()
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	short := flags.Bool("quick", false, "take seconds; the figures are rough")
	configs := flags.String("configs", strings.Join(namesOf(others), "; "), "the configurations to compare with the limit, separated by semicolons")
	rounds := flags.Int("rounds", 0, "how many rounds, 0 for the usual number")
	length := flags.Duration("duration", 0, "how long a unary run takes, after a quarter that does not count, 0 for the usual time")
	beside := flags.String("peers", strings.Join(namesOf(peers), "; "), "the peers to compare with this project and the limit, separated by semicolons")
	flags.IntVar(&o.SessionTurns, "session", 0, "how many turns a unary client has in one session, 0 for a new session each turn")
	flags.DurationVar(&o.Latency, "latency", 0, "how long the model takes for a whole answer")
	flags.StringVar(&o.Out, "out", "", "`file` to write the results to, as JSON")
	flags.StringVar(&o.CPUProfile, "cpuprofile", "", "`folder` to write CPU profiles of the servers to, from runs that do not count")
	flags.BoolVar(&o.Keep, "keep", false, "replace "+kept+", without the single runs, and "+keptPeers)
	flags.BoolVar(&o.Install, "install", false, "measure nothing: install the peers in Python into the user's cache, where later runs find them")
	flags.BoolVar(&o.Docs, "docs", false, "measure nothing: put the tables of "+kept+" into "+page)
	if err := flags.Parse(args); err != nil {
		return Options{}, err
	}
	if (*short || o.Install) && o.Docs || *short && o.Install {
		return Options{}, errors.New("-quick, -install and -docs exclude each other")
	}
	if *short {
		q := quick()
		q.SessionTurns, q.Latency, q.Out, q.Keep, q.CPUProfile = o.SessionTurns, o.Latency, o.Out, o.Keep, o.CPUProfile
		o = q
	}
	if *rounds != 0 {
		o.Rounds = *rounds
	}
	if *length != 0 {
		o.Duration = *length
	}
	o.Configs, o.Peers = split(*configs), split(*beside)
	return o, o.check()
}

// split returns the names in a list that semicolons separate.
func split(list string) (names []string) {
	for name := range strings.SplitSeq(list, ";") {
		if name = strings.TrimSpace(name); name != "" {
			names = append(names, name)
		}
	}
	return names
}

func namesOf(targets []target) (names []string) {
	for _, t := range targets {
		names = append(names, t.name)
	}
	return names
}

// named returns those of targets that have the names.
func named(targets []target, names ...string) []target {
	return slices.DeleteFunc(slices.Clone(targets), func(t target) bool { return !slices.Contains(names, t.name) })
}

func (o *Options) check() error {
	for _, name := range o.Configs {
		if !slices.Contains(namesOf(others), name) {
			return fmt.Errorf("there is no configuration %q", name)
		}
	}
	for _, name := range o.Peers {
		if !slices.Contains(namesOf(peers), name) {
			return fmt.Errorf("there is no peer %q", name)
		}
	}
	if o.Rounds < 1 || o.Rounds > 100 {
		return errors.New("-rounds is 1 to 100")
	}
	if o.Duration < 0 || o.Duration > time.Minute {
		return errors.New("-duration is up to a minute")
	}
	if o.Latency < 0 || o.Latency > time.Minute || o.SessionTurns < 0 {
		return errors.New("-latency is up to a minute, -session not below 0")
	}
	return nil
}

// targets are the limit and the chosen configurations.
func (o *Options) targets() []target {
	return append([]target{limit}, named(others, o.Configs...)...)
}

// peers are the limit, the usual deployment and the chosen peers, or none.
func (o *Options) peers() []target {
	if len(o.Peers) == 0 {
		return nil
	}
	return slices.Concat([]target{limit}, named(others, usual), named(peers, o.Peers...))
}
