package invoke

import (
	"context"
	"net/http"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/caller"
	"example.com/gatehouse/session"
)

// What doors need beside Ask, Watch, Stop, Approve and Read.

// DecodeBody decodes the JSON body of a door's request into what into points to, passing
// over fields that it does not have. The body may be as long as some bodies of POST
// /invoke, and may bring files in base64 beside, which take of the memory for those: leave
// must be called when the request is over.
func (s *Service) DecodeBody(w http.ResponseWriter, r *http.Request, bodies int64, into any) (leave func(), err error) {
	memory := memoryClaim{room: s.room, owner: caller.Owner(r.Context())}
	var files int64
	if s.Files.accepted() {
		files = api.EncodedLen(s.Files.MaxBytes) + maxURLHead
	}
	if err = api.DecodeStream(w, r, bodies*s.MaxBodyBytes+files, s.MaxBodyBytes+files, s.Timeout, memory.take, into); err != nil {
		memory.leave()
	}
	return memory.leave, err
}

// Queued reports whether a run can go on without a request: whether there is a queue.
func (s *Service) Queued() bool { return s.Queue != nil }

// Begin has the queue do a run of the caller, as POST /invoke does with Prefer:
// respond-async, and returns it at once. There must be a queue. The error is an
// [*api.Error].
func (s *Service) Begin(ctx context.Context, req Request) (RunInfo, error) {
	if err := s.checkWebhook(req, true); err != nil {
		return RunInfo{}, err
	}
	if err := checkFiles(req); err != nil {
		return RunInfo{}, err
	}
	limited, cancel := context.WithTimeout(ctx, s.Timeout)
	defer cancel()
	record, replayed, err := s.begin(limited, req)
	switch {
	case err != nil:
		return RunInfo{}, failure(ctx, limited, err)
	case replayed:
		return s.Read(ctx, session.RunID(record.Key.ID, record.ID))
	}
	return s.runInfo(record), nil
}

// Show streams the events that run shows in a dialect. A failure before the first event
// is returned, to become an ordinary error response.
func Show(w http.ResponseWriter, r *http.Request, d Dialect, run func(show func(Event) error) error) error {
	st := newStream(w, r, d)
	defer st.close()
	return run(st.show)
}

// Runs returns a page of the caller's runs, the newest first, and the cursor of the next
// page, "" on the last one. The error is an [*api.Error].
func (s *Service) Runs(ctx context.Context, filter session.RunFilter, limit int, cursor string) ([]RunInfo, string, error) {
	reading, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	records, next, err := s.Store.ListRuns(reading, caller.Owner(ctx), filter, limit, cursor)
	switch left := disconnectError(ctx, err); {
	case err != nil && left != nil:
		return nil, "", left
	case err != nil:
		return nil, "", storeFailure(err)
	}
	runs := make([]RunInfo, 0, len(records))
	for _, record := range records {
		if record.Request == nil {
			continue // a stop wrote it, and the run never met it
		}
		info := s.runInfo(record)
		if filter.State == "" || filter.State == info.State { // the time to approve may be over
			runs = append(runs, info)
		}
	}
	return runs, next, nil
}
