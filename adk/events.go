package adk

import (
	"cmp"
	"encoding/json"
	"fmt"
	"reflect"

	"google.golang.org/adk/v2/session"
	"google.golang.org/adk/v2/tool/toolconfirmation"
	"google.golang.org/genai"

	"example.com/gatehouse/internal/exactjson"
	"example.com/gatehouse/internal/loop"
)

// A turn is stored once, as the gate's contents. What ADK's events have beside them, such as
// authors, branches and actions, is kept with the turn; contents that are the turn's are
// referred to. A turn without that, such as one that was stopped, or is of an agent before
// ADK, becomes events of the user and of the root agent.

// A keptEvent is an event as a turn keeps it.
type keptEvent struct {
	Event   session.Event `json:"event"`
	Content *int          `json:"content,omitempty"` // place among the turn's contents; nil: Event has its own
	IDs     []string      `json:"ids,omitempty"`     // of the calls and results in that
}

// keepEvents encodes events of a turn that has the contents.
func keepEvents(all []*session.Event, contents []*genai.Content) (json.RawMessage, error) {
	kept := make([]keptEvent, 0, len(all))
	for _, e := range all {
		k := keptEvent{Event: *e}
		if i := indexOf(contents, e.Content); i >= 0 {
			k.Content, k.IDs = &i, idsOf(e.Content)
			k.Event.Content = nil
		}
		kept = append(kept, k)
	}
	return json.Marshal(kept)
}

// indexOf returns the place of a content among others, apart from the ids of calls; -1 if
// it is not there.
func indexOf(contents []*genai.Content, content *genai.Content) int {
	if content == nil {
		return -1
	}
	want := withIDs(content, nil)
	for i, each := range contents {
		if each.Role == want.Role && len(each.Parts) == len(want.Parts) && reflect.DeepEqual(withIDs(each, nil), want) {
			return i
		}
	}
	return -1
}

// eachID calls f for the id of each call and result in a content.
func eachID(content *genai.Content, f func(id *string)) {
	for _, p := range content.Parts {
		switch {
		case p == nil:
		case p.FunctionCall != nil:
			f(&p.FunctionCall.ID)
		case p.FunctionResponse != nil:
			f(&p.FunctionResponse.ID)
		}
	}
}

func idsOf(content *genai.Content) (ids []string) {
	eachID(content, func(id *string) { ids = append(ids, *id) })
	return ids
}

// withIDs returns a copy of a content in which the calls and results have these ids, "" for
// those beyond. ADK changes contents in place, so that what is stored is never handed out.
func withIDs(content *genai.Content, ids []string) *genai.Content {
	c := &genai.Content{Role: content.Role, Parts: make([]*genai.Part, 0, len(content.Parts))}
	for _, p := range content.Parts {
		if p == nil {
			continue
		}
		part := *p
		if p.FunctionCall != nil {
			call := *p.FunctionCall
			part.FunctionCall = &call
		}
		if p.FunctionResponse != nil {
			response := *p.FunctionResponse
			part.FunctionResponse = &response
		}
		c.Parts = append(c.Parts, &part)
	}
	i := 0
	eachID(c, func(id *string) {
		*id = ""
		if i < len(ids) {
			*id = ids[i]
		}
		i++
	})
	return c
}

// decodeEvents returns the events that were kept of a turn with the contents.
func decodeEvents(raw json.RawMessage, contents []*genai.Content) ([]*session.Event, error) {
	var kept []keptEvent
	if err := json.Unmarshal(raw, &kept); err != nil {
		return nil, err
	}
	all := make([]*session.Event, len(kept))
	for i := range kept {
		k := &kept[i]
		if k.Content != nil {
			if *k.Content < 0 || *k.Content >= len(contents) {
				return nil, fmt.Errorf("there is no content %d", *k.Content)
			}
			k.Event.Content = withIDs(contents[*k.Content], k.IDs)
		}
		all[i] = &k.Event
	}
	return all, nil
}

// decodeContents decodes contents, whose integers keep their digits: an id of 19 digits in
// a call or in a result would be another one as a float. States do not: ADK's tools expect
// the floats that its own services return.
func decodeContents(data []byte) (contents []*genai.Content, err error) {
	err = exactjson.Unmarshal(data, &contents)
	return contents, err
}

// restoreCalls puts the model's calls, whose integers have their digits, in the place of
// what was kept of them in the confirmations that they need. A call that a person has
// approved runs as the confirmation has it, and ADK decodes that with floats.
func restoreCalls(all []*session.Event) {
	calls := map[string]*genai.FunctionCall{}
	for _, e := range all {
		if e.Content == nil {
			continue
		}
		for _, p := range e.Content.Parts {
			switch {
			case p == nil || p.FunctionCall == nil:
			case p.FunctionCall.Name != toolconfirmation.FunctionCallName:
				calls[p.FunctionCall.ID] = p.FunctionCall
			default:
				original, err := toolconfirmation.OriginalCallFrom(p.FunctionCall)
				if err != nil {
					continue
				}
				if made, ok := calls[original.ID]; ok && made.Name == original.Name {
					call := *made
					p.FunctionCall.Args["originalFunctionCall"] = &call
				}
			}
		}
	}
}

// eventsOf returns the events of an earlier turn.
func eventsOf(i int, past loop.Past, root string) ([]*session.Event, error) {
	contents, err := decodeContents(past.Contents)
	if err != nil {
		return nil, fmt.Errorf("adk: the contents of an earlier turn: %w", err)
	}
	if past.Kept != nil {
		if all, err := decodeEvents(past.Kept, contents); err == nil {
			return all, nil
		}
		// Of another version, or another framework: the contents say enough.
	}
	turn := cmp.Or(past.ID, fmt.Sprint(i))
	var all []*session.Event
	var calls []string // of the content before
	for n, content := range contents {
		e := &session.Event{ID: fmt.Sprintf("%s-%d", turn, n), InvocationID: turn, Author: "user"}
		var ids []string
		place := 0
		eachID(content, func(id *string) {
			switch {
			case content.Role == genai.RoleModel && *id == "":
				ids = append(ids, fmt.Sprintf("adk-%s-%d-%d", turn, n, place))
			case *id == "" && place < len(calls):
				ids = append(ids, calls[place])
			default:
				ids = append(ids, *id)
			}
			place++
		})
		if content.Role == genai.RoleModel || place > 0 {
			e.Author = root
		}
		e.Content = withIDs(content, ids)
		calls = ids
		all = append(all, e)
	}
	return all, nil
}
