package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"example.com/gatehouse/bench/internal/plot"
)

// An Instances is what turns cost when several processes of the service share
// them evenly, on one database and for one caller, counted on the wire.
type Instances struct {
	Processes int       `json:"processes"`
	Turns     int       `json:"turns"` // in all
	P50       float64   `json:"p50_ms"`
	Sessions  Documents `json:"sessions"` // a turn, of the session's own documents
	Limits    Documents `json:"limits"`   // a turn, of the limits' counters
	Figures   Documents `json:"figures"`  // a turn, of the service's figures
}

// processCounts are how many processes share the turns.
var processCounts = []int{1, 2, 4, 8}

// turnsASecond are made by all processes together.
const turnsASecond = 16

// instances shares turns among ever more processes.
func instances(ctx context.Context, r *run, s *standins) ([]Instances, error) {
	var all []Instances
	for _, n := range processCounts {
		i, err := share(ctx, r, s, n)
		if err != nil {
			return nil, fmt.Errorf("%d processes: %w", n, err)
		}
		all = append(all, i)
	}
	return all, nil
}

// share has n processes make turns for r.Shared, each on a separate session.
func share(ctx context.Context, r *run, s *standins, n int) (Instances, error) {
	env := s.environment(r.target) // the database, for all of them
	env["FIRESTORE_EMULATOR_HOST"] = s.counting.address
	one := *r
	one.told = func(target) map[string]string { return env }
	clients, requests := make([]*client, n), make([][]byte, n)
	for i := range n {
		server, err := one.start(ctx)
		if err != nil {
			return Instances{}, err
		}
		defer server.stop()
		if _, err := server.first(ctx, r.target, false); err != nil {
			return Instances{}, err
		}
		c, err := connect(ctx, server.address, r.target)
		if err != nil {
			return Instances{}, err
		}
		defer c.close()
		session, err := c.session()
		if err != nil {
			return Instances{}, err
		}
		clients[i], requests[i] = c, r.target.turn(acceptJSON, session)
	}
	s.counting.take() // what the starts and the first turns did
	took := make([][]time.Duration, n)
	var group errgroup.Group
	end, pace := time.Now().Add(r.Shared), time.Duration(n)*time.Second/turnsASecond
	for i, c := range clients {
		group.Go(func() error {
			ticker := time.NewTicker(pace)
			defer ticker.Stop()
			for time.Now().Before(end) {
				begin := time.Now()
				if _, err := c.call(requests[i], r.target.dialect.text); err != nil {
					return err
				}
				took[i] = append(took[i], time.Since(begin))
				<-ticker.C
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return Instances{}, err
	}
	turns := slices.Concat(took...)
	slices.Sort(turns)
	out := Instances{Processes: n, Turns: len(turns), P50: ms(percentile(turns, 50))}
	for collection, d := range s.counting.take() {
		switch collection {
		case "sessions":
			out.Sessions = out.Sessions.plus(d)
		case "limits":
			out.Limits = out.Limits.plus(d)
		default:
			out.Figures = out.Figures.plus(d)
		}
	}
	out.Sessions, out.Limits, out.Figures = out.Sessions.each(len(turns)), out.Limits.each(len(turns)), out.Figures.each(len(turns))
	return out, nil
}

// instancesTable is the table of what processes share.
func instancesTable(all []Instances) string {
	var b strings.Builder
	b.WriteString("| processes | turns | p50, ms | session: reads a turn | writes | round trips | limits: writes a turn | figures: writes a turn |\n|--:|--:|--:|--:|--:|--:|--:|--:|\n")
	for _, i := range all {
		fmt.Fprintf(&b, "| %d | %d | %.1f | %.2f | %.2f | %.2f | %.3f | %.3f |\n", i.Processes, i.Turns, i.P50,
			i.Sessions.Reads, i.Sessions.Writes, i.Sessions.Trips, i.Limits.Writes, i.Figures.Writes)
	}
	return b.String()
}

// instancesPlot draws it.
func instancesPlot(all []Instances) plot.Plot {
	series := []plot.Series{
		{Name: "session's documents written a turn", X: "processes", Y: "writes"},
		{Name: "limits' and figures' writes a turn", X: "processes", Y: "writes"},
	}
	for _, i := range all {
		x := float64(i.Processes)
		series[0].Points = append(series[0].Points, plot.Point{X: x, Y: i.Sessions.Writes})
		series[1].Points = append(series[1].Points, plot.Point{X: x, Y: i.Limits.Writes + i.Figures.Writes})
	}
	return plot.Plot{File: "growth-processes.svg", Title: fmt.Sprintf("Documents written a turn, by the processes that share %d turns a second", turnsASecond), Series: series}
}
