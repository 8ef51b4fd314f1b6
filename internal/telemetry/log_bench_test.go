package telemetry_test

import (
	"io"
	"log/slog"
	"testing"
	"time"

	"example.com/gatehouse/internal/telemetry"
)

// The line of a turn, as guard writes it.
func BenchmarkRecordLog(b *testing.B) {
	logger := telemetry.NewLogger(io.Discard, slog.LevelInfo, telemetry.Source{
		Service: "gatehouse", Version: "1", Labels: map[string]string{"environment": "production", "version": "1"},
	})
	summary := telemetry.Summary{
		Method: "POST", Path: "/invoke", UserAgent: "bench", RemoteIP: "192.0.2.1", RequestID: "TKz9tnCoUpmTGXKZ2gI_4A",
		Status: 200, Bytes: 800, Latency: 3 * time.Millisecond,
	}
	b.ReportAllocs()
	for b.Loop() {
		record := &telemetry.Record{}
		ctx := telemetry.WithRecord(b.Context(), record)
		telemetry.SetRoute(ctx, "POST /invoke")
		telemetry.Note(ctx, slog.String("principal", "qEBIRjiLmj5ZJfQbXfRO8ewIAMX_sFM6m19GqmiYYIU"))
		telemetry.SetTurn(ctx, func(t *telemetry.Turn) {
			t.Session, t.Number, t.Model, t.Attempts, t.Tokens = "b9rslBm7KU4IAj6PPLcBGSnDAj-mnQPblVUmom-pw_4", 7, "gemini-2.5-flash", 1, 250
		})
		record.Log(ctx, logger, summary)
	}
}
