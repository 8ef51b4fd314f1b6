// Package plot draws how figures grow.
package plot

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// A Series is how one figure grows.
type Series struct {
	Name   string  `json:"name"`
	X      string  `json:"x"` // what grows
	Y      string  `json:"y"` // the figure, with its unit
	Points []Point `json:"points"`
}

// A Point is a figure.
type Point struct {
	X float64 `json:"x"`
	Y float64 `json:"y"`
}

// A Plot is one picture: series over the same x.
type Plot struct {
	File   string   `json:"file"`
	Title  string   `json:"title"`
	Series []Series `json:"series"`
}

// The picture, in pixels.
const (
	width, height            = 720, 420
	left, right, top, bottom = 70, 20, 40, 100 // below: the axis, its name, three lines of names
)

var colors = []string{"#1a73e8", "#d93025", "#188038", "#9334e6", "#b06000"}

// SVG draws p, both axes logarithmic: what is flat is level, and what is linear
// rises by a decade a decade.
func (p Plot) SVG() string {
	x, y := axis{math.Inf(1), math.Inf(-1)}, axis{math.Inf(1), math.Inf(-1)}
	for _, s := range p.Series {
		for _, point := range s.Points {
			x.include(point.X)
			y.include(point.Y)
		}
	}
	across := func(v float64) float64 { return left + x.at(v)*(width-left-right) }
	up := func(v float64) float64 { return height - bottom - y.at(v)*(height-top-bottom) }
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", width, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="white"/><text x="%d" y="22" font-size="15">%s</text>`+"\n", width, height, left, html.EscapeString(p.Title))
	for _, v := range x.decades() {
		fmt.Fprintf(&b, `<line x1="%.1f" y1="%d" x2="%.1f" y2="%d" stroke="#ddd"/><text x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n",
			across(v), top, across(v), height-bottom, across(v), height-bottom+16, short(v))
	}
	for _, v := range y.decades() {
		fmt.Fprintf(&b, `<line x1="%d" y1="%.1f" x2="%d" y2="%.1f" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end">%s</text>`+"\n",
			left, up(v), width-right, up(v), left-6, up(v)+4, short(v))
	}
	fmt.Fprintf(&b, `<text x="%d" y="%d" text-anchor="middle">%s</text>`+"\n", (left+width-right)/2, height-bottom+34, html.EscapeString(p.Series[0].X))
	for i, s := range p.Series {
		var line []string
		for _, point := range s.Points {
			line = append(line, fmt.Sprintf("%.1f,%.1f", across(point.X), up(point.Y)))
		}
		color := colors[i%len(colors)]
		fmt.Fprintf(&b, `<polyline points="%s" fill="none" stroke="%s" stroke-width="2"/>`+"\n", strings.Join(line, " "), color)
		fmt.Fprintf(&b, `<text x="%d" y="%d" fill="%s">%s</text>`+"\n", left+(i%2)*(width-left-right)/2, height-bottom+54+(i/2)*16, color, html.EscapeString(s.Name))
	}
	return b.String() + "</svg>\n"
}

// An axis is logarithmic, from one whole decade to another.
type axis struct{ low, high float64 }

// smallest is what the axis shows of a figure that is 0 or nearly so.
const smallest = 1e-4

func (a *axis) include(v float64) {
	exponent := math.Log10(max(v, smallest))
	a.low, a.high = min(a.low, math.Floor(exponent)), max(a.high, math.Ceil(exponent))
}

func (a axis) at(v float64) float64 {
	return (math.Log10(max(v, smallest)) - a.low) / max(1, a.high-a.low)
}

func (a axis) decades() (all []float64) {
	for e := a.low; e <= a.high; e++ {
		all = append(all, math.Pow(10, e))
	}
	return all
}

func short(v float64) string { return fmt.Sprintf("%.4g", v) }
