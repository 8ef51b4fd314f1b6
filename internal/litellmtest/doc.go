// Package litellmtest proves the recipe of docs/other-models.md: the gate on a model
// with OpenAI's API, behind the real LiteLLM proxy, whose upstream is a stand-in on
// the wire.
package litellmtest
