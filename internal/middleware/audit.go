package middleware

import (
	"cmp"
	"context"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/drain"
	"example.com/gatehouse/internal/gcp/audit"
)

// An Audit keeps who did what to which session, and whom the service refused.
// It is safe for concurrent use.
type Audit struct {
	log   *audit.Log
	named bool
	// written are the turns whose entry this process has delivered.
	written *lru.Cache[string, struct{}]
}

// auditCacheSize is the number of recent turns known to be audited. The entry of a
// turn beyond it is written twice with one id and time, which is shown as one.
const auditCacheSize = 8192

// NewAudit writes to log. Callers are hashed in it, as in the log of requests,
// unless named asks for their names: of an API key, an e-mail address, or the
// subject of a token.
func NewAudit(log *audit.Log, named bool) *Audit {
	written, _ := lru.New[string, struct{}](auditCacheSize) // fails only for no size
	return &Audit{log: log, named: named, written: written}
}

// shutdownGrace is how much longer the Logging API may take once the shutdown has cut
// requests off. An entry that it has not taken by then is on stdout.
const shutdownGrace = 250 * time.Millisecond

// write delivers entries, and those of turns that a process which died has left
// without one.
func (a *Audit) write(ctx context.Context, entries []audit.Entry) {
	ctx, cancel := drain.Detach(ctx, shutdownGrace)
	defer cancel()
	a.log.Write(ctx, entries...)
	for _, e := range entries {
		if e.ID != "" {
			a.written.Add(e.ID, struct{}{})
		}
	}
}

// The actions that do not come from the request's route.
const (
	credentialRefused = "credential.refused"
	anyRequest        = "request"
	turnReplay        = "session.replay"
)

// auditEntries returns what the audit keeps of a request: what was done to sessions,
// and what was refused for who asked or how often.
func (m *middleware) auditEntries(ctx context.Context, state *requestState, status int) []audit.Entry {
	record := state.record
	code, turn := record.Code(), record.Turn()
	if m.Audit == nil {
		return nil
	}
	action := cmp.Or(turn.Action, state.action)
	known := state.authenticated || state.caller.Principal.Subject != ""
	switch code {
	case api.Unauthenticated:
		action = credentialRefused
	case api.PermissionDenied, api.OriginNotAllowed, api.RateLimited, api.QuotaExceeded:
		action = cmp.Or(action, anyRequest)
	default:
		switch {
		case !known:
			action = "" // anybody could fill the log
		case !state.authenticated, code == api.NotAcceptable, code == api.Overloaded:
			// Refused for X-End-User or for what it accepts, or for want of a place.
			action = cmp.Or(action, anyRequest)
		}
	}
	if action == "" {
		return nil
	}
	entry := audit.Entry{
		Action: action, Outcome: cmp.Or(string(code), turn.Outcome, audit.OK),
		Principal: m.Audit.principal(state), EndUser: m.Audit.endUser(state),
		Session: turn.Session, Turn: turn.Number, Model: turn.Model, Agent: turn.Agent, Tokens: turn.Tokens, CostUSD: turn.CostUSD,
		Calls: turn.Calls, Status: status, RequestID: api.RequestID(ctx),
	}
	if trace, ok := m.Observer.Trace(ctx); ok {
		entry.Trace, entry.SpanID, entry.TraceSampled = trace.Name, trace.SpanID, trace.Sampled
	}
	if turn.Replayed {
		entry.Action = turnReplay
	}
	var entries []audit.Entry
	if earlier, ok := record.Earlier(); ok && !m.Audit.written.Contains(audit.TurnID(earlier.ID)) {
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
	return string(p.Owner())
}

// endUser is how the audit calls whom the caller speaks for.
func (a *Audit) endUser(state *requestState) string {
	if a.named || state.caller.EndUser == "" {
		return state.caller.EndUser
	}
	return string(state.caller.Owner)
}
