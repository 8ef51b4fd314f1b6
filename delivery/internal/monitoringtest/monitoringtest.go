// Package monitoringtest is a stand-in for Cloud Monitoring's Prometheus API with the
// two queries of the delivery: a revision's number of requests and their latency.
package monitoringtest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// Figures are the figures of a revision.
type Figures struct {
	OK, Refused, Failed int
	P95                 float64 // milliseconds
}

// A Server answers queries with given figures. It is safe for concurrent use.
type Server struct {
	URL string

	mu     sync.Mutex
	of     func(revision string) (Figures, bool)
	status int
	asked  int
}

// New starts a server until t ends. of returns a revision's figures, and false if it
// has none.
func New(t testing.TB, of func(revision string) (Figures, bool)) *Server {
	s := &Server{of: of, status: http.StatusOK}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	s.URL = server.URL
	return s
}

// Answer sets the status of all responses.
func (s *Server) Answer(status int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.status = status
}

// Asked returns the number of queries.
func (s *Server) Asked() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked
}

var (
	path      = regexp.MustCompile(`^/v1/projects/[a-z0-9-]+/location/global/prometheus/api/v1/query$`)
	counts    = regexp.MustCompile(`^sum by \(response_code_class\) \(increase\(run_googleapis_com:request_count(\{.*\})\[\d+s\]\)\)$`)
	latencies = regexp.MustCompile(`^histogram_quantile\(0\.95, sum by \(le\) \(increase\(run_googleapis_com:request_latencies_bucket(\{.*\})\[\d+s\]\)\)\)$`)
	selector  = regexp.MustCompile(`^\{monitored_resource="cloud_run_revision",location="[a-z0-9-]+",service_name="[a-z-]+",revision_name="([^"]+)"\}$`)
)

// ServeHTTP rejects everything but the two queries in their exact form.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked++
	if s.status != http.StatusOK {
		http.Error(w, "no figures today", s.status)
		return
	}
	query := r.PostFormValue("query")
	found := counts.FindStringSubmatch(query)
	count := found != nil
	if !count {
		found = latencies.FindStringSubmatch(query)
	}
	if r.Method != http.MethodPost || !path.MatchString(r.URL.Path) || !strings.HasPrefix(r.Header.Get("Authorization"), "Bearer ") || found == nil {
		http.Error(w, "not a query of ours: "+query, http.StatusBadRequest)
		return
	}
	revision := selector.FindStringSubmatch(found[1])
	if revision == nil {
		http.Error(w, "not a selector of ours: "+found[1], http.StatusBadRequest)
		return
	}
	type result struct {
		Metric map[string]string `json:"metric"`
		Value  [2]any            `json:"value"`
	}
	results := []result{}
	f, ok := s.of(revision[1])
	switch {
	case !ok:
	case count:
		for class, n := range map[string]int{"2xx": f.OK, "4xx": f.Refused, "5xx": f.Failed} {
			results = append(results, result{map[string]string{"response_code_class": class}, [2]any{1, strconv.Itoa(n)}})
		}
	case f.P95 == 0: // no quantile without data
		results = append(results, result{map[string]string{}, [2]any{1, "NaN"}})
	default:
		results = append(results, result{map[string]string{}, [2]any{1, fmt.Sprint(f.P95)}})
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"status": "success", "data": map[string]any{"resultType": "vector", "result": results}})
}
