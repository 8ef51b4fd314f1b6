package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"cloud.google.com/go/firestore/apiv1/firestorepb"
	"cloud.google.com/go/secretmanager/apiv1/secretmanagerpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"

	"example.com/gatehouse/internal/gcp/emulator"
)

// slowCall is what a call of the distant services takes.
const slowCall = 20 * time.Millisecond

// standins are Google Cloud's services as far as the targets need them, in this
// process but the emulator.
type standins struct {
	sink      string // takes what is exported
	secrets   string // Secret Manager, slowCall a call
	firestore string // the emulator's address
	distant   *proxy // the same, slowCall a call
	counting  *proxy // the same, for what is counted
	closers   []func()
}

// startStandins starts what targets need.
func startStandins(targets []target) (s *standins, err error) {
	s = &standins{}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.sink, err = s.serve(grpc.NewServer(grpc.ForceServerCodecV2(raw{}), grpc.UnknownServiceHandler(swallow))); err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(targets, func(t target) bool { return t.emulator }) {
		return s, nil
	}
	secrets := grpc.NewServer()
	secretmanagerpb.RegisterSecretManagerServiceServer(secrets, keys{})
	if s.secrets, err = s.serve(secrets); err != nil {
		return nil, err
	}
	host, stop, err := emulator.Start()
	if err != nil {
		return nil, fmt.Errorf("the Firestore emulator: %w", err)
	}
	s.firestore = host
	s.closers = append(s.closers, stop)
	if s.distant, err = s.forward(slowCall); err != nil {
		return nil, err
	}
	s.counting, err = s.forward(0)
	return s, err
}

func (s *standins) close() {
	for _, c := range s.closers {
		c()
	}
}

// serve runs a server on a free port.
func (s *standins) serve(server *grpc.Server) (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	go func() { _ = server.Serve(l) }()
	s.closers = append(s.closers, server.Stop)
	return l.Addr().String(), nil
}

// environment returns t's variables for the stand-ins. A target with Firestore has a
// separate database.
func (s *standins) environment(t target) map[string]string {
	env := map[string]string{}
	if _, ok := t.env["LOGGING_ENDPOINT"]; ok {
		env["LOGGING_ENDPOINT"], env["OTEL_EXPORTER_OTLP_ENDPOINT"] = s.sink, "http://"+s.sink
	}
	if !t.emulator {
		return env
	}
	env["FIRESTORE_EMULATOR_HOST"], env["GOOGLE_CLOUD_PROJECT"] = s.firestore, "bench-"+strings.ToLower(rand.Text())
	if t.slow {
		env["FIRESTORE_EMULATOR_HOST"], env["SECRET_MANAGER_ENDPOINT"] = s.distant.address, s.secrets
	}
	return env
}

// keys is a Secret Manager with one secret.
type keys struct {
	secretmanagerpb.UnimplementedSecretManagerServiceServer
}

func (keys) AccessSecretVersion(_ context.Context, r *secretmanagerpb.AccessSecretVersionRequest) (*secretmanagerpb.AccessSecretVersionResponse, error) {
	time.Sleep(slowCall)
	sum := int64(crc32.Checksum([]byte(apiKeys), crc32.MakeTable(crc32.Castagnoli)))
	name := strings.Replace(r.Name, "latest", "1", 1)
	return &secretmanagerpb.AccessSecretVersionResponse{
		Name: name, Payload: &secretmanagerpb.SecretPayload{Data: []byte(apiKeys), DataCrc32C: &sum},
	}, nil
}

// raw passes messages on as they are.
type raw struct{}

func (raw) Name() string { return "proto" }
func (raw) Marshal(v any) (mem.BufferSlice, error) {
	return mem.BufferSlice{mem.SliceBuffer(*v.(*[]byte))}, nil
}
func (raw) Unmarshal(data mem.BufferSlice, v any) error {
	*v.(*[]byte) = data.Materialize()
	return nil
}

// swallow answers a call with an empty message, which is one of every type.
func swallow(_ any, stream grpc.ServerStream) error {
	var message []byte
	if err := stream.RecvMsg(&message); err != nil {
		return err
	}
	return stream.SendMsg(new([]byte))
}

