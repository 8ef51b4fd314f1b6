package model

import (
	"cmp"
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"google.golang.org/genai"

	"example.com/gatehouse/internal/models"
	"example.com/gatehouse/tool"
)

// A Problem is a setting of an agent's that cannot be.
type Problem struct {
	Field string // such as "Model.TopP"
	Issue string
}

func (p *Problem) Error() string { return p.Field + " " + p.Issue }

// An Agent is what [Client.CheckAgent] checks of one.
type Agent struct {
	Settings *genai.GenerateContentConfig
	Tools    []tool.Tool
	Sets     bool // further functions, known later
}

// CheckAgent returns a [*Problem] for what the models that may answer, their API or the
// service do not take: the first model is the one that usually answers. It calls
// nobody.
func (c *Client) CheckAgent(ctx context.Context, a Agent, names []string) error {
	own := slices.DeleteFunc(slices.Clone(a.Tools), func(t tool.Tool) bool { return t.GeminiTool() == nil })
	if a.Settings == nil && len(own) == 0 {
		return nil
	}
	if a.Settings != nil {
		if p := checkSettings(a.Settings); p != nil {
			return p
		}
		if len(names) > 0 {
			if p := checkProfile(a.Settings, names[0], c.tables.Table().Model(names[0])); p != nil {
				return p
			}
		}
		if c.armor != nil && len(a.Settings.SafetySettings) > 0 && a.Settings.ModelArmorConfig == nil {
			return &Problem{"Model.SafetySettings", "are set beside Model Armor's templates, and Vertex AI takes either; unset one of them"}
		}
	}
	for _, name := range names {
		if p := c.checkTools(a, own, name); p != nil {
			return p
		}
	}
	return c.rehearse(ctx, a.Settings, own)
}

// takenFields are the settings that an agent may have.
var takenFields = map[string]bool{
	"ThinkingConfig": true, "TopP": true, "TopK": true, "StopSequences": true, "Seed": true,
	"PresencePenalty": true, "FrequencyPenalty": true, "SafetySettings": true, "MediaResolution": true,
	"ModelArmorConfig": true, "Labels": true, "ResponseModalities": true, "CandidateCount": true,
}

// insteadOf names what to set in the place of a setting that the service has for itself.
var insteadOf = map[string]string{
	"Temperature":        "set Agent.Temperature, which requests may override",
	"MaxOutputTokens":    "set Agent.MaxTokens, which requests may override",
	"SystemInstruction":  "set Agent.Instruction",
	"Tools":              "set Agent.Tools; tool.Gemini makes tools of Gemini's own",
	"ToolConfig":         "the service runs the tools of Agent.Tools and sets what they need",
	"ResponseSchema":     "set Agent.Output to agent.OutputOf[T]()",
	"ResponseJsonSchema": "set Agent.Output to agent.OutputOf[T]()",
	"ResponseMIMEType":   "set Agent.Output to agent.OutputOf[T]()",
	"CachedContent":      "it would hold another instruction and other tools than the agent's",
	"HTTPOptions":        "how the API is reached is the deployment's: see MODEL, GOOGLE_GEMINI_BASE_URL and GOOGLE_VERTEX_BASE_URL",
	"ServiceTier":        "the price list is that of the standard tier",
}

// checkSettings checks what holds for any model.
func checkSettings(s *genai.GenerateContentConfig) *Problem {
	for field, value := range reflect.ValueOf(*s).Fields() {
		if !value.IsZero() && !takenFields[field.Name] {
			return &Problem{"Model." + field.Name, "must not be set: " + cmp.Or(insteadOf[field.Name], "the service has no use for it")}
		}
	}
	between := func(field string, value *float32, least, most float32) *Problem {
		if value == nil || *value >= least && *value <= most {
			return nil
		}
		return &Problem{"Model." + field, fmt.Sprintf("is %v; set one from %v to %v", *value, least, most)}
	}
	for _, p := range []*Problem{
		between("TopP", s.TopP, 0, 1), between("TopK", s.TopK, 1, 1000),
		between("PresencePenalty", s.PresencePenalty, -2, 2), between("FrequencyPenalty", s.FrequencyPenalty, -2, 2),
	} {
		if p != nil {
			return p
		}
	}
	switch {
	case s.TopK != nil && *s.TopK != float32(int32(*s.TopK)):
		return &Problem{"Model.TopK", fmt.Sprintf("is %v; set a whole number", *s.TopK)}
	case s.ThinkingConfig != nil && s.ThinkingConfig.ThinkingBudget != nil && *s.ThinkingConfig.ThinkingBudget < -1:
		return &Problem{"Model.ThinkingConfig.ThinkingBudget", fmt.Sprintf("is %d; set a number of tokens, or -1 to let the model decide", *s.ThinkingConfig.ThinkingBudget)}
	case s.CandidateCount > 1:
		return &Problem{"Model.CandidateCount", fmt.Sprintf("is %d; one answer is used, and each is paid for", s.CandidateCount)}
	case len(s.StopSequences) > maxStopSequences:
		return &Problem{"Model.StopSequences", fmt.Sprintf("has %d; Gemini takes at most %d", len(s.StopSequences), maxStopSequences)}
	case slices.Contains(s.StopSequences, ""):
		return &Problem{"Model.StopSequences", "has an empty text"}
	case s.ModelArmorConfig != nil && len(s.SafetySettings) > 0:
		return &Problem{"Model.SafetySettings", "are set beside ModelArmorConfig, and Vertex AI takes either"}
	case s.MediaResolution != "" && !slices.Contains([]genai.MediaResolution{genai.MediaResolutionLow, genai.MediaResolutionMedium, genai.MediaResolutionHigh}, s.MediaResolution):
		return &Problem{"Model.MediaResolution", fmt.Sprintf("is %q; use the constants of genai", s.MediaResolution)}
	}
	if armor := s.ModelArmorConfig; armor != nil {
		for _, template := range []string{armor.PromptTemplateName, armor.ResponseTemplateName} {
			if template != "" && !models.IsArmorTemplate(template) {
				return &Problem{"Model.ModelArmorConfig", "names a template that is not projects/PROJECT/locations/LOCATION/templates/TEMPLATE"}
			}
		}
	}
	for _, modality := range s.ResponseModalities {
		if !slices.Contains([]genai.Modality{genai.ModalityText, genai.ModalityImage, genai.ModalityAudio}, genai.Modality(modality)) {
			return &Problem{"Model.ResponseModalities", fmt.Sprintf("has %.40q; use the constants of genai", modality)}
		}
	}
	rated := map[genai.HarmCategory]bool{}
	for _, safety := range s.SafetySettings {
		if safety == nil || !strings.HasPrefix(string(safety.Category), "HARM_CATEGORY_") || safety.Threshold == "" {
			return &Problem{"Model.SafetySettings", "has one without category or threshold; use the constants of genai"}
		}
		if rated[safety.Category] {
			return &Problem{"Model.SafetySettings", fmt.Sprintf("has %s twice; Gemini takes each category once", safety.Category)}
		}
		rated[safety.Category] = true
	}
	return nil
}

