package model

import (
	"encoding/json"
	"math"
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

// settings are r's for the SDK: what the profile of r's model takes and
// nothing else. ignored are the settings of r's that it does not take, or not as
// they are. Of a model without a profile little is known, so it gets what every
// model takes.
func (c *Client) settings(r *Request) (settings *genai.GenerateContentConfig, ignored []string) {
	settings = &genai.GenerateContentConfig{}
	if r.Settings != nil {
		*settings = *r.Settings
	}
	own := settings.ThinkingConfig
	settings.MaxOutputTokens, settings.Temperature, settings.ThinkingConfig = int32(r.MaxTokens), nil, nil
	if settings.ModelArmorConfig == nil {
		settings.ModelArmorConfig = c.armor
	}
	if r.Schema != nil {
		settings.ResponseMIMEType, settings.ResponseJsonSchema = "application/json", r.Schema
	}
	profile := c.tables.Table().Model(r.Model)
	takesSampling := profile != nil && profile.Sampling == models.SamplingTaken
	if !takesSampling {
		settings.TopP, settings.TopK, settings.PresencePenalty, settings.FrequencyPenalty = nil, nil, nil, nil
	}
	if r.Temperature != nil {
		if takesSampling {
			settings.Temperature = new(float32(*r.Temperature))
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
	settings.ThinkingConfig = r.thinking(profile, own)
	return settings, ignored
}

// makeRoom changes r, whose answer used up its tokens before there was any text: as
// little thinking as the model can, and twice the room, or the model's least.
func (c *Client) makeRoom(r *Request) {
	r.roomy, r.Thinking = true, ""
	r.MaxTokens *= 2
	if profile := c.tables.Table().Model(r.Model); profile != nil {
		r.MaxTokens = min(max(r.MaxTokens, profile.LeastOutput), profile.MaxOutput)
	}
}

// thinking is the setting of how a model thinks, nil for one without. own is
// the agent's, nil for none. Thoughts count as output: where they would take the
// answer's room they are as few as the model can.
func (r *Request) thinking(profile *models.Model, own *genai.ThinkingConfig) *genai.ThinkingConfig {
	if profile.Thinking == nil {
		return nil
	}
	config := &genai.ThinkingConfig{IncludeThoughts: own != nil && own.IncludeThoughts}
	level := r.Thinking
	least := r.roomy || r.MaxTokens < profile.LeastOutput
	if own != nil && own.ThinkingBudget != nil && level == "" {
		if budget := *own.ThinkingBudget; profile.Thinking.Budgets != nil && !least {
			lowest := profile.Thinking.Budgets[profile.Level("")]
			if budget >= 0 { // below 0 the model decides
				budget = int32(max(lowest, min(int(budget), r.MaxTokens-profile.LeastOutput)))
			}
			config.ThinkingBudget = &budget
			return config
		}
		level = models.LevelOf(int(*own.ThinkingBudget))
	}
	if least {
		level = ""
	}
	level = profile.Level(level)
	if profile.Thinking.Budgets != nil {
		config.ThinkingBudget = new(int32(profile.Thinking.Budgets[level]))
	} else {
		config.ThinkingLevel = genai.ThinkingLevel(strings.ToUpper(string(level)))
	}
	return config
}

// complete fills in the counts that the model left out of an answer that was heard to
// its end: what its total implies, or an estimate.
func (a *Answer) complete(r *Request) {
	u := &a.Usage
	said := u.ThoughtTokens + u.CompletionTokens
	if u.PromptTokens == 0 {
		if u.PromptTokens = u.TotalTokens - said; u.PromptTokens <= 0 || said == 0 {
			u.PromptTokens, u.Source = int64(r.PromptTokens), session.Estimated
		}
	}
	if said == 0 && a.Content != nil {
		if u.CompletionTokens = u.TotalTokens - u.PromptTokens; u.CompletionTokens <= 0 {
			u.CompletionTokens, u.Source = a.estimate(), session.Estimated
		}
	}
	u.TotalTokens = max(u.TotalTokens, u.PromptTokens+u.ThoughtTokens+u.CompletionTokens)
}

// unheard makes the usage of an answer that was not heard to its end: what was
// reserved for it, for the model may have gone on, or what it counted if that is more.
func (a *Answer) unheard(r *Request) {
	u := &a.Usage
	u.Source = session.Estimated
	u.PromptTokens = max(u.PromptTokens, int64(r.PromptTokens))
	u.CompletionTokens = max(u.CompletionTokens, int64(r.MaxTokens)-u.ThoughtTokens)
	u.TotalTokens = max(u.TotalTokens, u.PromptTokens+u.ThoughtTokens+u.CompletionTokens)
}

// estimate is about how many tokens the answer's parts have.
func (a *Answer) estimate() int64 {
	if a.Content == nil {
		return 0
	}
	bytes := 0
	for _, p := range a.Content.Parts {
		bytes += len(p.Text)
		if p.FunctionCall != nil {
			call, _ := json.Marshal(p.FunctionCall) // the SDK has decoded it: it cannot fail
			bytes += len(call)
		}
	}
	return int64(EstimateTokens(bytes, 0))
}

// price prices what an attempt has cost by the model that answered and the day's
// price.
func (c *Client) price(a *Answer) {
	u := &a.Usage
	u.EstimatedCostUSD = c.tables.Table().Estimate(a.Model, models.Tokens{
		Prompt: u.PromptTokens, Cached: u.CachedTokens, Output: u.CompletionTokens + u.ThoughtTokens,
		Searches: u.SearchQueries, Retrievals: a.Grounding.retrievals(),
	}, time.Now())
}

// usualBytes is how many bytes a token has, about, where no model has counted: four,
// in English and in most scripts of several bytes a character.
const usualBytes = 4

// EstimateTokens returns about how many tokens so many bytes have, of which a token
// has bytesOfToken; 0: as usual.
func EstimateTokens(bytes int, bytesOfToken float64) int {
	if bytesOfToken <= 0 {
		bytesOfToken = usualBytes
	}
	return int(math.Ceil(float64(bytes) / bytesOfToken))
}
