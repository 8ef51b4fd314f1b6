// Package secretname checks the names of Secret Manager's secret versions, for those
// who only read configuration.
package secretname

import (
	"errors"
	"regexp"
	"sync"
)

// versionName follows https://cloud.google.com/secret-manager/docs/reference/rest;
// a version is a number, latest, or an alias. Lengths are checked separately: in
// the expression they would unroll into hundreds of states, milliseconds of every
// cold start. It is compiled for the first name.
var versionName = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`^projects/([a-z0-9][a-z0-9.:-]*)(?:/locations/([a-z0-9-]+))?` +
		`/secrets/([A-Za-z0-9_-]+)/versions/(?:([1-9][0-9]*)|([A-Za-z][A-Za-z0-9_-]*))$`)
})

// longest is the most bytes of a project, a location, a secret, a number, an alias.
var longest = [...]int{100, 63, 255, 19, 63}

// Check returns an error unless name has the form projects/P/secrets/S/versions/V
// or, for a regional secret, projects/P/locations/L/secrets/S/versions/V. The error
// does not repeat the name: by mistake it may be the secret itself.
func Check(name string) error {
	parts := versionName().FindStringSubmatch(name)
	for i, part := range parts[min(1, len(parts)):] {
		if len(part) > longest[i] {
			parts = nil
			break
		}
	}
	if parts == nil {
		return errors.New("not the name of a secret version: want projects/P/secrets/S/versions/V or projects/P/locations/L/secrets/S/versions/V")
	}
	return nil
}
