package session

import (
	"context"
	"errors"
	"fmt"
)

// Rename gives a session another title, in one conditional write, which it makes again
// if the session changes in between. It moves neither the session's place in a list nor
// its expiry. The error is [ErrNotFound] if there is no session under key.
func Rename(ctx context.Context, store Store, key Key, title string) error {
	for range commitTries {
		current, err := store.Load(ctx, key)
		if err != nil {
			return err
		}
		if !current.Exists() {
			return fmt.Errorf("renaming a session: %w", ErrNotFound)
		}
		if current.Title == title {
			return nil
		}
		if _, err = store.Apply(ctx, current, Change{Title: title}); !errors.Is(err, ErrChanged) {
			return err
		}
	}
	return fmt.Errorf("renaming a session, %d times: %w", commitTries, ErrChanged)
}
