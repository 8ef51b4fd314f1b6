package model_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"example.com/gatehouse/internal/breaker"
	"example.com/gatehouse/internal/model"
)

// canned answers every request alike, at next to no cost.
type canned struct {
	status int
	body   string
}

func (c canned) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: c.status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(c.body)), Request: r}, nil
}

func benchClient(b *testing.B, t http.RoundTripper, models ...string) *model.Client {
	return newClient(b, model.Config{
		APIKey: apiKey, BaseURL: "http://gemini.test", Transport: t,
		Models: models, BreakerFailures: 5, BreakerCooldown: time.Hour,
	})
}

// What the breaker and its company cost a call that goes well.
func BenchmarkGenerate(b *testing.B) {
	for _, tt := range []struct {
		name   string
		models []string
	}{{"without a breaker", nil}, {"with a breaker", []string{first}}, {"with stand-ins", []string{first, second, third}}} {
		for _, form := range forms {
			b.Run(tt.name+"/"+form.name, func(b *testing.B) {
				body := form.wire(good("Hello."))
				c := benchClient(b, canned{200, body}, tt.models...)
				b.ReportAllocs()
				for b.Loop() {
					if _, err := generate(b.Context(), c, form.stream); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

// How long a call takes that is refused because the breaker is open.
func BenchmarkOpenBreaker(b *testing.B) {
	c := benchClient(b, canned{503, ""}, first)
	for c.States()[first] != breaker.Open {
		_, _ = generate(b.Context(), c, false)
	}
	r := question()
	b.ReportAllocs()
	b.ResetTimer()
	for b.Loop() {
		_, err := c.Generate(b.Context(), r, nil)
		if _, ok := errors.AsType[*model.Error](err); !ok {
			b.Fatal(err)
		}
	}
}