// maxStopSequences is Gemini's (https://ai.google.dev/api/generate-content).
const maxStopSequences = 5

// checkProfile checks what holds for one model; of one without a profile, nothing is
// known.
func checkProfile(s *genai.GenerateContentConfig, name string, profile *models.Model) *Problem {
	thinking := s.ThinkingConfig
	if thinking != nil && thinking.ThinkingBudget != nil && thinking.ThinkingLevel != "" {
		return &Problem{"Model.ThinkingConfig", "has a level and a budget; set one of them"}
	}
	if profile == nil {
		return nil
	}
	if profile.Sampling == models.SamplingIgnored && (s.PresencePenalty != nil || s.FrequencyPenalty != nil) {
		field := "Model.PresencePenalty"
		if s.PresencePenalty == nil {
			field = "Model.FrequencyPenalty"
		}
		return &Problem{field, "is an error for " + name + "; unset it, or set MODEL to a model that takes penalties"}
	}
	if thinking == nil || profile.Thinking == nil { // which is left out, as for the offline stand-in
		return nil
	}
	have := profile.Levels()
	switch {
	case thinking.ThinkingLevel != "" && !slices.Contains(have, levelOf(thinking.ThinkingLevel)):
		return &Problem{"Model.ThinkingConfig.ThinkingLevel", fmt.Sprintf("is %s, which is not a level of %s; set one of %v", thinking.ThinkingLevel, name, have)}
	case thinking.ThinkingBudget != nil && profile.Thinking.Budgets == nil:
		return &Problem{"Model.ThinkingConfig.ThinkingBudget", fmt.Sprintf("is set, and %s thinks by levels; set ThinkingLevel to one of %v", name, have)}
	}
	return nil
}

// levelOf is the SDK's level in the table's words.
func levelOf(level genai.ThinkingLevel) models.Level {
	return models.Level(strings.ToLower(string(level)))
}

// ThinkingLevel returns the level of thinking that settings ask for, "" for none or a
// budget.
func ThinkingLevel(settings *genai.GenerateContentConfig) models.Level {
	if settings == nil || settings.ThinkingConfig == nil {
		return ""
	}
	return levelOf(settings.ThinkingConfig.ThinkingLevel)
}

// HasThinkingBudget reports whether settings bound thinking in tokens.
func HasThinkingBudget(settings *genai.GenerateContentConfig) bool {
	return settings != nil && settings.ThinkingConfig != nil && settings.ThinkingConfig.ThinkingBudget != nil
}

// checkTools checks whether a model takes an agent's tools together.
func (c *Client) checkTools(a Agent, own []tool.Tool, name string) *Problem {
	profile := c.tables.Table().Model(name)
	if len(own) == 0 || profile == nil || profile.Combines {
		return nil
	}
	field := fmt.Sprintf("Tools: %s", own[0].Name())
	switch {
	case len(own) < len(a.Tools) || a.Sets:
		return &Problem{field, "is a tool of Gemini's own beside functions, which " + name + " does not take; use a model from Gemini 3 on in MODEL, MODEL_FALLBACKS and MODELS_ALLOWED, or one kind of tool"}
	case c.config.Backend == genai.BackendVertexAI && len(own) > 1 && slices.ContainsFunc(own, func(t tool.Tool) bool { return t.Name() == tool.CodeExecution }):
		return &Problem{field, "is beside code execution, and Vertex AI runs several tools on " + name + " only when all of them search"}
	}
	return nil
}

// Combines reports whether a model takes a schema for its answer beside tools. One
// without a profile may not.
func (c *Client) Combines(name string) bool {
	profile := c.tables.Table().Model(name)
	return profile != nil && profile.Combines
}

// rehearse has the SDK make a request with what it would be given, up to sending it:
// it knows which settings and tools the backend's API has.
func (c *Client) rehearse(ctx context.Context, settings *genai.GenerateContentConfig, own []tool.Tool) error {
	sent := genai.GenerateContentConfig{}
	if settings != nil {
		sent = *settings
	}
	for _, t := range own {
		sent.Tools = append(sent.Tools, t.GeminiTool())
	}
	_, err := c.sdk.Load().make(ctx, "rehearsed", &sent, false)
	if err == nil || ctx.Err() != nil {
		return nil
	}
	field := "Model"
	if settings == nil {
		field = "Tools"
	}
	return &Problem{field, fmt.Sprintf("cannot be sent: %v", err)}
}
