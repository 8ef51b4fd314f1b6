package queue_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"example.com/gatehouse/internal/queue"
)

// FuzzParse checks that a body is refused, or a task that is written again as it was read and
// has the same name: a repeated delivery is the same task.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		`{"kind":"run","owner":"o","run":"0123456789abcdef.0123456789abcdef"}`,
		`{"kind":"run","owner":"o","run":"r","attempt":-1,"epoch":3}`,
		`{"kind":"webhook","owner":"o","run":"r","event":"run.done","id":"i","created":"2026-11-27T00:00:00Z"}`,
		`{"kind":"webhook","owner":"o","run":"../r","event":"run.done","id":"i"}`,
		`{"kind":"run","kind":"run","owner":"o","run":"r"}`, `{"kind":"run","owner":"o","run":"r","more":1}`, `[]`, `null`, ``,
		`{"kind":"webhook","owner":"o","run":"r","event":"e","id":"i","created":"0001-01-01T00:00:00Z"}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		task, err := queue.Parse(body)
		if err != nil {
			if !errors.Is(err, queue.ErrInvalid) || len(err.Error()) > 100 {
				t.Errorf("error %v", err)
			}
			return
		}
		for _, name := range []string{string(task.Owner), task.Run, task.Event, task.ID} {
			if strings.ContainsAny(name, "/\\ \n\x00") || len(name) > 160 {
				t.Errorf("the name %q", name)
			}
		}
		encoded, err := task.Encode()
		if err != nil {
			t.Fatalf("%s was read and cannot be written: %v", body, err)
		}
		again, err := queue.Parse(encoded)
		if err != nil || again.Name() != task.Name() {
			t.Fatalf("%s became %s: %v", body, encoded, err)
		}
		if twice, err := again.Encode(); err != nil || !bytes.Equal(twice, encoded) {
			t.Errorf("%s became %s: %v", encoded, twice, err)
		}
	})
}
