package local

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/gate"
	"example.com/gatehouse/internal/evaluate"
	"example.com/gatehouse/internal/server"
)

// Evaluate runs the evaluation that the program's arguments describe, of the agent that
// newAgent makes, and exits: with 0, with 1 where fewer cases pass than the threshold
// asks for or something failed, or with 2 after wrong usage. [Main] does the same where
// its first argument is "eval":
//
//	go run ./cmd/local eval -judge gemini-3.8-flash evals/rates.yaml
//
// The environment configures the model. Sessions are in memory; limits, audit and
// telemetry of a deployment are off.
func Evaluate(newAgent agent.NewFunc, opts ...gate.Option) { evaluateArgs(os.Args[1:], newAgent, opts) }

func evaluateArgs(args []string, newAgent agent.NewFunc, opts []gate.Option) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	o := server.Options{Agent: newAgent, Lookup: os.LookupEnv}
	for _, option := range opts {
		option(&o)
	}
	o.Store = nil // the user's own is a deployment's
	err := evaluate.Run(ctx, args, o, os.Stdout, os.Stderr)
	stop()
	switch {
	case err == nil:
		os.Exit(0)
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	}
	fmt.Fprintln(os.Stderr, "eval:", err)
	os.Exit(1)
}
