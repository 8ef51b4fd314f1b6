package a2a

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"iter"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/a2aproject/a2a-go/v2/a2a"
	"github.com/a2aproject/a2a-go/v2/a2asrv"

	"example.com/gatehouse/internal/a2awire"
	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/telemetry"
	"example.com/gatehouse/invoke"
	"example.com/gatehouse/session"
)

const (
	answerID  = "answer"                                   // of a task's artifact
	pushField = "configuration.taskPushNotificationConfig" // of a message
)

// A call is one request, and the SDK's handler of it.
type call struct {
	*door
	request *http.Request
	control *http.ResponseController
	header  http.Header    // of the answer
	working sync.WaitGroup // streams that the SDK may have left
}

var _ a2asrv.RequestHandler = (*call)(nil)

// SendMessage implements [a2asrv.RequestHandler]: a turn, whose task is over, or has begun
// for who does not wait.
func (c *call) SendMessage(_ context.Context, sent *a2a.SendMessageRequest) (a2a.SendMessageResult, error) {
	ctx := c.request.Context()
	run, id, err := c.run(ctx, sent)
	if err != nil {
		return nil, c.failed(err)
	}
	if id != "" && sent.Config.ReturnImmediately {
		return c.GetTask(ctx, &a2a.GetTaskRequest{ID: a2a.TaskID(id)})
	}
	response, err := run(nil)
	switch {
	case err != nil:
		return nil, c.failed(err)
	case response != nil:
		response.SetHeader(c.header)
		return c.task(answerOf(response), time.Now()), nil
	}
	return c.GetTask(ctx, &a2a.GetTaskRequest{ID: sent.Message.TaskID}) // it waits for more answers
}

// audit sets what the audit calls the request, unless it is known by now: a message's last
// step is to get its task.
func (c *call) audit(action string) {
	telemetry.SetTurn(c.request.Context(), func(t *telemetry.Turn) { t.Action = cmp.Or(t.Action, action) })
}

var errLeft = errors.New("the client has left")

// SendStreamingMessage implements [a2asrv.RequestHandler]: a turn, as it happens.
func (c *call) SendStreamingMessage(_ context.Context, sent *a2a.SendMessageRequest) iter.Seq2[a2a.Event, error] {
	return c.stream(func(show func(invoke.Event) error) (*invoke.Response, error) {
		run, _, err := c.run(c.request.Context(), sent)
		if err != nil {
			return nil, err
		}
		return run(show)
	})
}

// run returns the run that a message asks for. Its id is "" unless it has begun in the
// queue, where those go that are not waited for or whose end is pushed.
func (c *call) run(ctx context.Context, sent *a2a.SendMessageRequest) (invoke.Runner, string, error) {
	telemetry.SetTurn(ctx, func(t *telemetry.Turn) { t.Action = api.AuditTurn })
	if sent.Message != nil && sent.Message.TaskID != "" {
		answers, err := c.answers(ctx, sent.Message)
		if err == nil && sent.Config != nil && sent.Config.PushConfig != nil {
			_, err = c.setPush(ctx, sent.Message.TaskID, sent.Config.PushConfig, pushField)
		}
		return func(show func(invoke.Event) error) (*invoke.Response, error) {
			if show == nil && (sent.Config == nil || !sent.Config.ReturnImmediately) {
				show = func(invoke.Event) error { return nil } // watched, it goes on here and not in the queue
			}
			return c.Invoke.ApproveAll(ctx, string(sent.Message.TaskID), answers, show)
		}, "", err
	}
	req, err := c.turn(sent)
	switch config := sent.Config; {
	case err != nil:
		return nil, "", err
	case config == nil || config.PushConfig == nil && (!config.ReturnImmediately || !c.Invoke.Defers(req)):
		return c.Invoke.Asking(ctx, req), "", nil
	case config.PushConfig != nil:
		if err := c.checkPush(config.PushConfig, pushField); err != nil {
			return nil, "", err
		}
		req.Webhook, req.Options.WebhookID = config.PushConfig.URL, config.PushConfig.ID
	}
	info, err := c.Invoke.Begin(ctx, req)
	return c.Invoke.Watching(ctx, info.RunID), info.RunID, err
}

