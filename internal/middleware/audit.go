package middleware

import (
	"cmp"
	"context"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/drain"
	"example.com/gatehouse/internal/gcp/audit"
)

// An Audit keeps who did what to which session, and whom the service refused.
// It is safe for concurrent use.
type Audit struct {
	log   *audit.Log
	named bool
	// written are the insert ids of entries that this process has delivered.
	written  *recentSet
	refusals refusals
}

// auditCacheSize is the number of recent turns that are known to be audited, at least; at
// most they are twice as many. The entry of an older one is written again with the same id
// and time, which is shown as one.
const auditCacheSize = 8192

// A recentSet holds the latest texts that were added to it, as hashes: nothing in it is for
// the garbage collector to look at, which an LRU cache of strings would be at each of its
// cycles. It is safe for concurrent use.
type recentSet struct {
	seed maphash.Seed

	mu            sync.Mutex
	last, earlier map[uint64]struct{} // of up to auditCacheSize each
}

func newRecentSet() *recentSet {
	return &recentSet{seed: maphash.MakeSeed(), last: map[uint64]struct{}{}, earlier: map[uint64]struct{}{}}
}

func (s *recentSet) add(text string) {
	hash := maphash.String(s.seed, text)
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.last) == auditCacheSize {
		s.last, s.earlier = s.earlier, s.last
		clear(s.last)
	}
	s.last[hash] = struct{}{}
}

func (s *recentSet) contains(text string) bool {
	hash := maphash.String(s.seed, text)
	s.mu.Lock()
	defer s.mu.Unlock()
	_, last := s.last[hash]
	_, earlier := s.earlier[hash]
	return last || earlier
}

// NewAudit writes to log. Callers are hashed in it, as in the log of requests,
// unless named asks for their names: of an API key, an e-mail address, or the
// subject of a token.
func NewAudit(log *audit.Log, named bool) *Audit {
	return &Audit{log: log, named: named, written: newRecentSet()}
}

// Close writes how many entries were left out and closes the log.
func (a *Audit) Close() error {
	if entry, ok := a.refusals.leftOut(time.Time{}); ok {
		a.log.Write(context.Background(), entry) // it has a bound
	}
	return a.log.Close()
}

const (
	// refusalsPerMinute is how many refusals an instance writes a minute of a caller, and of
	// all strangers. An entry costs its delivery and its storage, and who is refused has no
	// other limit. The log has a line for each.
	refusalsPerMinute = 60
	// maxRefused is of how many callers an instance writes refusals in a minute.
	maxRefused = 4096
)

// refusals bounds the entries of refused requests, and counts those left out. The zero value
// is ready. It is safe for concurrent use.
type refusals struct {
	left atomic.Int64 // beyond those that were written; usually none, and nothing locks

	mu      sync.Mutex
	minute  int64
	written map[string]int // by principal, "" of strangers
}

// admit reports whether one more of a principal is written; otherwise it is counted.
func (r *refusals) admit(principal string, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if minute := now.Unix() / 60; minute != r.minute {
		r.minute, r.written = minute, map[string]int{}
	}
	n, known := r.written[principal]
	if n == refusalsPerMinute || !known && len(r.written) == maxRefused {
		r.left.Add(1)
		return false
	}
	r.written[principal]++
	return true
}

