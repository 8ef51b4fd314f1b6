// Package firestore keeps sessions, the accounts of limits and the service's traffic
// in Firestore, each in a separate collection, through one client.
//
// Every write is conditional on the document that was read, or on its absence: no
// instance overwrites what another has stored. What an operation costs is part of the
// contract and counted on the wire by this package's tests:
//
//	                                  round trips  reads  writes
//	a turn on a session                    2          1      1
//	a new session's first turn             1          0      1
//	an Idempotency-Key                    +1          0     +1
//	a run's record: each second            1          0      1
//	a turn of a run that has a record     +0         +0     +1
//	deletion of a session                  3          1      1
//	update of an account, not overtaken    1          0      1
//	an instance's minute of traffic        1          0      1
//	a sum of traffic                       4         4+      0
//
// The exceptions are writes that nobody competes for, or that must win: an instance's minute of
// traffic, and the marks that a deletion leaves of records and of an owner's state.
//
// A condition is Firestore's own update time of the document (LastUpdateTime), which no
// instance's clock takes part in. It serves three ends: two writers are put in an order, a
// write that the client library has repeated after a lost response fails instead of being made
// twice, and a session and the record of its run, which are two documents, are written in one
// commit or not at all.
//
// The indexes that the queries need and the TTL policies are declared in terraform/.
package firestore

import (
	"context"
	"fmt"
	"slices"
	"time"

	"cloud.google.com/go/firestore"
	"cloud.google.com/go/firestore/apiv1/firestorepb"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"example.com/gatehouse/internal/gcp/channel"
)

// Connect makes a Firestore client that is back soon after an outage: gRPC's
// own pauses between attempts to connect grow to two minutes, in which every
// turn would fail although the service is there. With the address of an
// emulator it speaks to that, as its administrator. It does not connect before
// the first call.
//
// The caller closes the client.
func Connect(ctx context.Context, project, database, emulator string) (*firestore.Client, error) {
	// gRPC's own values are a first pause of 1 s, up to 120 s, and 20 s for an attempt
	// (https://github.com/grpc/grpc/blob/master/doc/connection-backoff.md). A call to the store
	// has 5 s.
	dial := append(channel.DialOptions(), grpc.WithConnectParams(grpc.ConnectParams{
		Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second},
		MinConnectTimeout: 5 * time.Second,
	}), grpc.WithChainUnaryInterceptor(writesWithoutDatabase), grpc.WithChainStreamInterceptor(readsWithoutDatabase))
	var options []option.ClientOption
	for _, o := range dial {
		options = append(options, option.WithGRPCDialOption(o))
	}
	if emulator != "" {
		conn, err := grpc.NewClient("passthrough:///"+emulator, append(dial,
			grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithPerRPCCredentials(administrator{}))...)
		if err != nil {
			return nil, fmt.Errorf("the emulator's address: %w", err)
		}
		// A connection that is handed in replaces all other options, those of the dial among
		// them, which is why they are passed to NewClient above.
		options = []option.ClientOption{option.WithGRPCConn(conn)}
	}
	return firestore.NewClientWithDatabase(ctx, project, database, options...)
}

// writesWithoutDatabase returns the error of a database that does not exist, which is
// NotFound like that of a missing document, as another one: the document that a commit only
// creates cannot be missing.
func writesWithoutDatabase(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
	err := invoke(ctx, method, request, reply, conn, options...)
	commit, ok := request.(*firestorepb.CommitRequest)
	if status.Code(err) != codes.NotFound || ok && slices.ContainsFunc(commit.Writes, needsDocument) {
		return err
	}
	return noDatabase(err)
}

// needsDocument reports whether a write fails if its document does not exist.
func needsDocument(w *firestorepb.Write) bool {
	condition := w.GetCurrentDocument()
	return condition.GetExists() || condition.GetUpdateTime() != nil
}

// readsWithoutDatabase is writesWithoutDatabase for reads: they return a document that does
// not exist in a message.
func readsWithoutDatabase(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, open grpc.Streamer, options ...grpc.CallOption) (grpc.ClientStream, error) {
	stream, err := open(ctx, desc, conn, method, options...)
	if err != nil {
		return nil, noDatabase(err)
	}
	return readStream{stream}, nil
}

type readStream struct{ grpc.ClientStream }

func (s readStream) RecvMsg(m any) error { return noDatabase(s.ClientStream.RecvMsg(m)) }

// noDatabase returns NotFound as codes.Internal, and any other error unchanged. The client
// would repeat a commit that is codes.Unavailable until its context ends, and then return
// that instead of the cause.
func noDatabase(err error) error {
	if status.Code(err) != codes.NotFound {
		return err
	}
	return status.Error(codes.Internal, status.Convert(err).Message())
}

// administrator is what the emulator takes for credentials that security rules
// do not bind, as those of the real service's callers are.
type administrator struct{}

func (administrator) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer owner"}, nil
}

func (administrator) RequireTransportSecurity() bool { return false }
