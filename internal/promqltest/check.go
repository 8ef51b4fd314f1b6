package promqltest

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
)

// A Table lists what queries may name.
type Table struct {
	metrics map[string]Metric   // by their PromQL names
	values  map[string][]string // of the resources' labels, if only some values can occur
	// Scraped is set for the metrics of a /metrics page: they have no monitored
	// resource, unlike those in Cloud Monitoring.
	Scraped bool
}

// NewTable returns the table of metrics by type. values are the possible values of the
// resources' labels in this deployment.
func NewTable(values map[string][]string, all ...map[string]Metric) *Table {
	t := &Table{metrics: map[string]Metric{}, values: values}
	for _, metrics := range all {
		for metricType, m := range metrics {
			t.metrics[PromQL(metricType)] = m
		}
	}
	return t
}

// A Finding is one problem of a query.
type Finding string

// Check parses a query and returns its problems and its number of selectors. A
// dashboard's "${__interval}" is replaced by a minute.
func (t *Table) Check(query string) (selectors int, findings []Finding) {
	expr, err := parser.NewParser(parser.Options{}).ParseExpr(strings.ReplaceAll(query, "${__interval}", "1m"))
	if err != nil {
		return 0, []Finding{Finding(err.Error())}
	}
	parser.Inspect(expr, func(node parser.Node, path []parser.Node) error {
		switch n := node.(type) {
		case *parser.VectorSelector:
			selectors++
			findings = append(findings, t.selector(n, path)...)
		case *parser.AggregateExpr:
			known := t.labels(n.Expr)
			for _, label := range n.Grouping {
				if !known[label] {
					findings = append(findings, finding("grouping by %q, which nothing below has", label))
				}
			}
		case *parser.Call:
			if n.Func.Name == "label_replace" {
				if source := text(n.Args[3]); !t.labels(n.Args[0])[source] {
					findings = append(findings, finding("label_replace reads %q, which nothing below has", source))
				}
			}
			if n.Func.Name == "histogram_quantile" && !t.labels(n.Args[1])["le"] {
				findings = append(findings, finding("histogram_quantile of what has no le"))
			}
		}
		return nil
	})
	if selectors == 0 {
		findings = append(findings, finding("it names no metric"))
	}
	return selectors, findings
}

func finding(format string, args ...any) Finding { return Finding(fmt.Sprintf(format, args...)) }

// lookup returns the metric that a selector names, and its suffix.
func (t *Table) lookup(name string) (m Metric, suffix string, ok bool) {
	if m, ok = t.metrics[name]; ok {
		return m, "", true
	}
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		if base, found := strings.CutSuffix(name, suffix); found {
			if m, ok = t.metrics[base]; ok && m.Kind == Distribution {
				return m, suffix, true
			}
		}
	}
	return Metric{}, "", false
}

func (t *Table) selector(s *parser.VectorSelector, path []parser.Node) (findings []Finding) {
	name := s.Name
	for _, m := range s.LabelMatchers {
		if m.Name == labels.MetricName {
			name = m.Value
		}
	}
	m, suffix, ok := t.lookup(name)
	if !ok {
		return []Finding{finding("unknown metric %q", name)}
	}
	if m.Kind == Distribution && suffix == "" {
		findings = append(findings, finding("%s is a distribution: it has _bucket, _sum and _count", name))
	}
	switch function := over(path); {
	case m.Kind == Gauge && slices.Contains([]string{"rate", "increase", "irate"}, function):
		findings = append(findings, finding("%s goes up and down: %s is for counters", name, function))
	case m.Kind != Gauge && !slices.Contains([]string{"rate", "increase", "irate", "absent", "absent_over_time"}, function):
		findings = append(findings, finding("%s counts up: it wants rate or increase", name))
	}
	resource := ""
	for _, matcher := range s.LabelMatchers {
		if matcher.Name == "monitored_resource" && matcher.Type == labels.MatchEqual {
			resource = matcher.Value
		}
	}
	switch {
	case t.Scraped:
	case resource == "" && len(m.Resources) != 1:
		findings = append(findings, finding(`%s has several types of monitored resources (%s): it wants monitored_resource="…"`, name, strings.Join(m.Resources, ", ")))
	case resource != "" && !slices.Contains(m.Resources, resource):
		findings = append(findings, finding("%s is not written for the monitored resource %q", name, resource))
	}
	known := t.known(m, suffix, resource)
	for _, matcher := range s.LabelMatchers {
		if matcher.Name == labels.MetricName || matcher.Name == "monitored_resource" {
			continue
		}
		values, ok := known[matcher.Name]
		if !ok {
			findings = append(findings, finding("%s has no label %q", name, matcher.Name))
			continue
		}
		findings = append(findings, check(matcher, values)...)
	}
	return findings
}

