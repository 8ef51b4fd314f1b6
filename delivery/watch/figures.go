package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// A monitoring reads Cloud Run's figures of a service from Cloud Monitoring's
// Prometheus API.
type monitoring struct {
	endpoint, token          string
	project, region, service string
}

// figures returns a revision's figures for the time of length before now.
func (m *monitoring) figures(ctx context.Context, revision string, now time.Time, length time.Duration) (figures, error) {
	selector := fmt.Sprintf(`{monitored_resource="cloud_run_revision",location=%q,service_name=%q,revision_name=%q}[%ds]`,
		m.region, m.service, revision, int(length.Seconds()))
	counts, err := m.query(ctx, now, `sum by (response_code_class) (increase(run_googleapis_com:request_count`+selector+`))`)
	if err != nil {
		return figures{}, err
	}
	var f figures
	for class, n := range counts {
		f.requests += n
		switch class {
		case "4xx":
			f.refused += n
		case "5xx":
			f.failed += n
		}
	}
	latencies, err := m.query(ctx, now, `histogram_quantile(0.95, sum by (le) (increase(run_googleapis_com:request_latencies_bucket`+selector+`)))`)
	if err != nil {
		return figures{}, err
	}
	f.p95 = latencies[""]
	return f, nil
}

// maxAnswer bounds a response, in bytes.
const maxAnswer = 1 << 20

// query returns the values of a PromQL expression at a time, by the label
// response_code_class if present. It drops values that are not numbers.
func (m *monitoring) query(ctx context.Context, at time.Time, expression string) (map[string]float64, error) {
	form := url.Values{"query": {expression}, "time": {at.UTC().Format(time.RFC3339)}}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost,
		m.endpoint+"/v1/projects/"+url.PathEscape(m.project)+"/location/global/prometheus/api/v1/query", strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Authorization", "Bearer "+m.token)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("cloud monitoring answered %s: %.300s", response.Status, body)
	}
	var answer struct {
		Status string `json:"status"`
		Data   *struct {
			Result []struct {
				Metric map[string]string `json:"metric"`
				Value  [2]any            `json:"value"` // a time, and a number as a string
			} `json:"result"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, fmt.Errorf("cloud monitoring: %w", err)
	}
	if answer.Status != "success" || answer.Data == nil {
		return nil, fmt.Errorf("cloud monitoring: the answer is no success: %.300s", body)
	}
	values := map[string]float64{}
	for _, r := range answer.Data.Result {
		text, ok := r.Value[1].(string)
		if !ok {
			return nil, errors.New("cloud monitoring: the answer holds no numbers")
		}
		value, err := strconv.ParseFloat(text, 64)
		if err != nil {
			return nil, fmt.Errorf("cloud monitoring: %w", err)
		}
		if !math.IsNaN(value) {
			values[r.Metric["response_code_class"]] += value
		}
	}
	return values, nil
}
