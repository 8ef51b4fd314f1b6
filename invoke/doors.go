package invoke

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"
	"time"

	"google.golang.org/genai"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/caller"
	"example.com/gatehouse/internal/files"
	"example.com/gatehouse/internal/telemetry"
	"example.com/gatehouse/session"
)

// What doors need beside Ask, Watch, Stop, Approve and Read.

// DecodeBody decodes the JSON body of a door's request into what into points to, passing
// over fields that it does not have. The body may be as long as some bodies of POST
// /invoke, and may bring files in base64 beside, which take of the memory for those: leave
// must be called when the request is over. leave is safe to call after an error, too.
func (s *Service) DecodeBody(w http.ResponseWriter, r *http.Request, bodies int64, into any) (leave func(), err error) {
	memory := memoryClaim{room: s.room, owner: caller.Owner(r.Context())}
	var inline int64
	if s.Files.accepted() {
		inline = api.EncodedLen(s.Files.MaxBytes) + maxURLHead
	}
	if err = api.DecodeStream(w, r, bodies*s.MaxBodyBytes+inline, s.MaxBodyBytes+inline, s.Timeout, memory.take, into); err != nil {
		memory.leave()
	}
	return memory.leave, err
}

// Queued reports whether a run can go on without a request: whether there is a queue.
func (s *Service) Queued() bool { return s.Queue != nil }

// Defers reports whether the queue can do the run of req.
func (s *Service) Defers(req Request) bool { return s.Queue != nil && s.keeps(req) }

