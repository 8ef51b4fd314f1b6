package api

import (
	"context"
	"fmt"
	"log/slog"
	"runtime/debug"

	"example.com/gatehouse/internal/telemetry"
)

// Panicked logs a panic with the value p, and returns the answer to the request of
// ctx, which it ended. It must be called by the function that recovers.
func Panicked(ctx context.Context, log *slog.Logger, p any) *Error {
	LogPanic(ctx, log, "A handler panicked.", fmt.Sprintf("panic: %v\n%s", p, debug.Stack()))
	telemetry.Panicked(ctx)
	return Fail(Internal, fmt.Errorf("panic: %v", p))
}

// LogPanic logs a panic of the request of ctx with its stack.
func LogPanic(ctx context.Context, log *slog.Logger, message, stack string) {
	log.LogAttrs(ctx, slog.LevelError, message, slog.String("request_id", RequestID(ctx)), slog.String("stack_trace", stack))
}
