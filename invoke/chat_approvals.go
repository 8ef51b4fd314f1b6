package invoke

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"reflect"
	"slices"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/caller"
	"example.com/gatehouse/internal/telemetry"
	"example.com/gatehouse/session"
)

// Approvals in the protocol of the AI SDK. A stream asks by tool-approval-request, and
// the page answers with the whole message, whose parts of tools are in the state
// approval-responded. Of that, only the answers are read; what waits, and with which
// arguments, is in the run's record.

// approvalID returns the id by which a page answers for a call of a run. It is derived and not
// stored: any instance computes it from the record, and an id that a page has of another run
// or call never matches. 18 bytes are 144 bits, and need no padding in base64.
func approvalID(run, call string) string {
	sum := sha256.Sum256([]byte("approval/" + run + "/" + call))
	return "approval_" + base64.RawURLEncoding.EncodeToString(sum[:18])
}

// A UIPending is a call that waits for a person, in the metadata of a message.
type UIPending struct {
	ApprovalID string    `json:"approval_id"`
	CallID     string    `json:"call_id"`
	Question   string    `json:"question"`
	ExpiresAt  time.Time `json:"expires_at"`
}

func uiPending(run string, pending []session.Pending) []UIPending {
	list := make([]UIPending, len(pending))
	for i, p := range pending {
		list[i] = UIPending{approvalID(run, p.CallID), p.CallID, p.Question, p.ExpiresAt}
	}
	return list
}

// A UIApproval is the approval of a part of a tool.
type UIApproval struct {
	ID       string `json:"id"`
	Approved *bool  `json:"approved,omitempty"`
	Reason   string `json:"reason,omitempty"`
}

// cannotAsk returns what a page of an SDK without approvals shows instead.
func cannotAsk(question string) string {
	return question + " This page cannot ask you: answer where your waiting requests are listed."
}

// ask shows that a call waits for the page's person. A page that cannot ask shows a text
// instead. The protocol of version 5 of the SDK has no part for it.
func (u *uiMessages) ask(b *bytes.Buffer, run string, p session.Part) error {
	if u.sdk < approvalSDK {
		return u.delta(b, "text", cannotAsk(p.Question))
	}
	if u.asked == nil {
		u.asked = map[string]bool{}
	}
	u.asked[p.ID] = true
	return appendData(b, chatApproval{"tool-approval-request", approvalID(run, p.ID), p.ID})
}

// answered shows a person's answer. Only a stream that has asked shows it: the page that
// gave it knows it. A denial is remembered, since the end of the call is then shown as
// tool-output-denied and not as the tool's failure.
func (u *uiMessages) answered(b *bytes.Buffer, run string, p session.Part) error {
	if !p.Approve && u.sdk >= approvalSDK {
		if u.denied == nil {
			u.denied = map[string]bool{}
		}
		u.denied[p.ID] = true
	}
	if !u.asked[p.ID] || u.sdk < answerSDK {
		return nil
	}
	return appendData(b, chatAnswered{"tool-approval-response", approvalID(run, p.ID), p.Approve, p.Reason})
}

// A chatAnswer is a message's answer to a call that waits.
type chatAnswer struct {
	Approval string
	Call     string
	Input    jsontext.Value // nil: none, or too much
	Approved *bool          // not nil once problem was asked
	Reason   string
}

// chatAnswers are those of a message.
type chatAnswers struct {
	field string // path of the message in the body
	list  []chatAnswer
	bytes int64 // of their inputs
	more  bool  // than there can be
}

// A step runs at most maxCalls calls, so no page has more answers; what comes beyond is not
// held.
func (as *chatAnswers) add(a chatAnswer) {
	if len(as.list) == maxCalls {
		as.more = true
		return
	}
	as.bytes += int64(len(a.Input) + len(a.Reason))
	as.list = append(as.list, a)
}

// problem returns the error of answers that no page sends, nil for none. These are 422: the
// page is wrong. An answer that only came too late is a 409, which a reload mends.
func (as *chatAnswers) problem() error {
	if as.more {
		return api.Invalid(as.field+".parts", "must hold at most 32 answers")
	}
	for _, a := range as.list {
		switch {
		case a.Approval == "" || a.Approved == nil:
			return api.Invalid(as.field+".parts", "must have the approval's id, and whether it is approved")
		case !validReason(a.Reason):
			return api.Invalid(as.field+".parts", "must have a reason of at most 2000 characters, without NUL")
		}
	}
	return nil
}

// stateResponded is the state of a part of a tool whose approval the person has answered.
const stateResponded = "approval-responded"

// readApproval reads the approval of a part of a tool into a.
func readApproval(d *jsontext.Decoder, a *chatAnswer) error {
	if d.PeekKind() != '{' {
		return d.SkipValue()
	}
	return eachMember(d, func(name string) (err error) {
		switch kind := d.PeekKind(); {
		case name == "id" && kind == '"':
			a.Approval, err = text(d)
		case name == "reason" && kind == '"':
			a.Reason, err = text(d)
		case name == "approved" && (kind == 't' || kind == 'f'):
			approved := kind == 't'
			a.Approved, err = &approved, d.SkipValue()
		default:
			err = d.SkipValue()
		}
		return err
	})
}

