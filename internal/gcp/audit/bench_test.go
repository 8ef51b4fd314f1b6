package audit_test

import (
	"io"
	"testing"

	"example.com/gatehouse/internal/gcp/audit"
	"example.com/gatehouse/internal/gcp/audit/loggingtest"
)

// The stand-in runs in the same process, so its share is in these figures.
func BenchmarkWrite(b *testing.B) {
	server := loggingtest.Start(b)
	l, err := audit.New(b.Context(), "p-1", "agent-audit", server.Addr, io.Discard)
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	entry := turn("e-1")
	l.Write(b.Context(), entry) // connects
	b.Run("one at a time", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			l.Write(b.Context(), entry)
		}
	})
	b.Run("64 at once", func(b *testing.B) {
		b.ReportAllocs()
		b.SetParallelism(32)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				l.Write(b.Context(), entry)
			}
		})
	})
}

func BenchmarkFallback(b *testing.B) {
	l, err := audit.New(b.Context(), "", audit.Off, "", struct{ io.Writer }{io.Discard})
	if err != nil {
		b.Fatal(err)
	}
	entry := turn("e-1")
	b.ReportAllocs()
	for b.Loop() {
		l.Write(b.Context(), entry)
	}
}