// answers returns a message's answers to what its task waits for: data parts with call_id,
// approve and reason, or one text that approves or denies all.
func (c *call) answers(ctx context.Context, m *a2a.Message) (answers []invoke.Approval, err error) {
	info, err := c.Invoke.Read(ctx, string(m.TaskID))
	if err != nil {
		return nil, unknownTask(err)
	}
	refused := api.Fail(api.SessionConflict, nil)
	if refused.Message = "This task is over. Send another message in the same conversation."; info.State != session.Waiting {
		refused.Details = []api.Detail{{Field: "message.taskId", Issue: "names a task that waits for nothing: leave it out, with the same contextId"}}
		return nil, refused
	}
	for _, p := range m.Parts {
		encoded, _ := json.Marshal(p.Data()) // of a value that came as JSON
		a := invoke.Approval{}
		if p.Data() != nil && json.Unmarshal(encoded, &a) == nil && a.CallID != "" {
			answers = append(answers, a)
		}
		word := strings.ToLower(strings.Trim(p.Text(), " .!\n"))
		if yes := word == "approve" || word == "yes"; yes || word == "deny" || word == "no" {
			for _, pending := range info.Pending {
				answers = append(answers, invoke.Approval{CallID: pending.CallID, Approve: yes})
			}
		}
	}
	if len(answers) == 0 {
		refused.Message = "This task waits for an answer. Say approve or deny."
		return nil, refused
	}
	return answers, nil
}

// SubscribeToTask implements [a2asrv.RequestHandler]: a task from its beginning, wherever
// it is worked on.
func (c *call) SubscribeToTask(_ context.Context, sent *a2a.SubscribeToTaskRequest) iter.Seq2[a2a.Event, error] {
	c.audit(api.AuditRunRead)
	return c.stream(func(show func(invoke.Event) error) (*invoke.Response, error) {
		response, err := c.Invoke.Watch(c.request.Context(), string(sent.ID), "", show)
		return response, unknownTask(err)
	})
}

// stream returns the events of a run.
func (c *call) stream(run invoke.Runner) iter.Seq2[a2a.Event, error] {
	return func(yield func(a2a.Event, error) bool) {
		c.working.Add(1)
		defer c.working.Done()
		s := &stream{call: c}
		left := false
		_, err := run(func(e invoke.Event) error {
			for _, event := range s.events(e) {
				if left = left || !yield(event, nil); left {
					return errLeft
				}
			}
			return nil
		})
		if err != nil && !left {
			yield(nil, c.failed(err))
		}
	}
}

// turn returns the turn that a message asks for.
func (c *call) turn(sent *a2a.SendMessageRequest) (req invoke.Request, err error) {
	if req.Options, err = c.Invoke.OptionsOf(c.request); err != nil {
		return req, err
	}
	m := sent.Message
	switch {
	case m == nil:
		return req, api.Invalid("message", "is required")
	case m.Role != a2a.MessageRoleUser:
		return req, api.Invalid("message.role", "must be the user's: the service knows what the agent has said")
	case !api.Printable(m.ID, 250):
		return req, api.Invalid("message.messageId", "must be 1 to 250 printable ASCII characters")
	case m.ContextID != "" && !session.ValidID(m.ContextID):
		return req, api.Invalid("message.contextId", "must be 16 to 64 letters, digits, - or _")
	}
	if req.Options.Key == "" {
		req.Options.Key = "a2a " + m.ID
	}
	req.SessionID, req.Options.Create, req.Options.Resets = m.ContextID, m.ContextID != "", true
	var texts []string
	for i, p := range m.Parts {
		field := "message.parts[" + strconv.Itoa(i) + "]"
		if p == nil {
			return req, api.Invalid(field, "is required")
		}
		switch content := p.Content.(type) {
		case a2a.Text:
			texts = append(texts, string(content))
		case a2a.Data:
			encoded, err := json.Marshal(content.Value)
			if err != nil {
				return req, api.Invalid(field, "is not JSON")
			}
			texts = append(texts, string(encoded))
		case a2a.Raw:
			err = c.Invoke.Attach(&req, field, invoke.File{Name: p.Filename, Type: p.MediaType, Data: content})
		case a2a.URL:
			err = c.Invoke.Attach(&req, field, invoke.File{Name: p.Filename, Type: p.MediaType, URI: string(content)})
		}
		if err != nil {
			return req, err
		}
	}
	req.Query = strings.Join(texts, "\n")
	return req, req.Validate("message.parts")
}

