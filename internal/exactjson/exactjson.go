// Package exactjson decodes JSON whose numbers keep their digits: as a float64, an id of 19
// digits would be another one.
package exactjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
)

// Unmarshal decodes one JSON value as [json.Unmarshal] does, but for numbers in values of
// any type, which are a [json.Number].
func Unmarshal(data []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.UseNumber()
	if err := d.Decode(into); err != nil {
		return err
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("there is more than one JSON value")
	}
	return nil
}
