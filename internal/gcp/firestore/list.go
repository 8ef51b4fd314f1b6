package firestore

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"strconv"
	"strings"
	"time"

	"cloud.google.com/go/firestore"

	"example.com/gatehouse/session"
)

// listSteps bounds the queries of one list.
const listSteps = 10

// list returns a page of what take makes of the documents of a query, which are ordered by a
// time in field and by their names, and the cursor of the next page. take returns false for a
// document that is passed over.
//
// So one query may fill less than a page. How many queries a call makes is bounded, and a page
// that is short for that reason has a cursor.
func list[T any](ctx context.Context, query firestore.Query, field string, limit int, cursor string, take func(*firestore.DocumentSnapshot) (T, bool, error)) (page []T, next string, err error) {
	var after position
	if cursor != "" {
		if after, err = decodePosition(cursor); err != nil {
			return nil, "", err
		}
	}
	for range listSteps {
		// One more than the page is asked for, to know whether there is a next one without
		// another query.
		step := query.Limit(limit + 1)
		if after.name != "" {
			step = step.StartAfter(after.at, after.name)
		}
		snapshots, err := step.Documents(ctx).GetAll()
		if err != nil {
			return nil, "", classify(err)
		}
		for _, snapshot := range snapshots[:min(limit, len(snapshots))] {
			item, taken, err := take(snapshot)
			if err != nil {
				return nil, "", err
			}
			if len(page) == limit {
				return page, after.encode(), nil
			}
			at, err := snapshot.DataAt(field)
			if err != nil {
				return nil, "", err
			}
			after.name = snapshot.Ref.ID
			after.at, _ = at.(time.Time)
			if taken {
				page = append(page, item)
			}
		}
		if len(snapshots) <= limit {
			return page, "", nil
		}
		if len(page) == limit {
			break
		}
	}
	return page, after.encode(), nil
}

// A position is where a page of a list ended.
type position struct {
	at   time.Time
	name string // the document's
}

func (p position) encode() string {
	return strconv.FormatInt(p.at.UnixMicro(), 36) + "." + p.name
}

// decodePosition takes what encode returns, and nothing that Firestore would refuse:
// no time beyond its own, and no name but a document's.
func decodePosition(cursor string) (position, error) {
	micros, name, ok := strings.Cut(cursor, ".")
	n, err := strconv.ParseInt(micros, 36, 64)
	if !ok || err != nil || n < 0 || n > lastMicro {
		return position{}, session.ErrCursor
	}
	// The decoder passes over line breaks.
	if hash, err := base64.RawURLEncoding.Strict().DecodeString(name); err != nil || len(hash) != sha256.Size || strings.ContainsAny(name, "\r\n") {
		return position{}, session.ErrCursor
	}
	p := position{at: time.UnixMicro(n), name: name}
	// One position has one cursor. "+1" and "01" parse as well, and reserved names would make
	// the query an error of Firestore's, which would count as an outage.
	if p.encode() != cursor || strings.HasPrefix(name, "__") && strings.HasSuffix(name, "__") {
		return position{}, session.ErrCursor
	}
	return p, nil
}

// lastMicro is the end of the year 9999, after which Firestore knows no time.
var lastMicro = time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC).UnixMicro()
