package openai

import (
	"net/http"

	"github.com/go-json-experiment/json"

	"example.com/gatehouse/internal/api"
)

// An errorBody is an error in OpenAI's form.
type openAIError struct {
	Error openAIErrorInfo `json:"error"`
}

type openAIErrorInfo struct {
	Message string  `json:"message"`
	Type    string  `json:"type"`
	Param   *string `json:"param"`
	Code    string  `json:"code" doc:"The gate's own code."`
}

// newError returns e in OpenAI's form.
func newError(e *api.Error) openAIErrorInfo {
	info := openAIErrorInfo{Message: e.Sentence(), Code: string(e.Code)}
	if len(e.Details) > 0 {
		if e.Code != api.MalformedRequest && e.Code != api.RequestTooLarge { // which are about no parameter
			info.Param = &e.Details[0].Field
		}
		info.Message = e.Details[0].Field + " " + e.Details[0].Issue + "."
	}
	switch status := e.Status(); {
	case status == http.StatusUnauthorized:
		info.Type = "authentication_error"
	case status == http.StatusForbidden:
		info.Type = "permission_error"
	case status == http.StatusTooManyRequests:
		info.Type = "rate_limit_error"
	case status >= 500:
		info.Type = "server_error"
	default:
		info.Type = "invalid_request_error"
	}
	return info
}

// writeError answers with e. The openai packages try 409, 429 and 5xx again unless
// X-Should-Retry says otherwise.
func writeError(w http.ResponseWriter, _ *http.Request, e *api.Error) error {
	e.SetHeader(w.Header())
	switch e.Code {
	case api.SessionConflict, api.QuotaExceeded, api.ModelFailed, api.Internal, api.Timeout:
		w.Header().Set("X-Should-Retry", "false")
	}
	return writeStatus(w, e.Status(), openAIError{newError(e)})
}

func write(w http.ResponseWriter, body any) error { return writeStatus(w, http.StatusOK, body) }

func writeStatus(w http.ResponseWriter, status int, body any) error {
	encoded, err := json.Marshal(body)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(encoded) // a client that has left needs nothing more
	return nil
}