// check reports values that a label never has.
func check(matcher *labels.Matcher, values []string) (findings []Finding) {
	if values == nil {
		return nil
	}
	wanted := []string{matcher.Value}
	if matcher.Type == labels.MatchRegexp || matcher.Type == labels.MatchNotRegexp {
		if !alternatives.MatchString(matcher.Value) {
			if !slices.ContainsFunc(values, matcher.Matches) {
				findings = append(findings, finding("no value of %q matches %q", matcher.Name, matcher.Value))
			}
			return findings
		}
		wanted = strings.Split(matcher.Value, "|")
	}
	for _, value := range wanted {
		if value != "" && !slices.Contains(values, value) {
			findings = append(findings, finding("%q is never %q", matcher.Name, value))
		}
	}
	return findings
}

// alternatives matches a regular expression that only lists values.
var alternatives = regexp.MustCompile(`^[\w-]+(\|[\w-]+)*$`)

// known returns the labels of a metric with their values (nil: any): its own, those of
// its resource, and le for a bucket.
func (t *Table) known(m Metric, suffix, resource string) map[string][]string {
	known := maps.Clone(m.Labels)
	if known == nil {
		known = map[string][]string{}
	}
	types := m.Resources
	if resource != "" {
		types = []string{resource}
	}
	for _, r := range types {
		for _, label := range Resources[r] {
			known[label] = t.values[label]
		}
	}
	if suffix == "_bucket" {
		known["le"] = nil
	}
	return known
}

// labels returns the labels that the series of an expression can have.
func (t *Table) labels(expr parser.Node) map[string]bool {
	all := map[string]bool{}
	switch n := expr.(type) {
	case *parser.VectorSelector:
		name := n.Name
		resource := ""
		for _, m := range n.LabelMatchers {
			switch m.Name {
			case labels.MetricName:
				name = m.Value
			case "monitored_resource":
				resource = m.Value
			}
		}
		m, suffix, _ := t.lookup(name)
		for label := range t.known(m, suffix, resource) {
			all[label] = true
		}
		return all
	case *parser.AggregateExpr:
		below := t.labels(n.Expr)
		if n.Without {
			for _, label := range n.Grouping {
				delete(below, label)
			}
			return below
		}
		for _, label := range n.Grouping {
			all[label] = true
		}
		return all
	case *parser.Call:
		switch n.Func.Name {
		case "label_replace":
			all[text(n.Args[1])] = true
		case "histogram_quantile":
			below := t.labels(n.Args[1])
			delete(below, "le")
			return below
		}
	}
	for child := range parser.ChildrenIter(expr) {
		maps.Copy(all, t.labels(child))
	}
	return all
}

// Labels returns the labels that a query's series can have.
func (t *Table) Labels(query string) (map[string]bool, error) {
	expr, err := parser.NewParser(parser.Options{}).ParseExpr(strings.ReplaceAll(query, "${__interval}", "1m"))
	if err != nil {
		return nil, err
	}
	return t.labels(expr), nil
}

// over returns the function applied to the selector at the end of path, "" for none.
func over(path []parser.Node) string {
	for _, node := range slices.Backward(path) {
		switch n := node.(type) {
		case *parser.MatrixSelector, *parser.ParenExpr:
		case *parser.Call:
			return n.Func.Name
		default:
			return ""
		}
	}
	return ""
}

func text(e parser.Expr) string {
	s, _ := e.(*parser.StringLiteral)
	if s == nil {
		return ""
	}
	return s.Val
}
