package emulator

import (
	"context"

	"google.golang.org/api/option"
	"google.golang.org/grpc"
)

// Tap returns client options that call note with each message that the client sends:
// the method's full name and the message. note must be safe for concurrent use.
func Tap(note func(method string, message any)) []option.ClientOption {
	return []option.ClientOption{
		option.WithGRPCDialOption(grpc.WithChainUnaryInterceptor(
			func(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, options ...grpc.CallOption) error {
				note(method, request)
				return invoke(ctx, method, request, reply, conn, options...)
			})),
		option.WithGRPCDialOption(grpc.WithChainStreamInterceptor(
			func(ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string, open grpc.Streamer, options ...grpc.CallOption) (grpc.ClientStream, error) {
				s, err := open(ctx, desc, conn, method, options...)
				return &tapped{s, note, method}, err
			})),
	}
}

type tapped struct {
	grpc.ClientStream
	note   func(method string, message any)
	method string
}

func (s *tapped) SendMsg(message any) error {
	s.note(s.method, message)
	return s.ClientStream.SendMsg(message)
}
