// Package local runs an agent on a laptop as it is deployed: both functions on one
// port of this machine, through the functions framework, with the playground, a log
// for people, and, where no model is configured, a stand-in for Gemini that needs no
// network. Nothing of it is linked into what is deployed. A whole program is
//
//	func main() { local.Main(advisor.New) }
package local

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/GoogleCloudPlatform/functions-framework-go/funcframework"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/config"
	"example.com/gatehouse/gate"
	"example.com/gatehouse/internal/offline"
	"example.com/gatehouse/internal/server"
)

// Main serves the agent that newAgent makes, with the options that the deployment
// has, until the program is interrupted, and then exits: with 0, or with 1 and a line
// on standard error where it could not serve. The environment configures it as it does
// a deployment; PORT is 8080 unless set, and 0 takes any free port. With the flag
// -firestore it keeps sessions in Firestore's emulator, which it starts. Where the first
// argument is "eval" it does what [Evaluate] does.
func Main(newAgent agent.NewFunc, opts ...gate.Option) {
	if len(os.Args) > 1 && os.Args[1] == "eval" {
		evaluateArgs(os.Args[2:], newAgent, opts)
	}
	withFirestore := flag.Bool("firestore", false, "keep sessions in Firestore's emulator, which is started here, and over restarts in "+firestoreDir)
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, newAgent, *withFirestore, opts)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// run serves until ctx ends, withFirestore from its own emulator.
func run(ctx context.Context, newAgent agent.NewFunc, withFirestore bool, opts []gate.Option) (failed error) {
	if newAgent == nil {
		return errors.New("local.Main needs a function that makes the agent")
	}
	o := server.Options{
		Agent: newAgent, Lookup: os.LookupEnv, Log: os.Stdout, Loopback: true, LocalQueue: true,
		StandIn: &server.StandIn{Model: offline.Model, Transport: offline.New()},
	}
	if isTerminal(os.Stdout) {
		o.Log = &readable{out: os.Stdout, color: os.Getenv("NO_COLOR") == ""}
	}
	for _, option := range opts {
		option(&o)
	}
	kept := ""
	if withFirestore && o.Store != nil {
		return errors.New("-firestore keeps sessions in Firestore's emulator, and gate.Store has them elsewhere; use one of them")
	}
	if withFirestore {
		store, err := startFirestore(ctx, o.Lookup, firestoreDir, os.Stderr)
		if err != nil {
			return unlessEnded(ctx, err)
		}
		defer func() { failed = errors.Join(failed, store.close(context.WithoutCancel(ctx))) }()
		o.Lookup, kept = store.environment(o.Lookup), store.dir
	}
	s := server.New(o)
	s.LogLibraries()
	if err := s.Ready(ctx); err != nil {
		return unlessEnded(ctx, err)
	}
	port, err := choosePort(s.Config.Port)
	if err != nil {
		return err
	}
	// The agent's own package registers for the deployment. With a target that has
	// another name the framework serves this handler only.
	if err := os.Setenv("FUNCTION_TARGET", "gate/local"); err != nil {
		return err
	}
	if err := funcframework.RegisterHTTPFunctionContext(ctx, "/", s.Both.ServeHTTP); err != nil {
		return fmt.Errorf("registering with the functions framework: %w", err)
	}
	served := make(chan error, 1)
	go func() { served <- funcframework.StartHostPort("127.0.0.1", strconv.Itoa(port)) }()
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	if err := await(ctx, address, served); err != nil {
		return unlessEnded(ctx, err)
	}
	greet(s, "http://"+address, kept)
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	fmt.Println("\nEnding: waiting for turns in flight.")
	ending, cancel := context.WithTimeout(context.Background(), server.ShutdownTime)
	defer cancel()
	_ = s.Shutdown(ending) // it has logged what was cut short
	return nil
}

// unlessEnded is err, or nil when ctx has ended: whoever ends the program while it
// starts has not been failed.
func unlessEnded(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// choosePort is port, if it is free, or any free one for 0.
func choosePort(port int) (int, error) {
	l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if errors.Is(err, syscall.EADDRINUSE) {
		return 0, fmt.Errorf("port %d is in use by another program; choose one with PORT, for example: PORT=%d go run ./cmd/local (0 takes any free one)", port, (port+1)%65536)
	}
	if err != nil {
		return 0, err
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// await returns once something listens at address, or why nothing does. The
// framework opens the port itself and does not report when it has.
func await(ctx context.Context, address string, served <-chan error) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for {
		var dialer net.Dialer
		conn, err := dialer.DialContext(ctx, "tcp", address)
		if err == nil {
			return conn.Close()
		}
		select {
		case err := <-served:
			return err
		case <-ctx.Done():
			return fmt.Errorf("the server did not start: %w", ctx.Err())
		case <-poll.C:
		}
	}
}

// greet prints where the service is, what it runs on, and what to try.
func greet(s *server.Server, address, kept string) {
	question := "Hello!"
	if examples := s.Agent().Examples; len(examples) > 0 {
		question = examples[0]
	}
	body, err := json.Marshal(map[string]string{"query": question})
	if err != nil {
		panic(err) // a string always encodes
	}
	model := s.Config.Model
	if s.Config.Offline() {
		model = "the offline stand-in (set GEMINI_API_KEY for Gemini)"
	}
	store := s.StoreName()
	switch {
	case kept != "":
		store = "Firestore's emulator (kept in " + kept + ")"
	case store == "memory":
		store = "memory (forgotten at the end)"
	}
	page := ""
	if s.Config.Playground {
		page = "\nOpen " + address + "/ in a browser to talk to the agent.\n"
	}
	credential := ""
	switch {
	case s.Config.HasAuth(config.AuthNone):
	case s.Config.HasAuth(config.AuthAPIKey):
		credential = ` -H "X-API-Key: $GATEHOUSE_API_KEY"`
	default:
		credential = ` -H "Authorization: Bearer $GATEHOUSE_TOKEN"`
	}
	fmt.Printf(`
Gatehouse is ready at %[1]s
  model     %[2]s
  sessions  %[3]s
%[4]s
Try:
  curl -s %[1]s/invoke -H 'Content-Type: application/json'%[6]s -d '%[5]s'

Ctrl-C ends it.
`, address, model, store, page, strings.ReplaceAll(string(body), "'", `'\''`), credential)
}
