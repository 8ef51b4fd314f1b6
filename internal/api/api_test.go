package api_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"example.com/gatehouse/internal/api"
)

// The bytes of an answer are a promise: the order and the names of its members,
// null for what there is not, and the form of the time.
func TestTheEnvelopeAsBytes(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		answer func(http.ResponseWriter, *http.Request) error
		status int
		want   string
	}{
		{
			"success",
			func(w http.ResponseWriter, r *http.Request) error {
				return api.WriteSuccess(w, r, "Done", map[string]int{"turn": 1})
			},
			200, `{"success":true,"message":"Done","data":{"turn":1},"error":null,"request_id":"r-1","timestamp":"2000-01-01T00:00:01.234Z"}`,
		},
		{
			"an error",
			func(w http.ResponseWriter, r *http.Request) error {
				return api.WriteError(w, r, api.Fail(api.SessionNotFound, errors.New("secret")))
			},
			404, `{"success":false,"message":"This conversation was deleted or has expired. Start a new one.","data":null,"error":"session_not_found","retry_after_seconds":null,"request_id":"r-1","timestamp":"2000-01-01T00:00:01.234Z"}`,
		},
		{
			"an error with details",
			func(w http.ResponseWriter, r *http.Request) error {
				return api.WriteError(w, r, api.Invalid("query", "must not be empty"))
			},
			422, `{"success":false,"message":"Part of what was sent is missing or not valid. Check it and try again.","data":null,"error":"validation_failed","details":[{"field":"query","issue":"must not be empty"}],"retry_after_seconds":null,"request_id":"r-1","timestamp":"2000-01-01T00:00:01.234Z"}`,
		},
		{
			"an error with data",
			func(w http.ResponseWriter, r *http.Request) error {
				return api.WriteErrorData(w, r, api.Fail(api.Unhealthy, nil), map[string]string{"status": "unhealthy"})
			},
			503, `{"success":false,"message":"The service is unhealthy.","data":{"status":"unhealthy"},"error":"unhealthy","retry_after_seconds":5,"request_id":"r-1","timestamp":"2000-01-01T00:00:01.234Z"}`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				time.Sleep(1234*time.Millisecond + 567*time.Microsecond)
				w := httptest.NewRecorder()
				r := request(t, http.MethodGet, "/")
				if err := tt.answer(w, r.WithContext(api.WithRequestID(r.Context(), "r-1"))); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(w.Body.String(), tt.want); diff != "" || w.Code != tt.status {
					t.Errorf("status %d, want %d (-got +want):\n%s", w.Code, tt.status, diff)
				}
				if got, want := w.Header().Get("Content-Length"), fmt.Sprint(len(tt.want)); got != want {
					t.Errorf("Content-Length %s, want %s", got, want)
				}
			})
		})
	}
}

