package offline

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// The part of the Gemini API's JSON that is read and written here
// (https://ai.google.dev/api/generate-content). Unknown members are skipped.

type request struct {
	Contents          []content         `json:"contents"`
	SystemInstruction *content          `json:"systemInstruction"`
	Tools             []json.RawMessage `json:"tools"`
	ToolConfig        struct {
		FunctionCallingConfig struct {
			Mode                 string   `json:"mode"`
			AllowedFunctionNames []string `json:"allowedFunctionNames"`
		} `json:"functionCallingConfig"`
	} `json:"toolConfig"`
	GenerationConfig struct {
		MaxOutputTokens int `json:"maxOutputTokens"`
	} `json:"generationConfig"`
}

type content struct {
	Role  string `json:"role,omitempty"`
	Parts []part `json:"parts"`
}

type part struct {
	Text             *string           `json:"text,omitempty"`
	Thought          bool              `json:"thought,omitempty"`
	FunctionCall     *functionCall     `json:"functionCall,omitempty"`
	FunctionResponse *functionResponse `json:"functionResponse,omitempty"`
	InlineData       json.RawMessage   `json:"inlineData,omitempty"`
	FileData         json.RawMessage   `json:"fileData,omitempty"`
}

type functionCall struct {
	ID   string          `json:"id,omitempty"`
	Name string          `json:"name"`
	Args json.RawMessage `json:"args"`
}

type functionResponse struct {
	ID       string          `json:"id,omitempty"`
	Name     string          `json:"name"`
	Response json.RawMessage `json:"response"`
}

type generateResponse struct {
	Candidates    []candidate `json:"candidates"`
	UsageMetadata usage       `json:"usageMetadata"`
	ModelVersion  string      `json:"modelVersion"`
	ResponseID    string      `json:"responseId"`
}

type candidate struct {
	Content       content `json:"content"`
	FinishReason  string  `json:"finishReason,omitempty"`
	Index         int     `json:"index"`
	FinishMessage string  `json:"finishMessage,omitempty"`
}

type usage struct {
	PromptTokenCount     int `json:"promptTokenCount"`
	CandidatesTokenCount int `json:"candidatesTokenCount"`
	TotalTokenCount      int `json:"totalTokenCount"`
}

// An answer is either text or calls.
type answer struct {
	text   string
	calls  []call
	finish string // a finishReason
	tokens int
}

// A call is a declared function with the arguments found for it.
type call struct {
	name string
	args map[string]any
}

// A generation is an answer with what the wire tells beside it.
type generation struct {
	id     string
	prompt int // tokens
	answer answer
}

func (g generation) whole() generateResponse {
	c := candidate{FinishReason: g.answer.finish}
	if len(g.answer.calls) > 0 {
		c.FinishMessage = "Model generated function call(s)."
	}
	c.Content = content{Role: "model", Parts: g.answer.parts()}
	return g.response(c, g.answer.tokens)
}

func (g generation) response(c candidate, tokens int) generateResponse {
	return generateResponse{
		Candidates:    []candidate{c},
		UsageMetadata: usage{g.prompt, tokens, g.prompt + tokens},
		ModelVersion:  Model,
		ResponseID:    g.id,
	}
}

// parts leaves out the calls' ids, as Gemini 2.5 does.
func (a answer) parts() []part {
	if len(a.calls) == 0 {
		return []part{{Text: &a.text}}
	}
	parts := make([]part, len(a.calls))
	for i, c := range a.calls {
		parts[i].FunctionCall = &functionCall{Name: c.name, Args: encode(c.args)}
	}
	return parts
}

// encode is for values made in this package, which JSON can always hold.
func encode(v any) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(fmt.Sprintf("offline: encoding an answer: %v", err))
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// decode keeps numbers as they were written; what is no JSON becomes nil.
func decode(raw json.RawMessage) any {
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil
	}
	return v
}
