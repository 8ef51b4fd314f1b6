package session

// A Source is something that an answer rests on.
type Source struct {
	Title     string     `json:"title"`
	URI       string     `json:"uri"`
	Positions []Position `json:"positions,omitempty" doc:"What of the response rests on it."`
}

// A Position is a part of an answer's text, in Unicode code points: from Start up to
// End, which is not included.
type Position struct {
	Start int `json:"start" minimum:"0"`
	End   int `json:"end" minimum:"1"`
}