// readBounded reads a value of at most limit bytes; a longer one is passed over, and nil. It
// copies token by token, because the decoder would hold a value of any length to return it
// whole.
func readBounded(d *jsontext.Decoder, limit int64) (jsontext.Value, error) {
	var kept bytes.Buffer
	e := jsontext.NewEncoder(&kept, jsontext.AllowDuplicateNames(true))
	fits := true
	for depth := 0; ; {
		token, err := d.ReadToken()
		if err != nil {
			return nil, err
		}
		switch token.Kind() {
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		}
		if fits {
			if err := e.WriteToken(token); err != nil {
				return nil, err
			}
			fits = int64(kept.Len()) <= limit
		}
		if depth > 0 {
			continue
		}
		if !fits {
			return nil, nil
		}
		return bytes.TrimSpace(kept.Bytes()), nil
	}
}

// sameInput reports whether a page has the arguments of a call. Its numbers are floats. Both
// sides are decoded alike, so that an integer beyond 2^53 compares as the page's JavaScript
// has it, without its last digits.
func sameInput(input jsontext.Value, args map[string]any) bool {
	stored, err := json.Marshal(args)
	if err != nil {
		return false
	}
	var shown, waits any
	return json.Unmarshal(input, &shown) == nil && json.Unmarshal(stored, &waits) == nil && reflect.DeepEqual(shown, waits)
}

// What a page reads whose answer cannot be taken.
const (
	nothingWaits = "Nothing waits for your answer here. Reload to see the conversation."
	otherWaits   = "This is not what waits for your answer. Reload to see it."
)

// approvals returns what of given answers the calls that record waits for. An answer that
// was given before is passed over: a page sends all of a message each time. The arguments are
// compared with the record's, so that a person approves what they were shown and no page can
// put an answer under other arguments.
func approvals(record *session.Run, given []chatAnswer) ([]Approval, error) {
	step, err := stepOf(record)
	if err != nil {
		return nil, api.Fail(api.Internal, err)
	}
	run := session.RunID(record.Key.ID, record.ID)
	var list []Approval
	for _, a := range given {
		if a.Approval != approvalID(run, a.Call) {
			return nil, conflict(otherWaits)
		}
		// A single answer is not passed over: sent twice, it is a conflict whose sentence
		// explains it, since nothing else in the message could be meant.
		if before, ok := record.Answers[answerKey(step, a.Call)]; ok && before.Approve == *a.Approved && len(given) > 1 {
			continue
		}
		i := slices.IndexFunc(record.Pending, func(p session.Pending) bool { return p.CallID == a.Call })
		twice := slices.ContainsFunc(list, func(other Approval) bool { return other.CallID == a.Call })
		if twice || i >= 0 && !sameInput(a.Input, record.Pending[i].Args) {
			return nil, conflict(otherWaits)
		}
		list = append(list, Approval{CallID: a.Call, Approve: *a.Approved, Reason: a.Reason})
	}
	if len(list) == 0 {
		return nil, conflict(nothingWaits)
	}
	return list, nil
}

// answerChat handles a POST /chat whose last message is the assistant's: it answers what
// the session's last turn waits for, and the stream continues that message. If nothing waits
// it is a 409 with a sentence, and no question is asked: the message is not the user's.
func (s *Service) answerChat(ctx context.Context, w http.ResponseWriter, r *http.Request, dialect *uiMessages, id string, given []chatAnswer) error {
	key := session.Key{Owner: caller.Owner(ctx), ID: id}
	// A message may have several answers, and the audit has one action: the one that allows
	// something is named.
	action := auditDeny
	if slices.ContainsFunc(given, func(a chatAnswer) bool { return *a.Approved }) {
		action = auditApprove
	}
	telemetry.SetTurn(ctx, func(t *telemetry.Turn) { t.Session, t.Action = key.Hash(), action })
	if len(given) == 0 {
		return conflict(nothingWaits)
	}
	reading, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	current, err := s.Store.Load(reading, key)
	if err != nil && !errors.Is(err, session.ErrNotFound) {
		return storeFailure(err)
	}
	waits, ok := session.Turn{}, false
	if err == nil {
		waits, ok = waitingTurn(current)
	}
	if !ok {
		return conflict(nothingWaits)
	}
	st := newStream(w, r, dialect)
	defer st.close()
	run := runKey{key, waits.ID}
	response, err := s.answerRun(ctx, run, func(record *session.Run) ([]Approval, error) { return approvals(record, given) }, st.show)
	if err != nil || response != nil || st.started() {
		return err
	}
	// Other calls of the step still wait. The SDK expects a stream for each request, so this
	// one has a beginning and an end, without parts between.
	return s.showWaiting(ctx, run, st.show)
}

// showWaiting shows the beginning and the end of a run that still waits.
func (s *Service) showWaiting(ctx context.Context, key runKey, show func(Event) error) error {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	record, err := s.Store.LoadRun(ctx, key.session, key.id)
	if err != nil {
		return storeFailure(err)
	}
	out := &output{}
	goesOn, err := s.showEnded(ctx, key, record, out)
	if err != nil {
		return storeFailure(err)
	}
	if goesOn != nil { // somebody else has answered the other calls: a reload shows it
		out.begin(startOf(goesOn))
		out.end(outcome{response: newResponse(key.session.ID, &session.Turn{ID: key.id, Number: goesOn.Turn, FinishReason: finishWaiting}, "", nil)})
	}
	if response := out.outcome().response; response != nil {
		response.Pending = orEmpty(record.Pending)
	}
	if err := show(Event{Kind: KindStart, Run: out.id(), At: out.last(), Start: out.start}); err != nil {
		return nil // no client is left to answer
	}
	_ = s.showEnd(ctx, out, show)
	return nil
}
