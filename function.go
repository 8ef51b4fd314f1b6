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

	"example.com/gatehouse/internal/server"
)

// built is the service once the first request has made it.
var built atomic.Pointer[server.Server]

// build makes the service at the first request: importing the package, as
// tools and tests do, costs nothing.
var build = sync.OnceValue(func() *server.Server {
	s := server.New(os.LookupEnv, os.Stdout)
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
		if s := built.Load(); s != nil {
			log.SetOutput(patient{log.Writer()})
			ctx, cancel := context.WithTimeout(context.Background(), server.ShutdownTime)
			defer cancel()
			_ = s.Shutdown(ctx) // it has logged what was cut short
		}
		os.Exit(0)
	}()
})

// A patient holds back the line by which the program around this package would
// end the process as soon as the server is shut down: the buildpack's main hands
// what ListenAndServe returns to log.Fatalf. What is left to be delivered then
// has its time, and drain ends the process.
type patient struct{ io.Writer }

func (p patient) Write(line []byte) (int, error) {
	if bytes.Contains(line, []byte(http.ErrServerClosed.Error())) {
		select {}
	}
	return p.Writer.Write(line)
}
