package agent

// A Status is how the running deployment is. What is not known is left out.
type Status struct {
	// Status is "healthy", "degraded" or "unhealthy".
	Status string `json:"status"`
	// Environment is "production", "development" or the value of ENVIRONMENT.
	Environment string `json:"environment"`
	// Service, Version and Revision name what is running: the service, the version of
	// the gate and the deployed revision.
	Service  string `json:"service"`
	Version  string `json:"version"`
	Revision string `json:"revision"`
	// Uptime is how long this instance has been running, for people ("3h2m5s");
	// UptimeSeconds is the same in whole seconds.
	Uptime        string `json:"uptime"`
	UptimeSeconds int64  `json:"uptime_seconds"`
	// SessionStore is what keeps sessions: "firestore", "memory", or "custom" for the
	// store of gate.Store.
	SessionStore string `json:"session_store"`
	// Model is the model that answers, such as "gemini-3.5-flash-lite".
	Model string `json:"model"`
	// Traffic is what the whole service answered lately; nil when that is not known.
	*Traffic
	// Breakers are by model whether it is being called.
	Breakers []Breaker `json:"breakers,omitempty"`
	// Dependencies are what the service relies on, as last probed.
	Dependencies []Dependency `json:"dependencies"`
}

// Traffic is what all instances answered in the last five minutes.
type Traffic struct {
	// ErrorRate, from 0 to 1, is the share that the service failed, without what
	// callers did wrong.
	ErrorRate float64 `json:"error_rate"`
	// RequestCount and ErrorCount are how many requests there were, and how many
	// the service failed.
	RequestCount int64 `json:"request_count"`
	ErrorCount   int64 `json:"error_count"`
}

// A Breaker keeps a failing model from being called for a while.
type Breaker struct {
	// Model is the model that it is for, such as "gemini-3.5-flash-lite".
	Model string `json:"name"`
	// State is "closed" (the model is called), "open" (it is not) or "half_open" (it
	// is tried again): the worst of all instances.
	State string `json:"state"`
}

// A Dependency is something that the service relies on, such as its session
// store.
type Dependency struct {
	Name string `json:"name"`
	// Status is "healthy", "degraded" or "unhealthy".
	Status string `json:"status"`
	// LatencyMS is how long the last probe took, in milliseconds.
	LatencyMS int64 `json:"latency_ms"`
	// Error is what is wrong, in words fit for any caller; empty when nothing is.
	Error string `json:"error,omitempty"`
}
