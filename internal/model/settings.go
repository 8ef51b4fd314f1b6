package model

import (
	"strings"
	"time"

	"google.golang.org/genai"

	"example.com/gatehouse/internal/models"
	"example.com/gatehouse/session"
)

// The settings of a [Request] that a model may not take.
const (
	SettingTemperature = "temperature"
	SettingMaxTokens   = "max_tokens"
)

// settings are what the SDK is told of r: what the profile of r's model takes and
// nothing else. ignored are the settings of r's that it does not take, or not as
// they are. Of a model without a profile little is known, so it gets what every
// model takes.
func (c *Client) settings(r *Request) (settings *genai.GenerateContentConfig, ignored []string) {
	settings = &genai.GenerateContentConfig{
		MaxOutputTokens: int32(r.MaxTokens),
		// The SDK would ask again by itself, uncounted and unbounded.
		AutomaticContinuation: genai.Ptr(false),
	}
	profile := c.tables.Table().Model(r.Model)
	if r.Temperature != nil {
		if profile != nil && profile.Sampling == models.SamplingTaken {
			settings.Temperature = genai.Ptr(float32(*r.Temperature))
		} else {
			ignored = append(ignored, SettingTemperature)
		}
	}
	if profile == nil {
		return settings, ignored
	}
	if r.MaxTokens > profile.MaxOutput {
		settings.MaxOutputTokens = int32(profile.MaxOutput)
		ignored = append(ignored, SettingMaxTokens)
	}
	level := r.Thinking
	if r.MaxTokens < profile.LeastOutput {
		level = "" // the lowest: thoughts count as output and would take the answer's room
	}
	settings.ThinkingConfig = thinking(profile, profile.Level(level))
	return settings, ignored
}

// thinking is how a model is told to think at a level, nil for one that has none.
func thinking(profile *models.Model, level models.Level) *genai.ThinkingConfig {
	switch {
	case level == "":
		return nil
	case profile.Thinking.Budgets != nil:
		return &genai.ThinkingConfig{ThinkingBudget: genai.Ptr(int32(profile.Thinking.Budgets[level]))}
	}
	return &genai.ThinkingConfig{ThinkingLevel: genai.ThinkingLevel(strings.ToUpper(string(level)))}
}

// charge completes the usage of an attempt that began: estimated where the model
// gave no counts, and priced by the model that answered and the day's price.
func (c *Client) charge(r *Request, a *Answer) {
	u := &a.Usage
	if u.Source != session.Counted {
		u.Source = session.Estimated
		u.PromptTokens = int64(r.PromptTokens())
		u.CompletionTokens = int64(estimateTokens(len(a.Text())))
		u.TotalTokens = u.PromptTokens + u.CompletionTokens
	}
	u.EstimatedCostUSD = c.tables.Table().Estimate(a.Model, models.Tokens{
		Prompt: u.PromptTokens, Cached: u.CachedTokens, Output: u.CompletionTokens + u.ThoughtTokens,
	}, time.Now())
}

// PromptTokens estimates the tokens of what r asks.
func (r *Request) PromptTokens() int {
	bytes := len(r.Instruction)
	for _, turn := range r.History {
		bytes += len(turn)
	}
	for _, content := range r.Contents {
		for _, part := range content.Parts {
			bytes += len(part.Text)
		}
	}
	return estimateTokens(bytes)
}

// estimateTokens returns about how many tokens text of so many bytes has: four
// bytes each, in English and in most scripts of several bytes a character.
func estimateTokens(bytes int) int { return (bytes + 3) / 4 }
