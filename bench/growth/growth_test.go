package main

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"example.com/gatehouse/bench/internal/plot"
	"example.com/gatehouse/internal/gcp/emulator"
)

func TestMain(m *testing.M) { os.Exit(emulator.Main(m)) }

func TestRun(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "growth.json")
	if err := run(t.Context(), emulator.Host(t), out, dir, "", 0.01); err != nil {
		t.Fatal(err)
	}
	plots, err := read(out)
	if err != nil || len(plots) != 9 {
		t.Fatalf("%d plots, %v", len(plots), err)
	}
	for _, p := range plots {
		for _, s := range p.Series {
			for _, point := range s.Points {
				if point.X <= 0 || point.Y < 0 {
					t.Errorf("%s, %s: %v", p.Title, s.Name, point)
				}
			}
		}
		if len(p.Series[0].Points) == 0 {
			t.Errorf("%s: no points", p.Title)
		}
		svg, err := os.ReadFile(filepath.Join(dir, p.File))
		if err != nil {
			t.Fatal(err)
		}
		wellFormed(t, p.File, string(svg))
	}
}

// What docs/performance.md says of the figures that are kept: what does not grow, and what
// grows no faster than what causes it.
func TestKept(t *testing.T) {
	plots, err := read("../results/growth.json")
	if err != nil {
		t.Fatal(err)
	}
	series := map[string][]plot.Point{}
	for _, p := range plots {
		for _, s := range p.Series {
			series[strings.TrimSuffix(strings.TrimPrefix(p.File, "growth-"), ".svg")+": "+s.Name] = s.Points
		}
	}
	for _, test := range []struct {
		name  string
		upTo  float64 // what grows
		most  float64 // at any point
		slope float64 // of the last point against the first, in decades a decade; 0 for a level line
	}{
		{"stored-length: documents read, at most", 2000, 1, 0},
		{"stored-length: documents written", 2000, 1.05, 0.01},
		{"stored-length: calls", 2000, 2.05, 0.01},
		{"stored-length: KiB received", 2000, 720, 1},
		{"sessions: documents asked of it, second page", 100_000, 21, 0},
		{"waiting: a page of 20: documents read, at most", 10_000, 21, 0},
		{"waiting: an answer: documents read, at most", 10_000, 1, 0},
		{"waiting: an answer: documents written", 10_000, 1, 0},
		{"watchers: documents read a second", 1000, 2, 0.05},
		{"watchers: connections to Firestore", 1000, 2, 0.1},
		{"files: KiB allocated", 7168, 12 * 7168, 1.05},
		{"files: KiB sent to the model", 7168, 1.4 * 7168, 1},
	} {
		points := series[test.name]
		if len(points) < 2 || points[len(points)-1].X != test.upTo {
			t.Errorf("%s: %v, want it up to %v", test.name, points, test.upTo)
			continue
		}
		first, last := points[0], points[len(points)-1]
		if slope := math.Log(last.Y/first.Y) / math.Log(last.X/first.X); slope > test.slope {
			t.Errorf("%s grows by %.2f decades a decade, want at most %v", test.name, slope, test.slope)
		}
		for _, p := range points {
			if p.Y > test.most {
				t.Errorf("%s: %v at %v, want at most %v", test.name, p.Y, p.X, test.most)
			}
		}
	}
}

func wellFormed(t *testing.T, name, svg string) {
	for d := xml.NewDecoder(strings.NewReader(svg)); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			t.Errorf("%s: %v", name, err)
			return
		}
	}
}

// The plots that are shown are those of the figures that are kept.
func TestPlotsAreOfTheFigures(t *testing.T) {
	plots, err := read("../results/growth.json")
	if err != nil || len(plots) == 0 {
		t.Fatal(len(plots), err)
	}
	for _, p := range plots {
		got, err := os.ReadFile("../../docs/img/" + p.File)
		if err != nil || string(got) != p.SVG() {
			t.Errorf("docs/img/%s is not drawn from bench/results/growth.json (%v): go run ./growth -draw", p.File, err)
		}
	}
}
