package mcptool

import (
	"sync"
	"testing"
	"time"
)

// Each listing has its patience: a caller that comes while one ends
// neither shares the time of that one nor leaves it to the next.
func TestEachListingHasItsPatience(t *testing.T) {
	t.Parallel()
	set, err := HTTP("far", "http://127.0.0.1:1/mcp")
	if err != nil {
		t.Fatal(err)
	}
	l := &link{set: set, closed: true} // so that asking fails at once
	for range 50 {
		var turns sync.WaitGroup
		for range 16 {
			turns.Go(func() { l.list(t.Context()) })
		}
		turns.Wait()
		for end := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
			l.mu.Lock()
			asking := l.asking != nil
			l.mu.Unlock()
			if !asking {
				break
			}
			if time.Now().After(end) {
				t.Fatal("a listing that is over still counts its time")
			}
		}
	}
}