// A proxy stands before Firestore's emulator: it counts what goes through it on
// the wire, and delays each call.
type proxy struct {
	address string
	conn    *grpc.ClientConn
	delay   time.Duration

	mu     sync.Mutex
	counts map[string]Documents // by collection
}

// Documents are what calls of Firestore did.
type Documents struct {
	Reads  float64 `json:"reads"`  // documents asked for, and 1 a query
	Writes float64 `json:"writes"` // documents written
	Trips  float64 `json:"trips"`  // calls
}

func (s *standins) forward(delay time.Duration) (*proxy, error) {
	conn, err := grpc.NewClient("passthrough:///"+s.firestore, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(raw{})))
	if err != nil {
		return nil, err
	}
	s.closers = append(s.closers, func() { _ = conn.Close() })
	p := &proxy{conn: conn, delay: delay, counts: map[string]Documents{}}
	p.address, err = s.serve(grpc.NewServer(grpc.ForceServerCodecV2(raw{}), grpc.UnknownServiceHandler(p.pass)))
	return p, err
}

// take returns what was counted since the last call.
func (p *proxy) take() map[string]Documents {
	p.mu.Lock()
	defer p.mu.Unlock()
	counts := p.counts
	p.counts = map[string]Documents{}
	return counts
}

// pass passes a call on, in both directions.
func (p *proxy) pass(_ any, incoming grpc.ServerStream) error {
	method, _ := grpc.MethodFromServerStream(incoming)
	time.Sleep(p.delay)
	ctx, cancel := context.WithCancel(incoming.Context())
	defer cancel()
	md, _ := metadata.FromIncomingContext(ctx)
	md = md.Copy()
	for _, own := range []string{":authority", "content-type", "user-agent"} {
		delete(md, own)
	}
	outgoing, err := p.conn.NewStream(metadata.NewOutgoingContext(ctx, md), &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, method)
	if err != nil {
		return err
	}
	go func() {
		for {
			var message []byte
			if incoming.RecvMsg(&message) != nil {
				_ = outgoing.CloseSend()
				return
			}
			p.count(method, message)
			if outgoing.SendMsg(&message) != nil {
				return
			}
		}
	}()
	for {
		var message []byte
		err := outgoing.RecvMsg(&message)
		if errors.Is(err, io.EOF) {
			incoming.SetTrailer(outgoing.Trailer())
			return nil
		}
		if err != nil {
			return err
		}
		if err := incoming.SendMsg(&message); err != nil {
			return err
		}
	}
}

// count takes a request's message into the counts of the collection that its
// first document is in.
func (p *proxy) count(method string, message []byte) {
	collection, n := "other", Documents{Trips: 1}
	switch method[strings.LastIndexByte(method, '/')+1:] {
	case "Commit":
		var r firestorepb.CommitRequest
		if proto.Unmarshal(message, &r) == nil {
			n.Writes = float64(len(r.Writes))
			if len(r.Writes) > 0 {
				w := r.Writes[0]
				collection = collectionOf(w.GetUpdate().GetName() + w.GetDelete() + w.GetTransform().GetDocument())
			}
		}
	case "BatchGetDocuments":
		var r firestorepb.BatchGetDocumentsRequest
		if proto.Unmarshal(message, &r) == nil && len(r.Documents) > 0 {
			n.Reads, collection = float64(len(r.Documents)), collectionOf(r.Documents[0])
		}
	case "RunQuery", "RunAggregationQuery":
		n.Reads = 1
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	sum := p.counts[collection]
	p.counts[collection] = sum.plus(n)
}

// collectionOf is the first collection of a document's name, which is
// projects/P/databases/D/documents/COLLECTION/….
func collectionOf(name string) string {
	_, path, _ := strings.Cut(name, "/documents/")
	collection, _, _ := strings.Cut(path, "/")
	return collection
}

func (d Documents) plus(e Documents) Documents {
	return Documents{d.Reads + e.Reads, d.Writes + e.Writes, d.Trips + e.Trips}
}

// each is d for one of n.
func (d Documents) each(n int) Documents {
	return Documents{d.Reads / float64(n), d.Writes / float64(n), d.Trips / float64(n)}
}
