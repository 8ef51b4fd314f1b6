package session

import "encoding/json"

// A File is a file in a turn's contents: of the question, or one that the model made.
// Its bytes do not lie in the session. The contents have a fileData part for it, in the
// same order, whose address is "" if the file is kept nowhere.
type File struct {
	Name   string `json:"name,omitempty"`
	Type   string `json:"type"`             // media type
	URI    string `json:"uri,omitempty"`    // gs:// address that the question named
	Digest string `json:"digest,omitempty"` // names the file among those kept for the session; "": it is not kept
	Bytes  int64  `json:"bytes"`
	Tokens int    `json:"tokens"` // as a model counts it
	Answer bool   `json:"answer,omitempty"`
}

// Files returns the turn's [Turn.Files]. They are written before the contents, so
// decoding stops there.
func (r Record) Files() (files []File, err error) {
	raw, err := r.member("files")
	if err != nil {
		return nil, err
	}
	err = json.Unmarshal(raw, &files)
	return files, err
}
