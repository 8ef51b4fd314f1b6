package server

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"example.com/gatehouse/config"
)

// Cloud Run's own URL is made of what the metadata server says, and what is set goes
// before it.
func TestServiceURL(t *testing.T) {
	for _, tt := range []struct {
		name, set, region string
		status            int
		want              string
	}{
		{"as Cloud Run makes it", "", "projects/123456789012/regions/europe-west1", 200, "https://invoke-123456789012.europe-west1.run.app"},
		{"set", "https://agent.example.com", "projects/1/regions/r", 200, "https://agent.example.com"},
		{"another form", "", "europe-west1", 200, ""},
		{"no metadata server", "", "", 500, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			metadata := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/computeMetadata/v1/instance/region" || r.Header.Get("Metadata-Flavor") != "Google" {
					t.Errorf("%s %v", r.URL, r.Header)
				}
				w.WriteHeader(tt.status)
				_, _ = w.Write([]byte(tt.region))
			}))
			defer metadata.Close()
			t.Setenv("GCE_METADATA_HOST", strings.TrimPrefix(metadata.URL, "http://"))
			s := &Server{Config: &config.Config{Service: "invoke", ServiceURL: tt.set}}
			ctx := t.Context()
			got, err := s.serviceURL(ctx)
			if got != tt.want || (err == nil) != (tt.want != "") {
				t.Errorf("%q, %v, want %q", got, err, tt.want)
			}
			if err != nil && unfetched(err)[0] != "SERVICE_URL" {
				t.Errorf("the error names no variable: %v", err)
			}
		})
	}
}
