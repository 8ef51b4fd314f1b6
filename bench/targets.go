package main

import (
	"maps"
	"strings"
)

// A target is a server that is measured: a program below this folder, and the
// environment and headers it is run and called with.
type target struct {
	name    string
	program string
	args    []string // $PORT is the port to listen at
	python  *python  // what the program comes from, unless it is one of Go's
	env     map[string]string
	headers []string // of every turn, as "Name: value"
	dialect dialect
	keeps   bool // it has sessions

	held      bool // the budgets hold for it
	emulator  bool // it needs Firestore's emulator
	slow      bool // Firestore and Secret Manager take slowCall a call
	startOnly bool // only its start is measured
}

// standin is the stand-in for the model.
var standin = target{name: "the model itself", program: "standin", dialect: gemini}

// limit is what the others are compared with.
var limit = target{name: "limit", program: "limit", dialect: invoke, env: map[string]string{"GEMINI_API_KEY": "x"}}

// peers are what people would pick instead. Those in Python are measured a second time
// with the faster loop and client that their documentation recommends; LiteLLM comes with both.
var peers = []target{
	{name: "Genkit", program: "genkit", env: map[string]string{"GEMINI_API_KEY": "x"}, dialect: flow},
	{name: "ADK for Go", program: "adk-go", env: map[string]string{"GOOGLE_API_KEY": "x"}, dialect: adkGo, keeps: true},
	adkInPython("ADK for Python", "requirements.txt"),
	adkInPython("ADK for Python, uvicorn[standard], google-genai[aiohttp]", "requirements-fast.txt"),
	fastAPI("FastAPI", "requirements.txt"),
	fastAPI("FastAPI, uvicorn[standard], google-genai[aiohttp]", "requirements-fast.txt"),
	{
		name: "LiteLLM's proxy", program: "litellm", args: []string{"--config", "config.yaml", "--host", "127.0.0.1", "--port", "$PORT"},
		python: &python{"litellm", "requirements.txt"}, dialect: chatCompletions, headers: []string{"Authorization: Bearer sk-benchmark"},
		env: map[string]string{"GEMINI_API_KEY": "x", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}, // the list of prices that it was packed with
	},
}

func adkInPython(name, requirements string) target {
	return target{
		name: name, program: "adk", python: &python{"adk-python", requirements}, dialect: adkPython, keeps: true,
		args: []string{"api_server", "--host", "127.0.0.1", "--port", "$PORT", "--auto_create_session", "--session_service_uri", "memory://", "--artifact_service_uri", "memory://", "."},
		env:  map[string]string{"GOOGLE_API_KEY": "x"},
	}
}

func fastAPI(name, requirements string) target {
	return target{
		name: name, program: "uvicorn", python: &python{"fastapi", requirements}, dialect: invoke, keeps: true,
		args: []string{"app:app", "--host", "127.0.0.1", "--port", "$PORT"}, env: map[string]string{"GOOGLE_API_KEY": "x"},
	}
}

// usual is the deployment that the budgets are about: all on, and the memory
// store.
const usual = "usual: API key, limits, memory store, logs, metrics"

// others are what -configs chooses from, the usual deployment among them: first
// the service put together from ever more of its parts, then the service itself.
var others = []target{
	parts("nothing but the turn", ""),
	parts("+ authentication", "authentication"),
	parts("+ limits", "authentication,limits"),
	parts("+ sessions in memory", "authentication,limits,sessions"),
	parts("+ logs", "authentication,limits,sessions,logs"),
	parts("+ metrics", "authentication,limits,sessions,logs,metrics"),
	gatehouse(usual, nil).withinBudgets(),
	gatehouse("usual + traces and audit log", recorded),
	gatehouse("usual + traces and audit log + Firestore", recorded).onEmulator(),
	gatehouse("usual + Firestore and secrets, 20 ms a call", nil).distant(),
}

// recorded sends traces and audit entries to stand-ins, which run fills in.
var recorded = map[string]string{"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", "LOGGING_ENDPOINT": "", "GOOGLE_CLOUD_PROJECT": "bench"}

// apiKeys holds the SHA-256 of "benchmark".
const apiKeys = `[{"name": "bench", "sha256": "0e89820860c342f2c7ec694d144023b10301c2accdd078cb5167a06d0c3d5bcc", "rate_limit_per_minute": 1000000}]`

const apiKey = "X-API-Key: benchmark"

// parts is the service put together from some of its parts.
func parts(name, some string) target {
	return target{
		name: name, program: "parts", dialect: invoke, headers: []string{apiKey}, keeps: strings.Contains(some, "sessions"),
		env: map[string]string{"GEMINI_API_KEY": "x", "API_KEYS": apiKeys, "PARTS": some},
	}
}

// gatehouse is the service as it is deployed, with limits that no run reaches,
// and env.
func gatehouse(name string, env map[string]string) target {
	all := map[string]string{
		"ENVIRONMENT":                  "test",
		"FUNCTION_TARGET":              "invoke",
		"GEMINI_API_KEY":               "x",
		"AUTH":                         "api_key",
		"API_KEYS":                     apiKeys,
		"SESSION_STORE":                "memory",
		"MAX_CONCURRENT":               "10000",
		"RATE_LIMIT_PER_MINUTE":        "1000000",
		"CALLER_RATE_LIMIT_PER_MINUTE": "10000000",
	}
	maps.Copy(all, env)
	return target{name: name, program: "gatehouse", dialect: invoke, env: all, headers: []string{apiKey}, keeps: true}
}

func (t target) withinBudgets() target {
	t.held = true
	return t
}

func (t target) onEmulator() target {
	t.emulator = true
	t.env["SESSION_STORE"] = "firestore"
	return t
}

// distant has the keys in Secret Manager and the sessions in Firestore, both as
// far away as a region's services are at worst.
func (t target) distant() target {
	t = t.onEmulator()
	t.slow, t.startOnly = true, true
	delete(t.env, "API_KEYS")
	t.env["API_KEYS_SECRET"] = "projects/bench/secrets/keys/versions/latest"
	return t
}
