package server

import (
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"regexp"
	"slices"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/config"
	"example.com/gatehouse/internal/access"
	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/jws"
	"example.com/gatehouse/invoke"
	"example.com/gatehouse/session"
)

// A Door serves another protocol over the same runs: its routes stand behind the same
// guard, limits and audit as the gate's own.
//
// A door translates and decides nothing: who calls, what it may cost and what is stored are
// the gate's, so that a fault in one protocol cannot open another way to the same sessions.
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

	// CardKeys returns the keys that sign the agent's card now, nil for none.
	CardKeys func() *jws.Keys
}

// Issuers returns the issuers whose tokens are accepted in Authorization.
func (r Room) Issuers() []string {
	var urls []string
	if r.Config.HasAuth(config.AuthIAM) {
		urls = append(urls, "https://accounts.google.com")
	}
	if r.Config.HasAuth(config.AuthOIDC) {
		issuers, _ := access.ParseIssuers(r.Config.OIDCIssuers, r.Config.OIDCAudiences, !r.Config.Production()) // package config has checked it
		for _, issuer := range issuers {
			if issuer.URL != access.IAPIssuer && !slices.Contains(urls, issuer.URL) {
				urls = append(urls, issuer.URL)
			}
		}
	}
	return urls
}

// Conversation returns the id of the session that one of CONVERSATION_HEADERS names, "" for
// none. A name that is no session's id becomes one. Any text can therefore name a session,
// such as the chat id of another program, and the same text always names the same one. The
// session still belongs to the caller: its id is found under the owner only. The first of
// the headers that is there counts.
func (r Room) Conversation(req *http.Request) (string, error) {
	for _, header := range r.Config.ConversationHeaders {
		values := req.Header.Values(header)
		switch {
		case len(values) == 0 || values[0] == "":
			continue
		case len(values) > 1 || !api.Printable(values[0], 255):
			return "", api.Malformed(header, "must be one value of 1 to 255 printable ASCII characters")
		case session.ValidID(values[0]):
			return values[0], nil
		}
		sum := sha256.Sum256([]byte(values[0]))
		return base64.RawURLEncoding.EncodeToString(sum[:]), nil
	}
	return "", nil
}

var validHost = regexp.MustCompile(`^[A-Za-z0-9._:\[\]-]+$`)

// BaseURL returns the URL by which the client of req reaches the service, without a slash
// at the end; "" where Host is none. Host is the client's to choose, and the URL goes into
// headers and documents: what could break out of them is refused. Nothing but answers to
// the same client is made from it.
func (r Room) BaseURL(req *http.Request) string {
	if len(req.Host) > 255 || !validHost.MatchString(req.Host) {
		return ""
	}
	if r.Config.Service != "" || req.TLS != nil { // Cloud Run ends TLS
		return "https://" + req.Host
	}
	return "http://" + req.Host
}

// openDoors keeps the doors that DOORS does not switch off. A name in DOORS that no door
// has is a mistake to report: a protocol that was meant to be served would be missing
// silently.
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
	room := Room{Config: s.Config}
	if p != nil {
		if p.invoke == nil {
			return nil
		}
		room.Agent, room.Invoke, room.CardKeys = p.agent, p.invoke, p.secrets.cardKeys.Load
	}
	routes := room.Invoke.Routes()
	for _, d := range s.doors {
		routes = append(routes, d.Routes(room)...)
	}
	return routes
}