// An answer is what a task shows of a turn.
type answer struct {
	run     string // its id
	text    string
	output  json.RawMessage
	files   []invoke.File
	sources []session.Source
	finish  string
	pending []session.Pending
}

// answerOf returns what a task shows of a response that was just made.
func answerOf(r *invoke.Response) answer {
	return answer{run: r.RunID, text: r.Response, output: r.Output, files: r.Files, sources: r.Sources, finish: r.FinishReason, pending: r.Pending}
}

// info returns the ids of a run's task.
func info(run string) a2a.TaskInfo {
	sessionID, _, _ := session.SplitRunID(run)
	return a2a.TaskInfo{TaskID: a2a.TaskID(run), ContextID: sessionID}
}

// task returns the task of a turn that is stored.
func (c *call) task(a answer, at time.Time) *a2a.Task {
	task := &a2a.Task{ID: a2a.TaskID(a.run), ContextID: info(a.run).ContextID, Status: status(a, at)}
	if artifact := c.artifact(a); len(artifact.Parts) > 0 {
		task.Artifacts = []*a2a.Artifact{artifact}
	}
	return task
}

// status returns the status of a turn that is stored. What it waits for is in the
// message, for clients to show.
func status(a answer, at time.Time) a2a.TaskStatus {
	s := a2a.TaskStatus{State: a2a.TaskStateCompleted, Timestamp: &at}
	switch a.finish {
	case "STOPPED":
		s.State = a2a.TaskStateCanceled
	case "FAILED":
		s.State = a2a.TaskStateFailed
	case "WAITING":
		s.State = a2a.TaskStateInputRequired
		s.Message = a2a.NewMessageForTask(a2a.MessageRoleAgent, info(a.run))
		for _, p := range a.pending {
			s.Message.Parts = append(s.Message.Parts, a2a.NewTextPart(p.Question), a2a.NewDataPart(map[string]any{"call_id": p.CallID, "name": p.Name, "args": p.Args}))
		}
	}
	return s
}

// artifact returns the answer: its text, its value, its files.
func (c *call) artifact(a answer) *a2a.Artifact {
	artifact := &a2a.Artifact{ID: answerID}
	if a.text != "" {
		artifact.Parts = a2a.ContentParts{a2a.NewTextPart(a.text)}
	}
	artifact.Parts = append(artifact.Parts, c.beside(a)...)
	if len(a.sources) > 0 {
		artifact.Metadata = map[string]any{"sources": a.sources}
	}
	return artifact
}

// beside returns what an answer has beside its text.
func (c *call) beside(a answer) (parts a2a.ContentParts) {
	if part := a2awire.Value(a.output); part != nil {
		parts = append(parts, part)
	}
	for _, f := range a.files {
		part := a2a.NewRawPart(f.Data)
		if f.URI != "" {
			uri := f.URI
			if strings.HasPrefix(uri, "/") {
				uri = c.BaseURL(c.request) + uri
			}
			part = a2a.NewFileURLPart(a2a.URL(uri), f.Type)
		}
		part.Filename, part.MediaType = f.Name, f.Type
		parts = append(parts, part)
	}
	return parts
}

// A stream turns the events of a run into those of its task.
type stream struct {
	*call
	info a2a.TaskInfo

	texts []shownText // of the answer, that are not void
	sent  bool        // the client has a piece of the answer
	void  bool        // of which a part is void
}

// A shownText is a text that the client has, with the number of its part, by which a reset
// voids it.
type shownText struct {
	part int
	text string
}

// text returns the answer as far as it was shown.
func (s *stream) text() string {
	var b strings.Builder
	for _, t := range s.texts {
		b.WriteString(t.text)
	}
	return b.String()
}

