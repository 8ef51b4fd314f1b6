package middleware_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"example.com/gatehouse/internal/limit"
	"example.com/gatehouse/internal/middleware"
	"example.com/gatehouse/internal/telemetry"
)

// slowCounters are counters whose updates wait until the test lets them fail.
type slowCounters struct {
	limit.Counters
	asked, end chan struct{}
}

func newSlowCounters() *slowCounters {
	return &slowCounters{asked: make(chan struct{}, 9), end: make(chan struct{})}
}

func (c *slowCounters) Update(context.Context, string, limit.Update) (limit.Account, error) {
	c.asked <- struct{}{}
	<-c.end
	return limit.Account{}, errors.New("too late")
}

// slowly makes every request wait for its permit.
func slowly(c *slowCounters) func(*middleware.Config) {
	return func(config *middleware.Config) {
		config.Limiter = limit.New(limit.Config{Counters: c, MaxInstances: 1, Now: time.Now, Log: telemetry.Discard()})
		config.Limits = limit.Limits{PerMinute: 10, CallerPerMinute: 10}
	}
}

// A client that sends its request and closes its direction of the connection counts as
// gone. It still reads, and must not take an empty answer for a success.
func TestAClientThatClosesItsHalfWhileItWaitsForAPermit(t *testing.T) {
	t.Parallel()
	counters := newSlowCounters()
	defer close(counters.end)
	server := httptest.NewServer(newDoor(t, anybody(), slowly(counters)))
	defer server.Close()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET /private/x HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	<-counters.asked
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if body, err := io.ReadAll(answer.Body); answer.StatusCode != 499 || len(body) == 0 || err != nil {
		t.Errorf("%s %s %v, want 499 with its error", answer.Status, body, err)
	}
}

// A request that the shutdown ends while it waits for a permit has a client, which may
// send it again.
func TestTheShutdownEndsTheWaitForAPermit(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		counters := newSlowCounters()
		defer close(counters.end)
		d := newDoor(t, anybody(), slowly(counters))
		go func() {
			<-counters.asked
			d.gate.Cut()
		}()
		w := d.get(t, "/private/x")
		refused(t, w, 503, "shutting_down")
		if w.Header().Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
		if line := d.log.one(t); line["code"] != "shutting_down" {
			t.Errorf("the log has %v", line["code"])
		}
	})
}