// Begin has the queue do a run of the caller, as POST /invoke does with Prefer:
// respond-async, and returns it at once. There must be a queue. The error is an
// [*api.Error]. A key that was used before returns its run as it is, also one that is over.
func (s *Service) Begin(ctx context.Context, req Request) (RunInfo, error) {
	if err := s.checkWebhook(&req, true); err != nil {
		return RunInfo{}, err
	}
	if err := s.checkFiles(&req); err != nil {
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

// A Runner makes a run go on, to be watched or, with nil, waited for. It is called once.
type Runner func(show func(Event) error) (*Response, error)

// Asking is [Service.Ask] as a Runner.
func (s *Service) Asking(ctx context.Context, req Request) Runner {
	r := newRun(ctx)
	r.req = req
	return func(show func(Event) error) (*Response, error) {
		r.watched = show != nil
		return s.work(ctx, r, show)
	}
}

// Watching is [Service.Watch], from the start on, as a Runner.
func (s *Service) Watching(ctx context.Context, runID string) Runner {
	return func(show func(Event) error) (*Response, error) { return s.Watch(ctx, runID, "", show) }
}

// endTime is how long End waits for a run that is stopped: it ends within 1.5 s, wherever it
// is worked on, unless its process died.
const endTime = 10 * time.Second

// End stops a run of the caller and waits for what it comes to, which is nil where that
// takes longer than 10 s, or the run left nothing. The error is an [*api.Error].
func (s *Service) End(ctx context.Context, runID string) (*Response, error) {
	if err := s.Stop(ctx, runID); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, endTime)
	defer cancel()
	response, err := s.Watch(ctx, runID, "", nil)
	if err != nil {
		return nil, nil // the stop holds
	}
	return response, nil
}

// Show streams the events of a run in a dialect. A failure before the first event is
// returned, to become an ordinary error response.
func Show(w http.ResponseWriter, r *http.Request, d Dialect, run Runner) error {
	st := newStream(w, r, d)
	defer st.close()
	_, err := run(st.show)
	return err
}

// Runs returns a page of the caller's runs, the newest first, and the cursor of the next
// page, "" on the last one. The error is an [*api.Error].
func (s *Service) Runs(ctx context.Context, filter session.RunFilter, limit int, cursor string) ([]RunInfo, string, error) {
	reading, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	records, next, err := session.ListRuns(reading, s.Store, caller.Owner(ctx), filter, limit, cursor)
	switch left := disconnectError(ctx, err); {
	case err != nil && left != nil:
		return nil, "", left
	case err != nil:
		return nil, "", storeFailure(err)
	}
	runs := make([]RunInfo, 0, len(records))
	for _, record := range records {
		// So a page may be shorter than its limit, and only the cursor shows whether it is the
		// last.
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

// AttachURL adds a file to a request by what a client has in a URL's place: a data: URL, a
// gs:// address, or base64 of a file whose name has its type. field is where it is in the
// door's request.
func (s *Service) AttachURL(req *Request, field, name, url string) error {
	f := File{Name: name}
	encoded, err := []byte(url), error(nil)
	switch {
	case strings.HasPrefix(url, "gs://"):
		f.URI = url
		return s.Attach(req, field, f)
	case len(url) >= len("data:") && strings.EqualFold(url[:len("data:")], "data:"):
		f.Type, encoded, err = files.ParseDataURL(encoded)
	// The service fetches no URL that a client names: that would make it a way into the
	// network it runs in.
	case url == "" || strings.Contains(url[:min(len(url), 16)], "://"):
		return api.Invalid(field, "must bring its content as a data: URL, or name a gs:// address")
	default:
		f.Type = files.TypeOf("", name)
	}
	if err == nil {
		f.Data, err = files.Decode(encoded)
	}
	if err != nil {
		return api.Invalid(field, err.Error())
	}
	return s.Attach(req, field, f)
}

// Continue has a request that brings its history append to a session instead, if the
// questions in it, the last one included, are as many as the session's turns and one. If
// its question is the session's last one, it replaces that answer, unless the history shows
// the answer: then the same is asked again. Another request is no part of the conversation,
// such as one by which a page has a title made, or has gone another way: it stays without a
// session, and so does a first question that may not begin one. Counting questions is all
// that these protocols allow: their clients name a conversation, but neither its turns nor
// their ids. The comparison is made good at the commit, where AfterTurn is a condition, so
// that of two such requests at once only one is appended.
//
// A retry is known by its key, and goes where its first try went: by then the session may
// have that try's turn, and others after it, and the hook Question may have changed what the
// turn says. The error is an [*api.Error].
func (s *Service) Continue(ctx context.Context, req *Request, sessionID string, mayBegin bool) error {
	reading, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	owner := caller.Owner(ctx)
	current, err := s.stored(reading, session.Key{Owner: owner, ID: sessionID}, true)
	if err != nil {
		return failure(ctx, reading, err)
	}
	in, out := false, false // whether the key's first try went into the session, or stayed without one
	if req.Options.Key != "" {
		if in, err = session.HasKey(reading, s.Store, current, req.Options.Key, s.Now()); err == nil && !in {
			out, err = s.hasKeyed(reading, owner, req.Options.Key)
		}
		if err != nil {
			return failure(ctx, reading, err)
		}
	}
	last, _, err := current.Last()
	if err != nil {
		return api.Fail(api.Internal, err)
	}
	turns, questions := current.Turns, len(req.Options.History)+1
	same := turns == questions && asks(last, req)
	fits := same || turns == questions-1 && (turns > 0 || mayBegin)
	if out || !in && !fits {
		return nil
	}
	req.SessionID = sessionID
	if fits {
		req.AfterTurn = &turns
		if req.Options.Regenerate = same; same {
			shown, err := showsLast(current, last, req.Options.History)
			if err != nil {
				return api.Fail(api.Internal, err)
			}
			req.Options.Regenerate = !shown
		}
	}
	// A retry finds its own turn stored, and is the same request.
	req.Options.Create, req.Options.Sessionless, req.Options.History, req.Options.Derived = true, false, nil, true
	return nil
}

// showsLast reports whether a history ends with the session's last turn, although that has
// the question that follows on the history, too. Who asks the same again means another turn,
// and one whose client leaves out the oldest messages has as many questions as the session
// has turns. The history of who wants another answer ends with the turn before.
func showsLast(current *session.Session, last session.Turn, history []json.RawMessage) (bool, error) {
	if len(history) == 0 {
		return false, nil
	}
	question, answer := last.Texts()
	shown, text := session.Turn{Contents: history[len(history)-1]}.Texts()
	switch n := len(current.Recent); {
	case shown != question:
		return false, nil
	case n < 2: // the turn before is archived
		return text == answer, nil
	default:
		before, err := current.Recent[n-2].Turn()
		if err != nil {
			return false, err
		}
		earlier, said := before.Texts()
		return earlier != question || text == answer && text != said, nil
	}
}

// maxHidden bounds the runs that an owner hides, so that their ids fit in a state of 64
// KiB.
const maxHidden = 2_000

// Hide removes a run of the caller from what a door shows; the session keeps its turn. list
// names the state in which the owner's hidden runs are kept. The error is an [*api.Error]. Ids
// of turns are random, so that no session has to stand beside one.
func (s *Service) Hide(ctx context.Context, list, runID string) error {
	writing, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	_, turn, _ := session.SplitRunID(runID)
	full := &api.Error{Code: api.RequestTooLarge, Message: "Too many were removed. Delete sessions instead."}
	err := session.UpdateUser(writing, s.Store, caller.Owner(ctx), list, s.Now(), func(state json.RawMessage) (json.RawMessage, error) {
		ids := hiddenIn(state)
		switch {
		case slices.Contains(ids, turn):
			return state, nil
		case len(ids) >= maxHidden:
			return nil, full
		}
		return json.Marshal(append(ids, turn))
	})
	switch {
	case err == nil:
		return nil
	case errors.Is(err, full), errors.Is(err, session.ErrTooLarge):
		return full
	}
	// A caller who removes many at once, or deletes everything beside it, can cause
	// [session.ErrChanged] and [session.ErrNotFound]: they are no failure of the store.
	return storeFailure(err)
}

// Hidden reports whether a run of the caller was hidden.
func (s *Service) Hidden(ctx context.Context, list, runID string) (bool, error) {
	reading, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	user, err := s.Store.LoadUser(reading, caller.Owner(ctx))
	if err != nil {
		return false, api.Fail(api.SessionStoreUnavailable, err)
	}
	_, turn, _ := session.SplitRunID(runID)
	return slices.Contains(hiddenIn(user.Values[list]), turn), nil
}

// A list that cannot be read hides nothing, rather than failing every response of its owner.
func hiddenIn(state json.RawMessage) (ids []string) {
	_ = json.Unmarshal(state, &ids) // nothing else writes it
	return ids
}

// AppendEvent writes a server-sent event of a door's dialect; name may be "".
func AppendEvent(b *bytes.Buffer, name string, data any) error {
	if name != "" {
		b.WriteString("event: " + name + "\n")
	}
	return appendData(b, data)
}

// A Message is one of a conversation that a client brings.
type Message struct {
	User bool // or the agent
	Text string
}

// Conversation returns the question that a conversation ends with, of all the user's
// last messages, and the turns before it, for [Options.History]. Gemini wants the user
// first: the agent's messages before any question are left out. Several messages of the user in
// a row are one question, because a turn has one.
func Conversation(messages []Message) (question string, history []json.RawMessage, err error) {
	var turns [][]*genai.Content
	for _, m := range messages {
		n := len(turns)
		switch {
		case strings.ContainsRune(m.Text, 0):
			return "", nil, api.Invalid("messages", "must not contain NUL")
		case m.User && question != "":
			question += "\n\n" + m.Text
		case m.User:
			question = m.Text
		case question != "":
			turns = append(turns, []*genai.Content{genai.NewContentFromText(question, genai.RoleUser), genai.NewContentFromText(m.Text, genai.RoleModel)})
			question = ""
		case n > 0:
			turns[n-1] = append(turns[n-1], genai.NewContentFromText(m.Text, genai.RoleModel))
		}
	}
	history = make([]json.RawMessage, len(turns))
	for i, turn := range turns {
		if history[i], err = json.Marshal(turn); err != nil {
			return "", nil, err
		}
	}
	return question, history, nil
}

// Fit checks a door's request. field is where its query is. The agent's name is that of
// its model, too. A max_tokens above the service's limit becomes that: clients ask for what
// other models can write.
func (s *Service) Fit(req *Request, field string) error {
	if req.Model == s.Agent.Name {
		req.Model = ""
	}
	switch {
	case req.Model != "" && !slices.Contains(s.Models(), req.Model):
		return &api.Error{Code: api.NotFound, Message: "There is no such model.", Details: []api.Detail{{Field: "model", Issue: "is not one that this service lists"}}}
	case req.Temperature != nil && (*req.Temperature < 0 || *req.Temperature > 2):
		return api.Invalid("temperature", "must be from 0 to 2")
	case req.MaxTokens != nil && *req.MaxTokens < 1:
		return api.Invalid("max_tokens", "must be at least 1")
	case req.MaxTokens != nil:
		// A copy: the door's own request keeps what its client sent.
		limit := min(*req.MaxTokens, s.MaxOutputTokens)
		req.MaxTokens = &limit
	}
	return req.Validate(field)
}

// ApproveAll is [Service.Approve] for one answer or more, entered in one write. One write for
// all keeps a run that waits for several calls from going on between them, and the record from
// being contended for by one client.
func (s *Service) ApproveAll(ctx context.Context, runID string, answers []Approval, show func(Event) error) (*Response, error) {
	key, err := runKeyOf(ctx, runID)
	if err != nil {
		return nil, err
	}
	if len(answers) == 0 {
		return nil, api.Invalid("answers", "must hold one answer or more")
	}
	for _, a := range answers {
		if !validReason(a.Reason) {
			return nil, api.Invalid("reason", "must be a text of at most 2000 characters, without NUL")
		}
	}
	telemetry.SetTurn(ctx, func(t *telemetry.Turn) { t.Session = key.session.Hash() })
	return s.answerRun(ctx, key, func(*session.Run) ([]Approval, error) { return answers, nil }, show)
}

// Response returns the answer of a run, nil for one that has none.
func (i RunInfo) Response() *Response {
	switch result := i.Result.(type) {
	case api.Envelope:
		response, _ := result.Data.(*Response)
		return response
	case json.RawMessage:
		return decodeResponse(result)
	}
	return nil
}

// Failure returns why a run without a turn has failed.
func (i RunInfo) Failure() *api.Error {
	raw, _ := i.Result.(json.RawMessage)
	return failureOf(&session.Run{Result: raw})
}
