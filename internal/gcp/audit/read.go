package audit

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"cloud.google.com/go/logging"
	logapi "cloud.google.com/go/logging/apiv2"
	"cloud.google.com/go/logging/apiv2/loggingpb"
	"github.com/googleapis/gax-go/v2"
	"google.golang.org/api/iterator"
	"google.golang.org/api/option"
	"google.golang.org/grpc/codes"

	"example.com/gatehouse/internal/gcp/channel"
)

// turnPrefix begins the insert ids of turns' entries.
const turnPrefix = "turn-"

// TurnID is the insert id of the entry of a stored turn, whoever writes it: the
// process that answered it, the next call on its session, or a reader of what is
// stored. The entry's time is the turn's own.
func TurnID(turn string) string { return turnPrefix + turn }

// maxTurns bounds what Turns holds in memory, about 100 bytes each.
const maxTurns = 5_000_000

// readPage is the most entries that the Logging API returns in one call.
const readPage = 1000

// Turns are the insert ids of the turns' entries since then that bucket holds,
// those among them that were printed because the API failed. bucket is a log
// bucket's name, projects/P/locations/L/buckets/B; name, endpoint and options are
// as in [New]. The API admits 60 calls a minute, of a thousand entries each:
// Turns waits when the API asks for it, until ctx ends.
func Turns(ctx context.Context, bucket, name, endpoint string, since time.Time, opts ...option.ClientOption) (map[string]bool, error) {
	options, err := channel.Endpoint(endpoint)
	if err != nil {
		return nil, fmt.Errorf("the Logging API's endpoint: %w", err)
	}
	options = slices.Concat(clientOptions, options, []option.ClientOption{option.WithScopes(logging.ReadScope)}, opts)
	client, err := logapi.NewClient(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("connecting to the Logging API: %w", err)
	}
	defer func() { _ = client.Close() }()
	client.CallOptions.ListLogEntries = []gax.CallOption{gax.WithRetry(func() gax.Retryer {
		return gax.OnCodes([]codes.Code{codes.Unavailable, codes.Internal, codes.ResourceExhausted},
			gax.Backoff{Initial: 500 * time.Millisecond, Max: 30 * time.Second, Multiplier: 2})
	})}
	entries := client.ListLogEntries(ctx, &loggingpb.ListLogEntriesRequest{
		ResourceNames: []string{bucket + "/views/_AllLogs"},
		Filter: fmt.Sprintf(`timestamp>=%q AND insertId:%q AND (log_id(%q) OR jsonPayload.audit=true)`,
			since.UTC().Format(time.RFC3339Nano), turnPrefix, name),
		OrderBy:  "timestamp asc",
		PageSize: readPage,
	})
	ids := map[string]bool{}
	for {
		entry, err := entries.Next()
		switch {
		case errors.Is(err, iterator.Done):
			return ids, nil
		case err != nil:
			return nil, fmt.Errorf("reading the log: %w", err)
		case len(ids) == maxTurns:
			return nil, fmt.Errorf("reading the log: more than %d turns; ask for a shorter time", maxTurns)
		}
		if id := entry.GetInsertId(); strings.HasPrefix(id, turnPrefix) {
			ids[id] = true
		}
	}
}