// events returns the events of the task for e.
func (s *stream) events(e invoke.Event) []a2a.Event {
	now := time.Now()
	switch e.Kind {
	case invoke.KindStart:
		s.info = info(e.Run)
		return []a2a.Event{&a2a.Task{ID: s.info.TaskID, ContextID: s.info.ContextID, Status: a2a.TaskStatus{State: a2a.TaskStateWorking, Timestamp: &now}}}
	case session.KindToolCall:
		return s.working("Calling " + e.Part.Name + ".")
	case session.KindProgress:
		return s.working(e.Part.Text)
	case session.KindText:
		s.texts = append(s.texts, shownText{e.At.Part, e.Part.Text})
		return []a2a.Event{s.piece(e.Part.Text)}
	case invoke.KindReset:
		kept := slices.DeleteFunc(s.texts, func(t shownText) bool { return t.part >= e.Reset.Part })
		s.void = s.void || len(kept) < len(s.texts)
		s.texts = kept
	case invoke.KindDone:
		return s.done(answerOf(e.Response), now)
	case invoke.KindError:
		message := a2a.NewMessageForTask(a2a.MessageRoleAgent, s.info, a2a.NewTextPart(e.Envelope.Message))
		if e.Envelope.Error != nil {
			message.Metadata = map[string]any{"error": string(*e.Envelope.Error), "request_id": e.Envelope.RequestID}
		}
		return []a2a.Event{a2a.NewStatusUpdateEvent(s.info, a2a.TaskStateFailed, message)}
	}
	return nil
}

// working returns the event of a step that is no part of the answer.
func (s *stream) working(text string) []a2a.Event {
	return []a2a.Event{a2a.NewStatusUpdateEvent(s.info, a2a.TaskStateWorking, a2a.NewMessageForTask(a2a.MessageRoleAgent, s.info, a2a.NewTextPart(text)))}
}

// piece returns the event of more text, which replaces what the client has of the answer
// if a part of that is void.
func (s *stream) piece(text string) a2a.Event {
	more := s.sent && !s.void
	if s.void {
		text = s.text()
	}
	s.sent, s.void = true, false
	event := a2a.NewArtifactUpdateEvent(s.info, answerID, a2a.NewTextPart(text))
	event.Append = more
	return event
}

// done returns the last events: what the client lacks of the answer, and the status.
func (s *stream) done(a answer, now time.Time) (events []a2a.Event) {
	artifact := s.artifact(a)
	whole := !s.sent || s.void || s.text() != a.text
	if !whole {
		artifact.Parts = s.beside(a)
	}
	if len(artifact.Parts) > 0 {
		events = append(events, &a2a.TaskArtifactUpdateEvent{TaskID: s.info.TaskID, ContextID: s.info.ContextID, Artifact: artifact, Append: !whole, LastChunk: true})
	}
	return append(events, &a2a.TaskStatusUpdateEvent{TaskID: s.info.TaskID, ContextID: s.info.ContextID, Status: status(a, now)})
}

// states are a run's, in A2A's words.
var states = map[session.RunState]a2a.TaskState{
	session.Working: a2a.TaskStateWorking, session.Waiting: a2a.TaskStateInputRequired, session.Done: a2a.TaskStateCompleted,
	session.Failed: a2a.TaskStateFailed, session.Stopped: a2a.TaskStateCanceled,
}

// GetTask implements [a2asrv.RequestHandler].
func (c *call) GetTask(_ context.Context, get *a2a.GetTaskRequest) (*a2a.Task, error) {
	c.audit(api.AuditRunRead)
	info, err := c.Invoke.Read(c.request.Context(), string(get.ID))
	if err != nil {
		return nil, c.failed(unknownTask(err))
	}
	return c.stored(info, get.HistoryLength == nil || *get.HistoryLength > 0), nil
}