func TestTimestamps(t *testing.T) {
	t.Parallel()
	east := time.FixedZone("", 5*3600)
	tests := []struct {
		name string
		time time.Time
		want string
	}{
		{"no fraction", time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC), `"2026-11-23T09:00:00.000Z"`},
		{"another zone", time.Date(2026, 11, 23, 14, 0, 0, 0, east), `"2026-11-23T09:00:00.000Z"`},
		{"nanoseconds", time.Date(2026, 11, 23, 9, 0, 0, 999_999_999, time.UTC), `"2026-11-23T09:00:00.999Z"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := json.Marshal(api.Timestamp(tt.time))
			if err != nil || string(got) != tt.want {
				t.Errorf("%s, %v; want %s", got, err, tt.want)
			}
			var back api.Timestamp
			if err := json.Unmarshal(got, &back); err != nil || !time.Time(back).Equal(tt.time.Truncate(time.Millisecond)) {
				t.Errorf("read back as %v, %v", time.Time(back), err)
			}
		})
	}
}

func TestARequestWithoutAnID(t *testing.T) {
	t.Parallel()
	if id := api.RequestID(context.Background()); id != "" {
		t.Errorf("id %q", id)
	}
}

func TestOtherErrorsAreInternalAndTellNothing(t *testing.T) {
	t.Parallel()
	const secret = "/srv/app/secret.go: dial tcp 10.0.0.7"
	tests := []struct {
		name string
		err  error
		code string
	}{
		{"an error of another kind", errors.New(secret), "internal"},
		{"one of ours, wrapped", fmt.Errorf("%s: %w", secret, api.Fail(api.Overloaded, errors.New(secret))), "overloaded"},
		{"one of ours with a cause", api.Fail(api.ModelFailed, errors.New(secret)), "model_failed"},
		{"a code that is not in the table", &api.Error{Code: "nonsense", Cause: errors.New(secret)}, "nonsense"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := httptest.NewRecorder()
			api.Answer(w, request(t, http.MethodGet, "/"), func(http.ResponseWriter, *http.Request) error { return tt.err })
			e := read(t, w)
			if e.Success || e.Error == nil || *e.Error != tt.code || string(e.Data) != "null" {
				t.Errorf("answer %s", w.Body)
			}
			if want := api.AsError(tt.err).Status(); w.Code != want || want < 500 {
				t.Errorf("status %d, want %d", w.Code, want)
			}
			if strings.Contains(w.Body.String(), "secret") || strings.Contains(w.Body.String(), "10.0.0.7") {
				t.Errorf("the answer tells of the cause: %s", w.Body)
			}
		})
	}
}

func TestDataThatCannotBeWrittenIsInternal(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	api.Answer(w, request(t, http.MethodGet, "/"), func(w http.ResponseWriter, r *http.Request) error {
		return api.WriteSuccess(w, r, "Done", math.NaN())
	})
	if e := read(t, w); w.Code != 500 || *e.Error != "internal" {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// A client that closed only its own direction of the connection reads on: an empty 200
// would be a success to it.
func TestTheAnswerToAClientThatLeft(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	api.Answer(w, request(t, http.MethodGet, "/"), func(http.ResponseWriter, *http.Request) error {
		return api.Fail(api.ClientClosedRequest, nil)
	})
	if w.Code != api.StatusClientClosedRequest || !strings.Contains(w.Body.String(), `"error":"client_closed_request"`) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		err  *api.Error
		want string
	}{
		{"the table's", api.Fail(api.Overloaded, nil), "1"},
		{"none", api.Fail(api.NotFound, nil), ""},
		{"whole seconds", &api.Error{Code: api.RateLimited, RetryAfter: 7 * time.Second}, "7"},
		{"rounded up", &api.Error{Code: api.RateLimited, RetryAfter: 7*time.Second + time.Nanosecond}, "8"},
		{"less than a second", &api.Error{Code: api.RateLimited, RetryAfter: time.Millisecond}, "1"},
		{"below zero", &api.Error{Code: api.RateLimited, RetryAfter: -time.Second}, "1"},
		{"where the table has none", &api.Error{Code: api.Internal, RetryAfter: time.Second}, "1"},
		{"a day", &api.Error{Code: api.QuotaExceeded, RetryAfter: 24 * time.Hour}, "86400"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w := httptest.NewRecorder()
			if err := api.WriteError(w, request(t, http.MethodGet, "/"), tt.err); err != nil {
				t.Fatal(err)
			}
			if got := w.Header().Get("Retry-After"); got != tt.want {
				t.Errorf("Retry-After %q, want %q", got, tt.want)
			}
			var body struct {
				Seconds json.RawMessage `json:"retry_after_seconds"`
			}
			if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
				t.Fatal(err)
			}
			if want := orNull(tt.want); string(body.Seconds) != want {
				t.Errorf("retry_after_seconds %s, want %s", body.Seconds, want)
			}
		})
	}
}

func TestAnErrorsHeadersAreSent(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	e := &api.Error{Code: api.MethodNotAllowed, Header: http.Header{"Allow": {"GET, HEAD"}}}
	if err := api.WriteError(w, request(t, http.MethodPost, "/"), e); err != nil {
		t.Fatal(err)
	}
	if got := w.Header().Get("Allow"); got != "GET, HEAD" {
		t.Errorf("Allow %q", got)
	}
}

// contract is the table of errors as the contract has it.
var contract = map[api.Code]struct {
	status int
	retry  bool // whether Retry-After is always sent
}{
	"malformed_request": {400, false}, "unauthenticated": {401, false}, "permission_denied": {403, false}, "origin_not_allowed": {403, false},
	"not_found": {404, false}, "session_not_found": {404, false}, "method_not_allowed": {405, false}, "not_acceptable": {406, false},
	"request_timeout": {408, false}, "idempotency_in_progress": {409, true}, "session_conflict": {409, false}, "request_too_large": {413, false},
	"unsupported_media_type": {415, false}, "validation_failed": {422, false}, "idempotency_mismatch": {422, false}, "content_blocked": {422, false},
	"rate_limited": {429, true}, "quota_exceeded": {429, true}, "client_closed_request": {499, false}, "internal": {500, false},
	"model_failed": {502, false}, "model_unavailable": {503, true}, "overloaded": {503, true}, "session_store_unavailable": {503, true},
	"shutting_down": {503, true}, "not_ready": {503, true}, "unhealthy": {503, true}, "timeout": {504, false},
}

func TestTheTableOfErrorsIsTheContracts(t *testing.T) {
	t.Parallel()
	sentence := regexp.MustCompile(`^[A-Z].*\.$`)
	technical := regexp.MustCompile(`[a-z]_[a-z]|[A-Za-z]-[A-Z]|\b(Accept|Allow|Origin|[A-Z]{3,}|body|field|header|details|session|token|call)\b|[%{/]`)
	messages := map[string]api.Code{}
	for code, want := range contract {
		e := api.Fail(code, nil)
		if e.Status() != want.status {
			t.Errorf("%s: status %d, want %d", code, e.Status(), want.status)
		}
		envelope := api.Failure(t.Context(), e)
		if !sentence.MatchString(envelope.Message) {
			t.Errorf("%s: the message %q is no sentence", code, envelope.Message)
		}
		if word := technical.FindString(envelope.Message); word != "" {
			t.Errorf("%s: the message %q has %q, which is no word for the person in front of a page", code, envelope.Message, word)
		}
		if want.retry && code != api.Unhealthy {
			e.RetryAfter = 11*time.Second + time.Millisecond
			if got := api.Failure(t.Context(), e).Message; !strings.HasSuffix(got, "Try again in 12 seconds.") {
				t.Errorf("%s: the message %q does not have how long to wait", code, got)
			}
			e.RetryAfter = 0
		}
		if other, ok := messages[envelope.Message]; ok {
			t.Errorf("%s and %s have the same message", code, other)
		}
		messages[envelope.Message] = code
		w := httptest.NewRecorder()
		if err := api.WriteError(w, request(t, http.MethodGet, "/"), e); err != nil {
			t.Fatal(err)
		}
		if got := w.Header().Get("Retry-After") != ""; got != want.retry {
			t.Errorf("%s: Retry-After is sent: %t, want %t", code, got, want.retry)
		}
	}
}

func TestHowLongToWait(t *testing.T) {
	t.Parallel()
	for wait, want := range map[time.Duration]string{
		time.Second: "1 second", 12 * time.Second: "12 seconds", 2 * time.Minute: "120 seconds", 121 * time.Second: "3 minutes",
		2 * time.Hour: "120 minutes", 7*time.Hour + time.Second: "8 hours",
	} {
		e := api.Fail(api.QuotaExceeded, nil)
		e.RetryAfter = wait
		if got := e.Sentence(); got != "Today's allowance is used up. Try again in "+want+"." {
			t.Errorf("%v: %q", wait, got)
		}
	}
}

func TestErrorsForPeople(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, accept string
		sentence     bool
	}{
		{"no Accept", "", true},
		{"anything", "*/*", true},
		{"an event stream", "text/event-stream, */*;q=0.1", true},
		{"JSON", "application/json", false},
		{"JSON or a stream", "text/event-stream, application/json;q=0.5", false},
		{"anything but JSON", "*/*, application/json;q=0", true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w, r := httptest.NewRecorder(), request(t, http.MethodPost, "/")
			if tt.accept != "" {
				r.Header.Set("Accept", tt.accept)
			}
			if err := api.WriteSentence(w, r, api.Fail(api.RateLimited, nil)); err != nil {
				t.Fatal(err)
			}
			if w.Code != 429 || w.Header().Get("Retry-After") != "1" {
				t.Errorf("status %d, headers %v", w.Code, w.Header())
			}
			if !tt.sentence {
				if e := read(t, w); e.Error == nil || *e.Error != "rate_limited" {
					t.Errorf("answer %s", w.Body)
				}
				return
			}
			if got := w.Body.String(); got != "Too many questions at once. Try again in 1 second." || w.Header().Get("Content-Type") != "text/plain; charset=utf-8" {
				t.Errorf("answer %q, headers %v", got, w.Header())
			}
		})
	}
}

func TestErrorsForLogs(t *testing.T) {
	t.Parallel()
	cause := errors.New("the cause")
	if got := api.Fail(api.Internal, cause).Error(); got != "internal: the cause" {
		t.Errorf("%q", got)
	}
	if got := api.Fail(api.Internal, nil).Error(); got != "internal" {
		t.Errorf("%q", got)
	}
	if !errors.Is(api.Fail(api.Internal, cause), cause) {
		t.Error("the cause is not in the chain")
	}
}

func orNull(text string) string {
	if text == "" {
		return "null"
	}
	return text
}
