package model

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"google.golang.org/genai"

	"example.com/gatehouse/internal/models"
)

// The SDK knows the address, the headers and the form of settings of each backend. What it
// then does with a body and an answer would be most of a turn's CPU: it checks and copies the
// body byte by byte, a whole history at each call, and makes maps of each answer, and of each
// chunk of one, of these JSON again, and then its types. So it makes the request once for
// settings that are alike, and does not send it. Bodies are put together here, and answers
// are decoded once, to its types.

// An sdk is Google's SDK with one key.
type sdk struct {
	models   *genai.Models // for metadata
	requests *genai.Models // makes requests, and sends none
	prepared *lru.Cache[form, *prepared]
}

// maxPrepared bounds the requests that are kept: callers choose temperature and max_tokens.
const maxPrepared = 256

func newSDK(ctx context.Context, config genai.ClientConfig) (*sdk, error) {
	copied := config // before the SDK completes the first one by the environment
	sending, err := genai.NewClient(ctx, &config)
	if err != nil {
		return nil, err
	}
	copied.HTTPClient = &http.Client{Transport: nowhere{}}
	making, err := genai.NewClient(ctx, &copied)
	if err != nil {
		return nil, err
	}
	cache, _ := lru.New[form, *prepared](maxPrepared) // it fails only without a size
	return &sdk{models: sending.Models, requests: making.Models, prepared: cache}, nil
}

// A form is what a request's address, headers and settings follow from. Pointers are to what
// never changes.
type form struct {
	model      string
	stream     bool
	mixed      bool
	settings   *genai.GenerateContentConfig // the agent's
	table      *models.Table
	thinking   models.Level
	roomy      bool
	maxTokens  int
	heated     bool
	heat       float64
	schema     *byte
	schemaSize int
}

func (c *Client) formOf(r *Request, stream bool) form {
	f := form{
		model: r.Model, stream: stream, mixed: r.Tools.mixed, settings: r.Settings, table: c.tables.Table(),
		thinking: r.Thinking, roomy: r.roomy, maxTokens: r.MaxTokens, schemaSize: len(r.Schema),
	}
	if r.Temperature != nil {
		f.heated, f.heat = true, *r.Temperature
	}
	if len(r.Schema) > 0 {
		f.schema = &r.Schema[0]
	}
	return f
}

// A prepared request is one without the contents of its body. It is not changed.
type prepared struct {
	request *http.Request
	head    []byte   // of the body, up to the first content
	ignored []string // settings that the model does not take
}

// prepare returns the request that the SDK makes for r's settings.
func (c *Client) prepare(ctx context.Context, r *Request, stream bool) (*prepared, error) {
	sdk, form := c.sdk.Load(), c.formOf(r, stream)
	if p, ok := sdk.prepared.Get(form); ok {
		return p, nil
	}
	settings, ignored := c.settings(r)
	mixed := r.Tools.mixed
	p := &prepared{ignored: ignored}
	var encoded []byte // a JSON object
	var unencodable error
	settings.HTTPOptions = &genai.HTTPOptions{ExtrasRequestProvider: func(made map[string]any) map[string]any {
		for _, ours := range []string{"contents", "tools", "systemInstruction"} {
			delete(made, ours)
		}
		if mixed && c.config.Backend == genai.BackendGeminiAPI { // Vertex AI does not know the field
			made["toolConfig"] = mixedTools
		}
		encoded, unencodable = json.Marshal(made)
		return nil
	}}
	made, err := sdk.make(context.WithoutCancel(ctx), r.Model, settings, stream)
	if err = errors.Join(err, unencodable); err != nil {
		return nil, err
	}
	p.request = &http.Request{
		Method: http.MethodPost, URL: made.url, Host: made.url.Host, Header: made.header,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}
	// The SDK always makes a generationConfig, so there is a member before.
	p.head = append(bytes.TrimSuffix(encoded, []byte("}")), `,"contents":[`...)
	sdk.prepared.Add(form, p)
	return p, nil
}

// make returns the request that the SDK makes.
func (s *sdk) make(ctx context.Context, model string, settings *genai.GenerateContentConfig, stream bool) (*madeRequest, error) {
	var err error
	if stream {
		for _, err = range s.requests.GenerateContentStream(ctx, model, nil, settings) {
			break
		}
	} else {
		_, err = s.requests.GenerateContent(ctx, model, nil, settings)
	}
	if made, ok := errors.AsType[*madeRequest](err); ok {
		return made, nil
	}
	return nil, cmp.Or(err, errors.New("the SDK made no request"))
}

// A nowhere transport sends nothing. Its error is the request.
type nowhere struct{}

func (nowhere) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		_ = r.Body.Close()
	}
	return nil, &madeRequest{r.URL, r.Header}
}

// A madeRequest is a request that was made and not sent, as the error of sending it.
type madeRequest struct {
	url    *url.URL
	header http.Header
}

func (*madeRequest) Error() string { return "the request was made, and not sent" }

// withBody returns p's request with a body, to be sent within ctx.
func (p *prepared) withBody(ctx context.Context, body []byte) *http.Request {
	r := p.request.WithContext(ctx)
	r.Header = maps.Clone(r.Header) // whose values are shared, and not changed
	if deadline, ok := ctx.Deadline(); ok {
		r.Header.Set("X-Server-Timeout", strconv.Itoa(int(math.Ceil(time.Until(deadline).Seconds()))))
	}
	// As http.NewRequest does it: net/http knows this reader, and sends it with the header
	// in one write.
	r.ContentLength = int64(len(body))
	r.Body = io.NopCloser(bytes.NewReader(body))
	r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	return r
}
