// Package channel reaches Google's gRPC services, by connections that are given up
// soon after they have died without a word.
//
// A path can die silently: a NAT forgets it, a machine is gone, and what is sent is
// never answered. gRPC then fails call after call on the same connection until the
// kernel closes it, a quarter of an hour later. So connections are pinged while
// calls wait on them, and one on which nothing came while a call waited for its
// whole time is closed: the next call connects again.
package channel

import (
	"context"
	"errors"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"example.com/gatehouse/internal/loopback"
)

// pings are sent only while a call waits, after 10 s without a byte, the least that
// gRPC allows, and after a pause at once. Servers count pings that come without
// data between them and refuse the third within 5 minutes by default
// (https://github.com/grpc/proposal/blob/master/A8-client-side-keepalive.md); each
// answer begins the count again, so that calls of less than 20 s never get there.
// Google's own client of Bigtable pings as often.
var pings = keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}

// minSilence is how long a call must have waited before it was given up to judge its
// connection: less measures the caller's deadline rather than the path.
const minSilence = time.Second

// Endpoint returns the options of a client of the service at endpoint: Google's own
// when it is empty, else the host:port of a regional or private one. One on loopback
// is spoken to in plaintext and without credentials.
func Endpoint(endpoint string) ([]option.ClientOption, error) {
	var options []option.ClientOption
	for _, o := range DialOptions() {
		options = append(options, option.WithGRPCDialOption(o))
	}
	if endpoint == "" {
		return options, nil
	}
	host, port, err := net.SplitHostPort(endpoint)
	if err != nil || host == "" {
		return nil, errors.New("not of the form host:port")
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return nil, errors.New("the port is not a number from 1 to 65535")
	}
	options = append(options, option.WithEndpoint(endpoint))
	if loopback.Host(host) {
		options = append(options,
			option.WithoutAuthentication(),
			option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())))
	}
	return options, nil
}

// DialOptions returns the options of one client's connections.
func DialOptions() []grpc.DialOption {
	options := []grpc.DialOption{grpc.WithKeepaliveParams(pings)}
	if os.Getenv("HTTPS_PROXY") != "" || os.Getenv("https_proxy") != "" {
		return options // gRPC goes by the proxy only with its own dialer
	}
	w := &watch{conns: map[*conn]struct{}{}}
	return append(options, grpc.WithContextDialer(w.dial), grpc.WithChainUnaryInterceptor(w.unary), grpc.WithChainStreamInterceptor(w.stream))
}

// A watch knows a client's connections, and when something last came on each.
type watch struct {
	mu    sync.Mutex
	conns map[*conn]struct{}
}

// A conn is a connection of a channel, with the time of its last sign of life.
type conn struct {
	net.Conn
	watch *watch
	read  atomic.Int64 // when something came, or it was made; nanoseconds since 1970
}

// dial connects for gRPC, in place of the dialer that it has.
func (w *watch) dial(ctx context.Context, address string) (net.Conn, error) {
	made, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: made, watch: w}
	c.read.Store(time.Now().UnixNano())
	w.mu.Lock()
	defer w.mu.Unlock()
	w.conns[c] = struct{}{}
	return c, nil
}

// Read counts bytes of any kind as a sign of life, HTTP/2 pings among them.
func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.read.Store(time.Now().UnixNano())
	}
	return n, err
}

// Close is called by gRPC, and by judge for a connection that is silent.
func (c *conn) Close() error {
	c.watch.mu.Lock()
	delete(c.watch.conns, c)
	c.watch.mu.Unlock()
	return c.Conn.Close()
}

// judge closes the connections on which nothing came since begun, if a call that
// began then was given up with err.
func (w *watch) judge(ctx context.Context, begun time.Time, err error) {
	// gRPC's timer may fire before the context's.
	givenUp := ctx.Err() != nil || status.Code(err) == codes.DeadlineExceeded
	if err == nil || !givenUp || time.Since(begun) < minSilence {
		return
	}
	w.mu.Lock()
	var silent []*conn
	for c := range w.conns {
		if c.read.Load() < begun.UnixNano() {
			silent = append(silent, c)
		}
	}
	w.mu.Unlock()
	for _, c := range silent {
		_ = c.Close()
	}
}

// unary judges the connections after each call. It is a [grpc.UnaryClientInterceptor].
func (w *watch) unary(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	begun := time.Now()
	err := invoke(ctx, method, req, reply, cc, opts...)
	w.judge(ctx, begun, err)
	return err
}

// stream judges them after each stream. It is a [grpc.StreamClientInterceptor].
func (w *watch) stream(ctx context.Context, desc *grpc.StreamDesc, cc *grpc.ClientConn, method string, open grpc.Streamer, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	begun := time.Now()
	s, err := open(ctx, desc, cc, method, opts...)
	if err != nil {
		w.judge(ctx, begun, err)
		return nil, err
	}
	return &stream{s, w, begun}, nil
}

// A stream judges the connections when a receive fails.
type stream struct {
	grpc.ClientStream
	watch *watch
	begun time.Time
}

func (s *stream) RecvMsg(m any) error {
	err := s.ClientStream.RecvMsg(m)
	if err != nil {
		s.watch.judge(s.Context(), s.begun, err)
	}
	return err
}
