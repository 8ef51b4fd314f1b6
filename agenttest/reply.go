package agenttest

import (
	"encoding/base64"

	"google.golang.org/genai"

	"example.com/gatehouse/internal/geminitest"
)

// A Reply is the model's response to one request. Make one with [Say], [Call] or [Fail]
// and add to it: a Reply does not change, its methods return others.
//
//	agenttest.Say("42.").Think("6 times 7").Run("print(6*7)", "42")
type Reply struct{ reply geminitest.Reply }

// Say returns a reply of text. In a stream each piece is a chunk.
func Say(pieces ...string) Reply { return Reply{geminitest.Text(pieces...)} }

// Call returns a reply that calls the tool name with args.
func Call(name string, args map[string]any) Reply {
	return Reply{geminitest.Calls(geminitest.FunctionCall{Name: name, Args: args})}
}

// Block returns a reply that refuses the prompt for a reason such as "SAFETY".
func Block(reason string) Reply { return Reply{geminitest.Blocked(reason)} }

// Fail returns an error of the model's API with this status and message.
func Fail(status int, message string) Reply { return Reply{geminitest.Error(status, message)} }

// Hang returns no reply: the model is silent until the service stops waiting.
func Hang() Reply { return Reply{geminitest.Silence()} }

// And adds another call, at the same time.
func (r Reply) And(name string, args map[string]any) Reply {
	return Reply{r.reply.And(geminitest.FunctionCall{Name: name, Args: args}.Part())}
}

// Think adds a summary of the model's thoughts before everything else. Clients see it
// where the agent has ThinkingConfig.IncludeThoughts.
func (r Reply) Think(summary string) Reply { return Reply{r.reply.WithThought(summary)} }

// Run adds, before everything else, code that Gemini runs, and its output.
func (r Reply) Run(code, output string) Reply {
	return Reply{r.reply.Before(geminitest.Code(code, output)...)}
}

// Draw adds a file, such as an image.
func (r Reply) Draw(mediaType string, data []byte) Reply {
	return Reply{r.reply.And(map[string]any{
		"inlineData": map[string]any{"mimeType": mediaType, "data": base64.StdEncoding.EncodeToString(data)},
	})}
}

// A Source is a page that an answer rests on.
type Source struct {
	Title, URI string
	Text       string // of a reply: the part of its text that rests on it; "": not known
}

// Search makes r the answer to what Google Search found for query.
func (r Reply) Search(query string, sources ...Source) Reply {
	found := make([]geminitest.Source, len(sources))
	for i, source := range sources {
		found[i] = geminitest.Source(source)
	}
	return Reply{r.reply.WithSearch([]string{query}, found...)}
}

// Usage is what a reply costs, in tokens. Cached is a part of Prompt.
type Usage struct{ Prompt, Cached, Thoughts, Output int }

// Cost sets what r costs; without it, 10 tokens of the prompt and 5 of the answer.
func (r Reply) Cost(u Usage) Reply { return Reply{r.reply.WithUsage(geminitest.Usage(u))} }

// Finish sets how r ends, as genai.FinishReasonMaxTokens; without it, STOP.
func (r Reply) Finish(reason genai.FinishReason) Reply {
	return Reply{r.reply.WithFinish(string(reason))}
}
