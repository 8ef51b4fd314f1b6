package server

import (
	"slices"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/config"
	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/invoke"
)

// A Door serves another protocol over the same runs: its routes stand behind the same
// guard, limits and audit as the gate's own.
type Door struct {
	Name string // in DOORS

	// Routes returns the door's routes, whose patterns and documentation do not depend on
	// the room. It is called at each start, and does as little as it can.
	Routes func(Room) []api.Route
}

// A Room is what lies behind a door.
type Room struct {
	Config *config.Config
	Agent  agent.Agent
	Invoke *invoke.Service // runs the agent; nil while the service is not ready, when no handler is called but those of probes
}

// openDoors keeps the doors that DOORS does not switch off.
func (s *Server) openDoors(doors []Door) {
	names := make([]string, len(doors))
	for i, d := range doors {
		names[i] = d.Name
		if s.Config.HasDoor(d.Name) {
			s.doors = append(s.doors, d)
		}
	}
	if s.problem != nil || slices.Equal(s.Config.Doors, []string{config.NoDoors}) {
		return
	}
	for _, name := range s.Config.Doors {
		if !slices.Contains(names, name) {
			s.problem = config.Problems{{Variable: "DOORS", Issue: "names a protocol that gate.Register does not; list some of those that it names, or none"}}
			return
		}
	}
}

// routes are those of the function "invoke": of a service that stands, or (without
// parts) with what is known of them before.
func (s *Server) routes(p *parts) []api.Route {
	room := Room{Config: s.Config, Invoke: &invoke.Service{}}
	if p != nil {
		if p.invoke == nil {
			return nil
		}
		room.Agent, room.Invoke = p.agent, p.invoke
	}
	routes := room.Invoke.Routes()
	if p == nil {
		room.Invoke = nil
	}
	for _, d := range s.doors {
		routes = append(routes, d.Routes(room)...)
	}
	return routes
}
