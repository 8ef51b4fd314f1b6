package api_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"example.com/gatehouse/internal/api"
)

func TestNegotiate(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name           string
		accept         []string
		json, stream   bool
		prefersStreams bool
	}{
		{"no header", nil, true, true, false},
		{"an empty header", []string{""}, true, true, false},
		{"white space", []string{" "}, true, true, false},
		{"JSON", []string{"application/json"}, true, false, false},
		{"the stream", []string{"text/event-stream"}, false, true, true},
		{"everything", []string{"*/*"}, true, true, false},
		{"what curl and fetch send", []string{"*/*"}, true, true, false},
		{"what a browser sends for a page", []string{"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"}, true, true, false},
		{"all of application", []string{"application/*"}, true, false, false},
		{"all of text", []string{"text/*"}, false, true, false},
		{"neither", []string{"text/html"}, false, false, false},
		{"an example of RFC 9110", []string{"audio/*; q=0.2, audio/basic"}, false, false, false},
		{"another", []string{"text/*;q=0.3, text/plain;q=0.7, text/plain;format=flowed, text/plain;format=fixed;q=0.4, */*;q=0.5"}, true, true, false},
		{"both, JSON first", []string{"application/json, text/event-stream"}, true, true, false},
		{"both, the stream first", []string{"text/event-stream, application/json"}, true, true, false},
		{"both, the stream better", []string{"application/json;q=0.5, text/event-stream"}, true, true, true},
		{"both, JSON better", []string{"application/json, text/event-stream;q=0.9"}, true, true, false},
		{"both, on two lines", []string{"application/json;q=0.1", "text/event-stream;q=0.2"}, true, true, true},
		{"JSON on the first line of two", []string{"application/json", "text/event-stream;q=0.5"}, true, true, false},
		{"JSON twice, first not at all", []string{"application/json;q=0, application/json"}, true, false, false},
		{"JSON twice, then not at all", []string{"application/json, application/json;q=0"}, true, false, false},
		{"everything twice, first not at all", []string{"*/*;q=0, */*"}, true, true, false},
		{"the stream, and everything", []string{"text/event-stream, */*"}, true, true, true},
		{"the stream, and everything rather", []string{"text/event-stream;q=0.5, */*"}, true, true, false},
		{"the stream by its type alone", []string{"text/*, application/json;q=0.5"}, true, true, false},
		{"the stream not at all", []string{"text/event-stream;q=0, */*"}, true, false, false},
		{"JSON not at all", []string{"application/json;q=0, */*"}, false, true, false},
		{"JSON not at all, the stream by name", []string{"application/json;q=0, text/event-stream"}, false, true, true},
		{"nothing at all", []string{"*/*;q=0"}, false, false, false},
		{"zero with decimals", []string{"application/json;q=0.000"}, false, false, false},
		{"the most specific counts", []string{"*/*;q=1, application/*;q=0.5, application/json;q=0"}, false, true, false},
		{"the most specific counts, in another order", []string{"application/json;q=0, application/*;q=0.5, */*;q=1"}, false, true, false},
		{"capitals", []string{"Application/JSON; Q=1"}, true, false, false},
		{"white space about", []string{" application/json ; q=0.5 ,\ttext/html"}, true, false, false},
		{"a parameter before q", []string{"application/json;v=1;q=0"}, false, false, false},
		{"empty elements", []string{",, application/json,,"}, true, false, false},
		{"a q that is no number", []string{"application/json;q=x"}, false, false, false},
		{"a q above one", []string{"application/json;q=1.5"}, false, false, false},
		{"a q below zero", []string{"application/json;q=-1"}, false, false, false},
		{"a q that is not a number by name", []string{"application/json;q=NaN"}, false, false, false},
		{"a q without end", []string{"application/json;q=Inf"}, false, false, false},
		{"an empty q", []string{"application/json;q="}, false, false, false},
		{"a broken q, and a good one", []string{"application/json;q=x, application/json"}, true, false, false},
		{"no number, and a good one", []string{"application/json;q=NaN, application/json"}, true, false, false},
		{"nonsense", []string{"json"}, false, false, false},
		{"a wildcard in the wrong place", []string{"*/json"}, false, false, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := request(t, http.MethodGet, "/")
			r.Header["Accept"] = tt.accept
			json, stream, prefers := api.Negotiate(r)
			if json != tt.json || stream != tt.stream || prefers != tt.prefersStreams {
				t.Errorf("json %t, stream %t, preferred %t; want %t, %t, %t", json, stream, prefers, tt.json, tt.stream, tt.prefersStreams)
			}
		})
	}
}

func TestPrefersHTML(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		accept []string
		want   bool
	}{
		{"a browser's", []string{"text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8"}, true},
		{"HTML alone", []string{"text/html"}, true},
		{"HTML in capitals, with a parameter", []string{"Text/HTML; charset=utf-8"}, true},
		{"HTML in a second header", []string{"application/xml", "text/html"}, true},
		{"HTML and JSON alike", []string{"application/json, text/html"}, true},
		{"JSON rather than HTML", []string{"text/html;q=0.5, application/json"}, false},
		{"everything rather than HTML", []string{"text/html;q=0.5, */*"}, false},
		{"everything, as curl", []string{"*/*"}, false},
		{"all text", []string{"text/*"}, false},
		{"JSON", []string{"application/json"}, false},
		{"anything but HTML", []string{"text/html;q=0, */*"}, false},
		{"HTML with a weight that cannot be read", []string{"text/html;q=much, */*"}, false},
		{"nothing said", nil, false},
		{"nothing in it", []string{""}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
			r.Header["Accept"] = tt.accept
			if got := api.PrefersHTML(r); got != tt.want {
				t.Errorf("%t, want %t", got, tt.want)
			}
		})
	}
}
