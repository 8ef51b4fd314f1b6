package tool

import "context"

// A Set is tools that are known only while the program runs, such as those of another
// server. It is safe for concurrent use.
type Set interface {
	// Tools returns the set's tools for the turn of ctx, which [From] describes. It is
	// called once a turn, before the model is asked, and returns soon: within seconds, and
	// when ctx ends. A set that cannot find out its tools returns one whose calls report so.
	//
	// As long as nothing has changed Tools returns the same slice, which nobody changes, so
	// that it is declared to the model as before.
	Tools(ctx context.Context) []Tool
}