// stored returns the task of a run as far as it is stored.
func (c *call) stored(info invoke.RunInfo, history bool) *a2a.Task {
	turn := info.Stored
	if turn == nil { // it is worked on, or left no turn
		return &a2a.Task{ID: a2a.TaskID(info.RunID), ContextID: info.SessionID, Status: a2a.TaskStatus{State: states[info.State], Timestamp: &info.UpdatedAt}}
	}
	query, text := turn.Texts()
	a := answer{run: info.RunID, text: text, output: turn.Output, finish: turn.FinishReason, pending: info.Pending}
	for _, p := range turn.Shown() {
		switch p.Kind {
		case session.KindFile:
			a.files = append(a.files, invoke.File{Name: p.Name, Type: p.Type, URI: p.URI, Data: p.Data})
		case session.KindSource:
			a.sources = append(a.sources, p.Source())
		}
	}
	task := c.task(a, info.UpdatedAt)
	task.Status.State = states[info.State] // of one that waited in vain
	if history {
		task.History = []*a2a.Message{{ID: turn.ID, Role: a2a.MessageRoleUser, TaskID: task.ID, ContextID: task.ContextID, Parts: a2a.ContentParts{a2a.NewTextPart(query)}}}
	}
	return task
}

// ListTasks implements [a2asrv.RequestHandler]: the runs of the last day that have a
// record, the newest first.
func (c *call) ListTasks(_ context.Context, list *a2a.ListTasksRequest) (*a2a.ListTasksResponse, error) {
	c.audit(api.AuditRunList)
	ctx, filter, size := c.request.Context(), session.RunFilter{SessionID: list.ContextID}, list.PageSize
	for run, state := range states {
		if state == list.Status {
			filter.State = run
		}
	}
	switch {
	case list.Status != "" && list.Status != a2a.TaskStateUnspecified && filter.State == "": // one that no task is in
		return &a2a.ListTasksResponse{Tasks: []*a2a.Task{}}, nil
	case list.ContextID != "" && !session.ValidID(list.ContextID):
		return nil, c.failed(api.Invalid("contextId", "must be 16 to 64 letters, digits, - or _"))
	case size < 0 || size > 100:
		return nil, c.failed(api.Invalid("pageSize", "must be from 1 to 100"))
	case size == 0 || list.IncludeArtifacts: // each of which is read
		size = min(cmp.Or(size, 50), 50)
	}
	runs, next, err := c.Invoke.Runs(ctx, filter, size, list.PageToken)
	if err != nil {
		return nil, c.failed(err)
	}
	answer := &a2a.ListTasksResponse{Tasks: []*a2a.Task{}, PageSize: size, NextPageToken: next}
	for _, info := range runs {
		if after := list.StatusTimestampAfter; after != nil && !info.UpdatedAt.After(*after) {
			continue
		}
		if list.IncludeArtifacts {
			if read, err := c.Invoke.Read(ctx, info.RunID); err == nil {
				info = read
			}
		}
		answer.Tasks = append(answer.Tasks, c.stored(info, false))
	}
	answer.TotalSize = len(answer.Tasks)
	return answer, nil
}

// unknownTask returns err in A2A's words, if it is that a run is not found.
func unknownTask(err error) error {
	if e, ok := errors.AsType[*api.Error](err); ok && e.Code == api.NotFound {
		missing := api.Fail(api.NotFound, nil)
		missing.Message = "There is no such task."
		return missing
	}
	return err
}

// CancelTask implements [a2asrv.RequestHandler]: it stops the run, wherever it is worked
// on, and waits for its end.
func (c *call) CancelTask(_ context.Context, task *a2a.CancelTaskRequest) (*a2a.Task, error) {
	c.audit(api.AuditRunStop)
	ctx := c.request.Context()
	if _, err := c.Invoke.Read(ctx, string(task.ID)); err != nil { // a stop may come before the run's record
		return nil, c.failed(unknownTask(err))
	}
	switch response, err := c.Invoke.End(ctx, string(task.ID)); {
	case err != nil && api.AsError(err).Code == api.SessionConflict:
		return nil, a2a.ErrTaskNotCancelable
	case err != nil:
		return nil, c.failed(unknownTask(err))
	case response == nil:
		return &a2a.Task{ID: task.ID, ContextID: info(string(task.ID)).ContextID, Status: a2a.TaskStatus{State: a2a.TaskStateCanceled, Timestamp: new(time.Now())}}, nil
	default:
		return c.task(answerOf(response), time.Now()), nil
	}
}
