package session_test

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"example.com/gatehouse/session"
)

// A turn is committed to the session that was loaded, and read by the next call of the
// same owner only.
func ExampleCommit() {
	ctx := context.Background()
	store := session.NewMemory(time.Hour, session.MemoryLimit, time.Now, slog.New(slog.DiscardHandler))
	key := session.Key{Owner: session.OwnerOf("api_key backend", "ada"), ID: session.NewID()}

	turn := session.Turn{ID: session.NewID(), CreatedAt: time.Now(), Contents: []byte(`[
		{"role": "user", "parts": [{"text": "Hello"}]},
		{"role": "model", "parts": [{"text": "Hi."}]}
	]`)}
	meta, err := session.Commit(ctx, store, session.New(key), turn, session.Conditions{})
	fmt.Println(meta.Turns, err)

	_, turns, err := store.Turns(ctx, key, 0, 10)
	if err != nil {
		panic(err)
	}
	stored, err := turns[0].Turn()
	if err != nil {
		panic(err)
	}
	fmt.Println(stored.Texts())

	_, err = store.Load(ctx, session.Key{Owner: session.OwnerOf("api_key backend", "bob"), ID: key.ID})
	fmt.Println(err != nil)
	// Output:
	// 1 <nil>
	// Hello Hi.
	// true
}
