// Package answer is what the stand-in for the model answers, which every server has to
// return unchanged.
package answer

import "strings"

// Pieces are the texts of a stream's chunks.
var Pieces = []string{
	"Cloud Run suits most services: ", "it scales from zero to many instances, ", "asks for no cluster, ",
	"and bills only while a request is open. ", "Agent Engine manages sessions for you, ", "and GKE gives the most control, ",
	"at the price of running it. ", "Start with Cloud Run. That is all.",
}

// Text is the whole answer.
var Text = strings.Join(Pieces, "")
