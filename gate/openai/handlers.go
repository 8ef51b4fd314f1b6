package openai

import (
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"time"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/invoke"
	"example.com/gatehouse/session"
)

var encoding = base64.RawURLEncoding.Strict()

const removed = "gatehouse.responses.removed" // the list of an owner's removed responses

// complete handles POST /v1/chat/completions.
func (d *door) complete(w http.ResponseWriter, r *http.Request) error {
	var body completionRequest
	leave, err := d.Invoke.DecodeBody(w, r, historyBodies, &body)
	if err != nil {
		return err
	}
	defer leave()
	req, err := d.completionOf(r, body)
	if err != nil {
		return err
	}
	c := &completion{usage: body.StreamOptions["include_usage"] == true, created: time.Now().Unix()}
	if is(body.Stream) {
		return d.Invoke.Stream(r.Context(), w, r, req, c)
	}
	answer, err := d.Invoke.Ask(r.Context(), req, nil)
	if err != nil {
		return err
	}
	answer.SetHeader(w.Header())
	return api.WriteJSON(w, http.StatusOK, c.whole(answer))
}

// respond handles POST /v1/responses.
func (d *door) respond(w http.ResponseWriter, r *http.Request) error {
	var body responseRequest
	leave, err := d.Invoke.DecodeBody(w, r, historyBodies, &body)
	if err != nil {
		return err
	}
	defer leave()
	if n := len(body.Input); n > 0 && body.Input[n-1].Type == "mcp_approval_response" {
		return d.approve(w, r, body)
	}
	req, err := d.responseOf(r, body)
	if err != nil {
		return err
	}
	stored := !req.Options.Sessionless
	body.Store, body.Background = &stored, body.Background && d.Invoke.Queued()
	s := d.newResponse(body, time.Now().Unix())
	if !body.Background {
		return d.answer(w, r, s, body, d.Invoke.Asking(r.Context(), req))
	}
	info, err := d.Invoke.Begin(r.Context(), req)
	if err == nil && is(body.Stream) {
		return d.answer(w, r, s, body, d.Invoke.Watching(r.Context(), info.RunID))
	}
	return write(w, s, info, err)
}

// answer answers with what a run comes to.
func (d *door) answer(w http.ResponseWriter, r *http.Request, s *response, body responseRequest, run invoke.Runner) error {
	if is(body.Stream) {
		return invoke.Show(w, r, s, run)
	}
	answer, err := run(nil)
	switch {
	case err != nil:
		return err
	case answer == nil: // more is to be approved
		info, err := d.find(r, body.Previous)
		return write(w, s, info, err)
	}
	answer.SetHeader(w.Header())
	return api.WriteJSON(w, http.StatusOK, s.whole(answer))
}

func write(w http.ResponseWriter, s *response, info invoke.RunInfo, err error) error {
	if err != nil {
		return err
	}
	return api.WriteJSON(w, http.StatusOK, s.of(info))
}

// approve goes on with a run that waits, by the answers to what it waits for. The response
// is the one before, which its run makes whole.
func (d *door) approve(w http.ResponseWriter, r *http.Request, body responseRequest) error {
	answers := make([]invoke.Approval, len(body.Input))
	for i, m := range body.Input {
		answers[i] = invoke.Approval{CallID: m.Request, Approve: m.Approve, Reason: m.Reason}
		if m.Type != "mcp_approval_response" {
			return api.Invalid("input."+strconv.Itoa(i), "must be an mcp_approval_response as the last one is")
		}
	}
	info, err := d.find(r, body.Previous)
	if err != nil {
		return err
	}
	return d.answer(w, r, d.newResponse(body, info.CreatedAt.Unix()), body, func(show func(invoke.Event) error) (*invoke.Response, error) {
		return d.Invoke.ApproveAll(r.Context(), info.RunID, answers, show)
	})
}

// find returns the run of a response of the caller that is not removed.
func (d *door) find(r *http.Request, id string) (info invoke.RunInfo, err error) {
	unknown := api.Fail(api.NotFound, nil)
	unknown.Message = "There is no such response."
	encoded, ok := strings.CutPrefix(id, "resp_")
	run, err := encoding.DecodeString(encoded)
	if _, _, valid := session.SplitRunID(string(run)); !ok || !valid || err != nil {
		return info, unknown
	}
	hidden := false
	if info, err = d.Invoke.Read(r.Context(), string(run)); err == nil {
		hidden, err = d.Invoke.Hidden(r.Context(), removed, info.RunID)
	}
	if hidden || err != nil && api.AsError(err).Code == api.NotFound {
		err = unknown
	}
	return info, err
}

// retrieve handles GET /v1/responses/{response}.
func (d *door) retrieve(w http.ResponseWriter, r *http.Request) error {
	info, err := d.find(r, r.PathValue("response"))
	s := d.newResponse(responseRequest{}, info.CreatedAt.Unix())
	if err == nil && r.URL.Query().Get("stream") == "true" {
		return invoke.Show(w, r, s, d.Invoke.Watching(r.Context(), info.RunID))
	}
	return write(w, s, info, err)
}

// cancel handles POST /v1/responses/{response}/cancel: it stops the run, wherever it is
// worked on, and waits for its end.
func (d *door) cancel(w http.ResponseWriter, r *http.Request) error {
	info, err := d.find(r, r.PathValue("response"))
	if err == nil && info.State != session.Stopped {
		if _, err = d.Invoke.End(r.Context(), info.RunID); err == nil {
			info, err = d.Invoke.Read(r.Context(), info.RunID)
		}
	}
	return write(w, d.newResponse(responseRequest{}, info.CreatedAt.Unix()), info, err)
}

// remove handles DELETE /v1/responses/{response}.
func (d *door) remove(w http.ResponseWriter, r *http.Request) error {
	id := r.PathValue("response")
	info, err := d.find(r, id)
	if err == nil {
		err = d.Invoke.Hide(r.Context(), removed, info.RunID)
	}
	if err != nil {
		return err
	}
	return api.WriteJSON(w, http.StatusOK, object{"id": id, "object": "response", "deleted": true})
}
