// Package model asks Gemini, through google.golang.org/genai, and is the one
// place that tries again when that fails.
//
// Three things bound what a failing model costs. An attempt that may have failed
// by chance is repeated, a few times and only as long as the retries of the whole
// process stay a fifth of its calls. A model that fails time after time is not
// asked for a while: each has a breaker. And another model stands in for it,
// where one is configured.
//
// [Client.Generate] is one call of the model: it sends the contents of a
// conversation and returns what the model added to it, as the model wrote it, with
// thoughts and signatures, so that it can be stored and sent back. The loop that
// runs tools between such calls is not here.
package model

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"cloud.google.com/go/auth/credentials"
	"cloud.google.com/go/auth/httptransport"
	lru "github.com/hashicorp/golang-lru/v2"
	"google.golang.org/genai"

	"example.com/gatehouse/internal/breaker"
	"example.com/gatehouse/internal/models"
	"example.com/gatehouse/session"
)

// A Config is how to reach Gemini.
type Config struct {
	APIKey   string // of the Developer API; not used with Vertex AI
	VertexAI bool
	Project  string // with Vertex AI
	Location string // with Vertex AI, "global" by default
	BaseURL  string // instead of Google's own; a loopback address gets no credentials
	Loopback bool   // BaseURL is one

	// Transport carries the requests instead of HTTP, as the offline stand-in does.
	Transport http.RoundTripper
	// Wrap returns the transport to use around the one that carries the requests, with
	// its credentials; nil: that one itself.
	Wrap func(http.RoundTripper) http.RoundTripper

	// Models may be asked, each behind its own breaker; where the one that is
	// asked for is unavailable, the others stand in, in this order. A model that
	// is not among them can be asked, too: it has no breaker and is nobody's
	// stand-in.
	Models []string
	// Allowed are further models that a request may name: each has a breaker, and
	// stands in for none.
	Allowed []string
	// Armor screens prompts and answers where a request's settings name no template of
	// their own; nil for nothing.
	Armor *genai.ModelArmorConfig
	// Tables holds the models' profiles and prices; nil for those that the program
	// was built with.
	Tables *models.Live
	// BreakerFailures is how many attempts must fail, one after another, to open a
	// breaker, and BreakerCooldown how long it then keeps calls away.
	BreakerFailures int
	BreakerCooldown time.Duration
	// OnBreaker, if set, is called with each new state of a model's breaker, on the
	// goroutine of the call that brought it about. It may be called at once for
	// different models.
	OnBreaker func(model string, state breaker.State)
	// Timeout is how long a request may take, if that is bounded: a model that was
	// silent for half of it counts as away.
	Timeout time.Duration
}

// A Client asks Gemini. Make one for the process with [New]: it is safe for
// concurrent use, and shares its connections.
type Client struct {
	config    genai.ClientConfig // without the key
	sdk       atomic.Pointer[sdk]
	transport *transport
	close     func()

	withdrawn atomic.Bool // the key

	instructions *lru.Cache[string, []byte] // of agents, as bodies have them

	tables   *models.Live
	presence presence
	names    []string // of the models, in order
	armor    *genai.ModelArmorConfig
	breakers map[string]*breaker.Breaker // never changed
	budget   budget
	fair     time.Duration // of silence, after which a model counts as away
}

// New makes a client. It does not connect. Its errors never hold the key.
func New(ctx context.Context, c Config) (*Client, error) {
	base := newTransport()
	carrier := http.RoundTripper(base)
	if c.Transport != nil {
		carrier = c.Transport
	}
	config := genai.ClientConfig{
		Backend:     genai.BackendGeminiAPI,
		HTTPOptions: genai.HTTPOptions{BaseURL: c.BaseURL},
	}
	if c.VertexAI {
		config.Backend = genai.BackendVertexAI
		config.Project, config.Location = c.Project, c.Location
		if !c.Loopback && c.Transport == nil {
			authorized, err := authorize(base)
			if err != nil {
				return nil, err
			}
			carrier = authorized
		}
	}
	if c.Wrap != nil {
		carrier = c.Wrap(carrier)
	}
	sending := &transport{next: carrier, closeIdle: base.CloseIdleConnections}
	config.HTTPClient = &http.Client{Transport: metadataTransport{sending}}
	instructions, _ := lru.New[string, []byte](maxInstructions) // it fails only without a size
	client := &Client{
		config: config, transport: sending, close: base.CloseIdleConnections, instructions: instructions, tables: c.Tables,
		names: c.Models, armor: c.Armor, breakers: make(map[string]*breaker.Breaker, len(c.Models)+len(c.Allowed)),
	}
	for _, name := range slices.Concat(c.Models, c.Allowed) {
		settings := breaker.Settings{Failures: c.BreakerFailures, Cooldown: c.BreakerCooldown}
		if c.OnBreaker != nil {
			settings.OnChange = func(state breaker.State) { c.OnBreaker(name, state) }
		}
		client.breakers[name] = breaker.New(settings)
	}
	client.fair = fairSilence
	if c.Timeout > 0 {
		client.fair = min(client.fair, c.Timeout/2)
	}
	client.budget.fill()
	if err := client.SetKey(ctx, c.APIKey); err != nil {
		return nil, err
	}
	return client, nil
}

// ErrNoKey is the error of every call while the key of the Developer API is
// withdrawn.
var ErrNoKey = errors.New("the key of the model's API is withdrawn")

