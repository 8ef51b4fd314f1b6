// Command parts is the service put together from a part of its parts, those that
// PARTS names: so each one's cost can be measured. Nothing that is deployed can leave
// them out, and what is measured for the budgets is never this program.
package main

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/GoogleCloudPlatform/functions-framework-go/funcframework"

	"example.com/gatehouse/advisor"
	"example.com/gatehouse/agent"
	"example.com/gatehouse/bench/internal/control"
	"example.com/gatehouse/internal/access"
	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/auth"
	"example.com/gatehouse/internal/drain"
	"example.com/gatehouse/internal/garbage"
	"example.com/gatehouse/internal/limit"
	"example.com/gatehouse/internal/middleware"
	"example.com/gatehouse/internal/model"
	"example.com/gatehouse/internal/telemetry"
	"example.com/gatehouse/invoke"
	"example.com/gatehouse/session"
)

func main() {
	control.Start()
	garbage.CollectAbove(garbage.Room) // as gate.Register does
	h, err := build(strings.Split(os.Getenv("PARTS"), ","))
	if err != nil {
		log.Fatal(err)
	}
	if err := funcframework.RegisterHTTPFunctionContext(context.Background(), "/", h.ServeHTTP); err != nil {
		log.Fatal(err)
	}
	log.Fatal(funcframework.StartHostPort("127.0.0.1", os.Getenv("PORT")))
}

const modelName = "gemini-2.5-flash"

// build puts the named parts together, each as package service has it.
func build(parts []string) (http.Handler, error) {
	has := func(part string) bool { return slices.Contains(parts, part) }
	logger := telemetry.Discard()
	if has("logs") {
		logger = telemetry.NewLogger(os.Stdout, slog.LevelInfo, telemetry.Source{Service: "parts", Version: "1"})
	}
	client, err := model.New(context.Background(), model.Config{
		APIKey: os.Getenv("GEMINI_API_KEY"), BaseURL: os.Getenv("GOOGLE_GEMINI_BASE_URL"), Loopback: true,
		Models: []string{modelName}, BreakerFailures: 5, BreakerCooldown: time.Minute,
	})
	if err != nil {
		return nil, err
	}
	ours, err := advisor.New(context.Background(), agent.Env{})
	if err != nil {
		return nil, err
	}
	in := invoke.Config{
		Agent: ours, Model: client, ModelName: modelName, Store: forgetful{session.NewMemory(time.Hour, session.MemoryLimit, time.Now, logger)},
		Timeout: 30 * time.Second, MaxBodyBytes: 128 << 10, MaxOutputTokens: 4096, HistoryTokens: 32000, MaxToolRounds: 8,
		Log: logger, Now: time.Now,
	}
	before := middleware.Config{Log: logger, Gate: &drain.Gate{}, Now: time.Now, Authenticator: auth.New(&auth.None{})}
	if has("authentication") {
		keys, err := access.ParseKeys([]byte(os.Getenv("API_KEYS")))
		if err != nil {
			return nil, err
		}
		before.Authenticator = auth.New(auth.NewAPIKeys(func() *access.KeySet { return keys }, nil))
	}
	if has("limits") {
		before.MaxConcurrent = 10_000
		before.Limits = limit.Limits{PerMinute: 1_000_000, CallerPerMinute: 10_000_000}
		before.Limiter = limit.New(limit.Config{Counters: limit.NewMemory(time.Now), MaxInstances: 10, Now: time.Now, Log: logger})
		in.Limiter, in.Limits = before.Limiter, before.Limits
	}
	if has("sessions") {
		in.Store = session.NewMemory(time.Hour, session.MemoryLimit, time.Now, logger)
	}
	if has("metrics") {
		settings, err := telemetry.Parse(os.LookupEnv)
		if err != nil {
			return nil, err
		}
		before.Observer, err = telemetry.New(settings, telemetry.Config{
			Service: "parts", Version: "1", Routes: []string{"POST /"}, Codes: api.Codes(), Models: []string{modelName}, Log: logger,
		})
		if err != nil {
			return nil, err
		}
		in.Observer = before.Observer
	}
	live := api.Route{
		Method: http.MethodGet, Path: "/health/live", Public: true, Probe: true,
		Handler: func(http.ResponseWriter, *http.Request) error { return nil }, // 200
	}
	return middleware.New(before, append(invoke.New(in).Routes(), live)), nil
}

// A forgetful store takes what is stored of new sessions and their runs, and keeps none of
// it: the store in it is empty.
type forgetful struct{ session.Store }

func (forgetful) Apply(_ context.Context, s *session.Session, c session.Change) (*session.Session, error) {
	if c.Turn == nil {
		return nil, fmt.Errorf("a forgetful store keeps no keys: %w", session.ErrUnavailable)
	}
	after := *s
	after.Turns++
	return &after, nil
}

func (forgetful) SaveRun(_ context.Context, r *session.Run) (*session.Run, error) { return r, nil }
