package main

import "maps"

// A target is a server that is measured: a program below this folder, and the
// environment and headers it is run and called with.
type target struct {
	name    string
	program string
	env     map[string]string
	headers []string // of every turn, as "Name: value"
}

// limit is what the others are compared with.
var limit = target{name: "limit", program: "limit", env: map[string]string{"GEMINI_API_KEY": "x"}}

// gatehouses are this project's configurations, of which -configs chooses.
var gatehouses = []target{
	gatehouse("gatehouse", map[string]string{"AUTH": "none"}),
	gatehouse("gatehouse, API key", map[string]string{
		"AUTH": "api_key",
		// The SHA-256 of "benchmark".
		"API_KEYS": `[{"name": "bench", "sha256": "0e89820860c342f2c7ec694d144023b10301c2accdd078cb5167a06d0c3d5bcc", "rate_limit_per_minute": 1000000}]`,
	}, "X-API-Key: benchmark"),
}

// gatehouse is the service with limits that no run reaches, and env.
func gatehouse(name string, env map[string]string, headers ...string) target {
	all := map[string]string{
		"ENVIRONMENT":                  "test",
		"FUNCTION_TARGET":              "invoke",
		"GEMINI_API_KEY":               "x",
		"SESSION_STORE":                "memory",
		"MAX_CONCURRENT":               "10000",
		"RATE_LIMIT_PER_MINUTE":        "1000000",
		"CALLER_RATE_LIMIT_PER_MINUTE": "10000000",
	}
	maps.Copy(all, env)
	return target{name: name, program: "gatehouse", env: all, headers: headers}
}