// leftOut returns the entry of those that were left out, once, when their minute is over;
// the zero time, which is in no such minute, is the end of the process.
func (r *refusals) leftOut(now time.Time) (audit.Entry, bool) {
	if r.left.Load() == 0 {
		return audit.Entry{}, false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Unix()/60 == r.minute {
		return audit.Entry{}, false
	}
	left := r.left.Swap(0)
	return audit.Entry{Action: refusalsLeftOut, Outcome: string(api.RateLimited), Count: left}, left > 0
}

// shutdownGrace is how much longer the Logging API may take once the shutdown has cut
// requests off. An entry that it has not taken by then is on stdout.
const shutdownGrace = 250 * time.Millisecond

// write delivers entries, and those of turns that a process which died has left
// without one.
func (a *Audit) write(ctx context.Context, entries []audit.Entry) {
	a.log.Write(drain.Detach(ctx, shutdownGrace), entries...)
	for _, e := range entries {
		if e.ID != "" {
			a.written.add(e.ID)
		}
	}
}

// The actions that do not come from the request's route.
const (
	credentialRefused = "credential.refused"
	anyRequest        = "request"
	turnReplay        = "session.replay"
	refusalsLeftOut   = "refusal.left_out"
)

// auditEntries appends what the audit keeps of a request to entries, and what it keeps of
// those before it that it could not keep.
func (m *middleware) auditEntries(ctx context.Context, entries []audit.Entry, state *requestState, status int) []audit.Entry {
	if m.Audit == nil {
		return entries
	}
	leftOut, some := m.Audit.refusals.leftOut(time.Now()) // before this one begins another minute
	entries = m.requestEntries(ctx, entries, state, status)
	if some {
		entries = append(entries, leftOut)
	}
	return entries
}

// requestEntries appends what the audit keeps of a request: what was done to sessions, and
// what was refused for who asked or how often.
func (m *middleware) requestEntries(ctx context.Context, entries []audit.Entry, state *requestState, status int) []audit.Entry {
	record := state.record
	code, turn := record.Code(), record.Turn()
	action := cmp.Or(turn.Action, state.action)
	known := state.authenticated || state.caller.Principal.Subject != ""
	refused := !known
	switch code {
	case api.Unauthenticated:
		action = credentialRefused
	case api.PermissionDenied, api.OriginNotAllowed, api.RateLimited, api.QuotaExceeded:
		action, refused = cmp.Or(action, anyRequest), turn.ID == "" // one that has a turn keeps its entry
	default:
		switch {
		case !known:
			action = "" // anybody could fill the log
		case !state.authenticated, code == api.NotAcceptable, code == api.Overloaded:
			// Refused for X-End-User or for what it accepts, or for want of a place.
			action, refused = cmp.Or(action, anyRequest), true
		}
	}
	principal := m.Audit.principal(state)
	if action == "" || refused && !m.Audit.refusals.admit(principal, time.Now()) {
		return entries
	}
	entry := audit.Entry{
		Action: action, Outcome: cmp.Or(string(code), turn.Outcome, audit.OK),
		Principal: principal, EndUser: m.Audit.endUser(state),
		Session: turn.Session, Turn: turn.Number, Model: turn.Model, Agent: turn.Agent, Tokens: turn.Tokens, CostUSD: turn.CostUSD,
		Calls: turn.Calls, Status: status, RequestID: state.id,
	}
	trace, _ := m.Observer.Trace(ctx)
	entry.Trace, entry.SpanID, entry.TraceSampled = trace.Name, trace.SpanID, trace.Sampled
	if turn.Replayed {
		entry.Action = turnReplay
	}
	if earlier, ok := record.Earlier(); ok && !m.Audit.written.contains(audit.TurnID(earlier.ID)) {
		// Its process may have died before it could write this, as far as can be
		// known here. A second entry with the same id and time is shown as one.
		entries = append(entries, audit.Entry{
			ID: audit.TurnID(earlier.ID), Time: earlier.At, Action: api.AuditTurn, Outcome: audit.OK,
			Principal: entry.Principal, EndUser: entry.EndUser, Session: earlier.Session, Turn: earlier.Number, Model: earlier.Model, Agent: earlier.Agent,
			Tokens: earlier.Tokens, CostUSD: earlier.CostUSD, Status: 200, RequestID: earlier.Request,
		})
	}
	if turn.ID != "" {
		if code == api.ClientClosedRequest { // what it had read is stored
			entry.Outcome, entry.Status = audit.OK, 200
		}
		if entry.Action == api.AuditRunRead { // it has finished what another instance left
			entry.Action = api.AuditTurn
		}
		entry.ID, entry.Time = audit.TurnID(turn.ID), turn.At
	}
	return append(entries, entry)
}

// principal is how the audit calls the caller: the same hash as in the log of
// requests, or its name.
func (a *Audit) principal(state *requestState) string {
	p := state.caller.Principal
	switch {
	case p.Subject == "": // nobody was verified
		return ""
	case a.named:
		return cmp.Or(p.Email, p.Subject)
	}
	return string(state.caller.Whole())
}

// endUser is how the audit calls whom the caller speaks for.
func (a *Audit) endUser(state *requestState) string {
	if a.named || state.caller.EndUser == "" {
		return state.caller.EndUser
	}
	return string(state.caller.Owner)
}
