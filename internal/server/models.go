package server

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"example.com/gatehouse/internal/models"
)

// takeTable puts a newer table of models to use. One that has not proved itself
// leaves the one in use, and is no reason to stop answering: the log has it.
func (s *Server) takeTable(ctx context.Context, l *secrets, payload string) error {
	err := s.tables.Offer([]byte(payload), s.askable())
	if err == nil {
		l.rejected.Store(nil)
		s.Log.InfoContext(ctx, "A newer table of models is in use.", "table", s.tables.Table().Date.String())
		return nil
	}
	if errors.Is(err, models.ErrSuperseded) {
		l.rejected.Store(nil)
		s.Log.InfoContext(ctx, "The built-in table of models is as new as the one of MODELS_TABLE_SECRET.", "table", s.tables.Table().Date.String())
		return nil
	}
	l.rejected.Store(&err)
	s.Log.WarnContext(ctx, "The table of models was rejected; the one in use stays.",
		"error", err.Error(), "table", s.tables.Table().Date.String())
	return nil
}

// endings watches for models that end. It is safe for concurrent use. A day's lines are
// logged by whoever asks first, once an instance: health is pinged every minute, and 1440
// lines about one date would hide the first.
type endings struct {
	tables *models.Live
	names  []string
	log    *slog.Logger

	mu     sync.Mutex
	logged string // the UTC day of the last lines
}

// warnings returns a sentence for each model that ends soon or has ended, and once
// a day logs them. A date takes no service away: only the API's own word does.
func (e *endings) warnings(ctx context.Context, now time.Time) []string {
	all := e.tables.Table().Endings(e.names, now, models.NearEnd)
	day := now.UTC().Format(time.DateOnly)
	e.mu.Lock()
	due := e.logged != day
	e.logged = day
	e.mu.Unlock()
	var sentences []string
	for _, ending := range all {
		sentences = append(sentences, ending.String())
		if !due {
			continue
		}
		message := "Model is near its end date."
		if ending.Passed {
			message = "Model has passed its end date."
		}
		e.log.WarnContext(ctx, message, "model", ending.Model, "ends", ending.Ends.String(), "successor", ending.Successor)
	}
	return sentences
}
