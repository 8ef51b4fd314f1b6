package advisor

import (
	"context"
	"fmt"

	"example.com/gatehouse/tool"
)

// A PracticeCategory holds what to do about one concern of production.
type PracticeCategory struct {
	Category  string     `json:"category"`
	Summary   string     `json:"summary"`
	Practices []Practice `json:"practices"`
}

// A Practice is one thing to do, and what goes wrong without it.
type Practice struct {
	Practice string `json:"practice"`
	Why      string `json:"why"`
}

// bestPracticesIn are the arguments of get_best_practices.
type bestPracticesIn struct {
	Category string `json:"category,omitempty" jsonschema:"the one category to return; leave it out to get all of them"`
}

// bestPracticesOut is the output of get_best_practices.
type bestPracticesOut struct {
	Categories []PracticeCategory `json:"categories"`
}

func bestPracticesTool() tool.Tool {
	var names []string
	for _, c := range bestPractices {
		names = append(names, c.Category)
	}
	return tool.New("get_best_practices",
		"Returns best practices for running an AI agent in production on Cloud Run with Firestore and Gemini, by category, each with its reason.",
		getBestPractices, tool.Enum("category", names...))
}

func getBestPractices(_ context.Context, in bestPracticesIn) (bestPracticesOut, error) {
	if in.Category == "" {
		return bestPracticesOut{Categories: bestPractices}, nil
	}
	for _, c := range bestPractices {
		if c.Category == in.Category {
			return bestPracticesOut{Categories: []PracticeCategory{c}}, nil
		}
	}
	return bestPracticesOut{}, fmt.Errorf("there is no category %q", in.Category)
}

var bestPractices = []PracticeCategory{
	{
		Category: "security",
		Summary:  "Know who calls, give every part the least it needs, and treat what the model reads and writes as untrusted.",
		Practices: []Practice{
			{
				"Put IAM in front of the service, or verify OIDC tokens in it: signature, issuer, audience and expiry.",
				"An open endpoint lets anybody spend your model budget.",
			},
			{
				"Derive a session's owner from the verified identity, never from an ID in the request.",
				"Otherwise whoever guesses or copies an ID reads another user's conversation.",
			},
			{
				"Run each service under a service account of its own, with only the roles it needs on only its resources.",
				"A flaw in one service, or a prompt that misuses a tool, then reaches no further than that service may.",
			},
			{
				"Keep API keys in Secret Manager, and prefer Vertex AI with the service account, which needs no key.",
				"Keys in code, images or plain environment variables leak, and changing them takes a deploy.",
			},
			{
				"Allow exact CORS origins only, never * together with credentials.",
				"A page from anywhere could otherwise act with its visitor's rights.",
			},
			{
				"Never log prompts and answers by default; hash user and session IDs in log lines.",
				"People type personal data and secrets into agents, and logs are read more widely and kept longer than sessions.",
			},
			{
				"Check a tool's arguments against a schema, let the tool act with the user's rights, and ask for approval before what cannot be undone.",
				"Text that the model has read may carry instructions: its calls are no more trustworthy than its input.",
			},
		},
	},
	{
		Category: "monitoring",
		Summary:  "Measure what users feel and what the model costs, and let one request be followed through all of its parts.",
		Practices: []Practice{
			{
				"Write structured JSON logs in Cloud Logging's field names, with the trace of the request on each line.",
				"One request's lines, model calls and tool calls are then found together.",
			},
			{
				"Define SLOs for availability and latency, and alert on how fast their error budget burns.",
				"Alerts on single errors wake people for nothing; alerts on averages come too late.",
			},
			{
				"Record tokens, estimated cost and latency for each model call and each tool call, by model.",
				"Cost and slowness come from long histories, retries and tool loops, which request counts don't show.",
			},
			{
				"Ping a health endpoint on a schedule that really probes the session store and the model.",
				"With little traffic, users would be the first to notice an outage.",
			},
			{
				"Export telemetry at the end of a request and on SIGTERM, not from a background timer, unless CPU is always allocated.",
				"With request-based billing a Cloud Run instance has next to no CPU between requests, so background exports stall or are lost.",
			},
		},
	},
	{
		Category: "scalability",
		Summary:  "Keep instances alike and replaceable, share what is expensive, and set a limit on everything that can grow.",
		Practices: []Practice{
			{
				"Keep instances stateless: sessions live in a store such as Firestore and are read at each turn.",
				"A user's next call may reach another instance, and any instance may vanish at any time.",
			},
			{
				"Set concurrency, and a maximum of instances, from measurements.",
				"An agent mostly waits for its model, so one instance serves many calls; without a maximum, a burst becomes a bill.",
			},
			{
				"Limit calls per user and per minute, and model tokens per day, counted across all instances.",
				"Limits in one instance's memory multiply with the number of instances.",
			},
			{
				"Create one model client per process, with a connection pool as large as the concurrency.",
				"A client per request pays for credentials and TLS handshakes each time, and a small pool makes calls open new connections.",
			},
			{
				"Bound the history sent to the model, cutting at whole turns and never between a tool call and its response.",
				"Prompts otherwise grow with every turn, and a torn pair of call and response is refused by the model.",
			},
			{
				"Keep one document per session, exempt long fields from indexes, and write it once a turn.",
				"Firestore sustains about one write a second to a document, limits it to 1 MiB, and charges for every write.",
			},
		},
	},
	{
		Category: "reliability",
		Summary:  "Assume that the model is slow, the network fails and callers repeat themselves, and lose no acknowledged turn over it.",
		Practices: []Practice{
			{
				"Give everything a timeout: the request, each model call, each tool, each store operation.",
				"One call that hangs otherwise holds its request, and then its instance.",
			},
			{
				"Retry 429 and 5xx in one place, with backoff and jitter, within the request's deadline, and only before the first byte went to the client.",
				"Retries in several layers multiply under load, and a retry in mid-stream repeats text that the user has already seen.",
			},
			{
				"Accept an idempotency key, and store it with the turn.",
				"A client whose connection broke can try again without a second turn or a second charge.",
			},
			{
				"Put a circuit breaker around each model, and have a fallback model.",
				"When a model is down, callers get a quick answer instead of a queue of timeouts, and the model can recover.",
			},
			{
				"Write sessions under a precondition, such as the document's last update time, and try again on conflict.",
				"Of two calls at once on one session, the later write would otherwise erase the earlier turn.",
			},
			{
				"Roll out gradually: deploy without traffic, run a smoke test, shift traffic in steps, and go back by itself when errors rise.",
				"A changed prompt or model misbehaves in ways that tests before the deploy don't show.",
			},
			{
				"On SIGTERM refuse new work, finish what is running, flush telemetry, and exit within 10 seconds.",
				"Cloud Run kills the instance after that, in the middle of its work.",
			},
		},
	},
}