// SetKey makes the calls to come use another key of the Developer API; those
// under way keep theirs. Without a key the calls to come fail with [ErrNoKey]. With
// Vertex AI there is none, and key is ignored.
func (c *Client) SetKey(ctx context.Context, key string) error {
	config := c.config
	if key == "" && config.Backend == genai.BackendGeminiAPI && c.sdk.Load() != nil {
		c.withdrawn.Store(true)
		return nil
	}
	if config.Backend == genai.BackendGeminiAPI {
		config.APIKey = key
	}
	sdk, err := newSDK(ctx, config)
	if err != nil {
		// The SDK's own text prints its whole configuration, the key included.
		return errors.New("genai refused the configuration of its client: is the key, or the project and location, set?")
	}
	c.sdk.Store(sdk)
	c.withdrawn.Store(false)
	return nil
}

// States returns the state of each model's breaker.
func (c *Client) States() map[string]breaker.State {
	states := make(map[string]breaker.State, len(c.breakers))
	for name, b := range c.breakers {
		states[name] = b.State()
	}
	return states
}

// Close closes idle connections.
func (c *Client) Close() { c.close() }

// authorize adds Application Default Credentials to base.
func authorize(base *http.Transport) (http.RoundTripper, error) {
	creds, err := credentials.DetectDefault(&credentials.DetectOptions{
		Scopes: []string{"https://www.googleapis.com/auth/cloud-platform"},
	})
	if err != nil {
		return nil, fmt.Errorf("finding credentials for Vertex AI: %w", err)
	}
	client := &http.Client{Transport: base}
	if err := httptransport.AddAuthorizationMiddleware(client, creds); err != nil {
		return nil, fmt.Errorf("using credentials for Vertex AI: %w", err)
	}
	return client.Transport, nil
}

// A Request is one call of the model. Nothing in it is changed.
type Request struct {
	Model       string
	Alone       bool // no other model may stand in
	Instruction string
	History     []json.RawMessage // earlier turns' contents, each a JSON array of genai.Content
	Exact       bool              // History has nothing that [Restore] would put back
	Contents    []*genai.Content  // what follows on them
	// Files are the contents of files that History and Contents refer to by these
	// addresses, of those that are sent with the request.
	Files       map[string]*genai.Blob
	Tools       Tools    // from [Declare]; zero when the model may call none
	Temperature *float64 // 0 to 2; nil: the model's own
	MaxTokens   int      // of output
	// Settings are the agent's, as [CheckSettings] takes them, without those above; nil
	// for none.
	Settings *genai.GenerateContentConfig
	// Schema is the JSON schema that the answer must fit; nil for text.
	Schema json.RawMessage

	// PromptTokens estimates the tokens of all that is asked: what an attempt costs
	// whose answer has no counts.
	PromptTokens int
	// Again, if set, is called before each attempt that comes after one that has cost
	// something, with the most tokens that the attempt may cost. Its error ends the call.
	Again func(ctx context.Context, tokens int) error

	// OnPart, if set, is called in a stream for each part that is not the answer's
	// text, as it comes and in order with the text: a thought's summary, code and its
	// result, a call of one of Gemini's own tools. Its error ends the call.
	OnPart func(model string, p *genai.Part) error

	// Restart, if set, is called before an attempt that comes after one which has passed
	// on text or parts: all of it is void. Without it, or with TextStays, an attempt that
	// has passed on text is the last.
	Restart   func()
	TextStays bool // text that was passed on cannot be taken back

	Thinking models.Level // or the nearest that the model has; "" is its lowest

	repair repair // the form in which History and Contents are sent
	roomy  bool   // makeRoom has been called
}

// An Answer is what the model returned for one [Request].
type Answer struct {
	Asked   string         // the model that was asked
	Model   string         // that answered, by its own word
	Ignored []string       // settings of the request's that the model does not take
	Content *genai.Content // as the model returned it; nil if it returned nothing
	Finish  genai.FinishReason
	Blocked string // why the prompt was refused, "" when it was not
	// FileTokens are the tokens of the prompt that are not text, by the model's count; 0
	// when it does not report it.
	FileTokens int64
	Usage      session.Usage // of all attempts, each priced by itself; zero when none began
	Spent      []Spent       // the same, by attempt
	Attempts   int           // over all models; 0 when their breakers are open

	// Grounding is what Gemini's own tools brought back; nil for nothing.
	Grounding *Grounding

	// Substituted: the upstream let another model answer than it was asked for.
	Substituted bool
}

// Spent is what one attempt has cost.
type Spent struct {
	Model string // that answered, or was asked
	Usage session.Usage
}

// Text joins the answer's text, without the thoughts.
func (a *Answer) Text() string {
	if a.Content == nil {
		return ""
	}
	texts := make([]string, 0, 8) // usually on the stack, and of one text there is no copy
	for _, p := range a.Content.Parts {
		if text := partText(p); text != "" {
			texts = append(texts, text)
		}
	}
	return strings.Join(texts, "")
}

func partText(p *genai.Part) string {
	if p.Thought {
		return ""
	}
	return p.Text
}

// HasFiles reports whether the model made files, apart from what it drew while it thought.
func (a *Answer) HasFiles() bool {
	return a.Content != nil && slices.ContainsFunc(a.Content.Parts, func(p *genai.Part) bool {
		return !p.Thought && (p.InlineData != nil && len(p.InlineData.Data) > 0 || p.FileData != nil)
	})
}

// Calls lists the functions that the model wants called.
func (a *Answer) Calls() []*genai.FunctionCall { return Calls(a.Content) }

// Calls lists the functions that the model wants called by a content, nil for none.
func Calls(content *genai.Content) (calls []*genai.FunctionCall) {
	if content == nil {
		return nil
	}
	for _, p := range content.Parts {
		if p.FunctionCall != nil {
			calls = append(calls, p.FunctionCall)
		}
	}
	return calls
}
