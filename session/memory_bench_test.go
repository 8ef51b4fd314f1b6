package session_test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"example.com/gatehouse/internal/telemetry"
	"example.com/gatehouse/session"
)

// BenchmarkMemoryTurn loads a session and commits a turn in memory.
func BenchmarkMemoryTurn(b *testing.B) {
	turn := session.Turn{
		ID: "id", Model: "gemini-2.5-flash", FinishReason: "STOP", CreatedAt: time.Now(), RequestID: "id",
		Contents: json.RawMessage(`[{"parts":[{"text":"Which deployment option suits a small service, and why?"}],"role":"user"},{"parts":[{"text":"Cloud Run."}],"role":"model"}]`),
	}
	for _, turns := range []int{0, 100} {
		b.Run(fmt.Sprintf("after %d turns", turns), func(b *testing.B) {
			store := session.NewMemory(time.Hour, session.MemoryLimit, time.Now, telemetry.Discard())
			long := session.Key{Owner: session.OwnerOf("bench", ""), ID: session.NewID()}
			commit := func(s *session.Session) {
				if _, err := session.Commit(b.Context(), store, s, turn, session.Conditions{}); err != nil {
					b.Fatal(err)
				}
			}
			load := func() *session.Session {
				if turns == 0 {
					return session.New(session.Key{Owner: long.Owner, ID: session.NewID()})
				}
				s, err := store.Load(b.Context(), long)
				if err != nil {
					b.Fatal(err)
				}
				return s
			}
			commit(session.New(long))
			for range turns - 1 {
				commit(load())
			}
			b.ReportAllocs()
			for b.Loop() {
				commit(load())
			}
		})
	}
}
