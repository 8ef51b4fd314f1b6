// Package gatehouse is what is deployed: two Cloud Run functions, "invoke" and
// "health", registered with the functions framework. Google's buildpack imports
// this package for that and makes the program around it.
package gatehouse

import (
	"bytes"
	"context"
	"io"
	"log"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/GoogleCloudPlatform/functions-framework-go/functions"

	"example.com/gatehouse/internal/service"
)

// built is the service once the first request has made it.
var built atomic.Pointer[service.Service]

// build makes the service at the first request: importing the package, as
// tools and tests do, costs nothing.
var build = sync.OnceValue(func() *service.Service {
	s := service.New(os.LookupEnv, os.Stdout)
	built.Store(s)
	drain()
	return s
})

func init() {
	functions.HTTP("invoke", func(w http.ResponseWriter, r *http.Request) { build().Invoke.ServeHTTP(w, r) })
	functions.HTTP("health", func(w http.ResponseWriter, r *http.Request) { build().Health.ServeHTTP(w, r) })
	if os.Getenv("FUNCTION_TARGET") != "" { // deployed: SIGTERM may come before any request
		drain()
	}
}

// drain waits for SIGTERM, which the functions framework leaves to Go's default
// (its issues 108 and 271), and ends the process in order: what is in flight is
// answered first. A second signal changes nothing.
var drain = sync.OnceFunc(func() {
	terminate := make(chan os.Signal, 1)
	signal.Notify(terminate, syscall.SIGTERM)
	go func() {
		<-terminate
		log.SetOutput(silencer{log.Writer()})
		if s := built.Load(); s != nil {
			ctx, cancel := context.WithTimeout(context.Background(), service.ShutdownTime)
			defer cancel()
			_ = s.Shutdown(ctx) // it has logged what was cut short
		}
		os.Exit(0)
	}()
})

// A silencer is an output of the standard logger that keeps the program around
// us from ending before the drain has: the buildpack's main takes it for a
// failure that its server is closed, and would say so by log.Fatal.
type silencer struct{ next io.Writer }

var closed = []byte(http.ErrServerClosed.Error())

func (s silencer) Write(line []byte) (int, error) {
	if bytes.Contains(line, closed) {
		select {} // the drain ends the process
	}
	return s.next.Write(line)
}
