package main

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"example.com/gatehouse/bench/internal/plot"
)

func TestRun(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "growth.json")
	if err := run(t.Context(), "", out, dir, 0.01); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	var plots []plot.Plot
	if err := json.Unmarshal(raw, &plots); err != nil || len(plots) != 5 {
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
	raw, err := os.ReadFile("../results/growth.json")
	if err != nil {
		t.Fatal(err)
	}
	var plots []plot.Plot
	if err := json.Unmarshal(raw, &plots); err != nil || len(plots) == 0 {
		t.Fatal(len(plots), err)
	}
	for _, p := range plots {
		got, err := os.ReadFile("../../docs/img/" + p.File)
		if err != nil || string(got) != p.SVG() {
			t.Errorf("docs/img/%s is not drawn from bench/results/growth.json (%v): go run ./growth -draw", p.File, err)
		}
	}
}
