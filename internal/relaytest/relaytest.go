// Package relaytest is a path between a client and a server that a test can let die
// without a word: the connections stay open, and nothing comes through any more.
package relaytest

import (
	"net"
	"sync"
	"testing"
)

// A Relay forwards connections to one address. Its methods are safe for concurrent
// use.
type Relay struct {
	// Addr is where it listens, host:port on loopback.
	Addr string

	target string
	done   sync.WaitGroup

	mu    sync.Mutex
	pairs []*pair
	total int
}

type pair struct {
	client, server net.Conn
	silent         chan struct{} // closed when nothing is forwarded any more
}

// Start starts a relay to target that lives as long as the test.
func Start(t testing.TB, target string) *Relay {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("relaytest: %v", err)
	}
	r := &Relay{Addr: listener.Addr().String(), target: target}
	r.done.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			r.connect(client)
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		r.mu.Lock()
		for _, p := range r.pairs {
			_, _ = p.client.Close(), p.server.Close()
		}
		r.mu.Unlock()
		r.done.Wait()
	})
	return r
}

func (r *Relay) connect(client net.Conn) {
	server, err := net.Dial("tcp", r.target)
	if err != nil {
		_ = client.Close()
		return
	}
	p := &pair{client, server, make(chan struct{})}
	r.mu.Lock()
	r.pairs = append(r.pairs, p)
	r.total++
	r.mu.Unlock()
	r.done.Go(func() { p.forward(client, server) })
	r.done.Go(func() { p.forward(server, client) })
}

// forward copies until an end closes. Of a silent pair everything is read and
// nothing written, and neither end learns that the other has closed.
func (p *pair) forward(to, from net.Conn) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := from.Read(buffer)
		select {
		case <-p.silent:
			if err != nil {
				return
			}
			continue
		default:
		}
		if _, failed := to.Write(buffer[:n]); err != nil || failed != nil {
			_, _ = to.Close(), from.Close()
			return
		}
	}
}

// Silence lets nothing through any more on the connections there are. Those made
// from now on work.
func (r *Relay) Silence() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.pairs {
		select {
		case <-p.silent:
		default:
			close(p.silent)
		}
	}
}

// Connections is how many were made so far.
func (r *Relay) Connections() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.total
}
