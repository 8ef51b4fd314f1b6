package files_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"example.com/gatehouse/internal/files"
)

// FuzzDataURL checks that a data: URL is refused or has one reading: the content is what
// encoding/base64 reads, and is written as it was read.
func FuzzDataURL(f *testing.F) {
	for _, seed := range []string{
		"data:image/png;base64,iVBORw0KGgo=", "DATA:text/plain;charset=utf-8;BASE64,eA==", "data:,x", "data:;base64,", "data:text/plain;base64,eA=", "data:a;base64,eB==",
		"data:a;base64,e\nA==", "data:image/png;base64", "http://x/;base64,eA==", "data:" + strings.Repeat("a", 300) + ";base64,eA==", "data:audio/MP3; base64,eA==",
	} {
		f.Add([]byte(seed))
	}
	all, err := files.ParseTypes(files.Default)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, url []byte) {
		media, encoded, err := files.ParseDataURL(url)
		if err != nil {
			if !errors.Is(err, files.ErrDataURL) {
				t.Errorf("error %v", err)
			}
			return
		}
		data, err := files.Decode(encoded)
		if err != nil {
			if !errors.Is(err, files.ErrBase64) {
				t.Errorf("error %v", err)
			}
			return
		}
		if again := base64.StdEncoding.EncodeToString(data); again != string(encoded) {
			t.Errorf("%q was read, and is written %q", encoded, again)
		}
		name, err := all.Check(media, data)
		if err != nil {
			if !errors.Is(err, files.ErrType) && !errors.Is(err, files.ErrContent) && !errors.Is(err, files.ErrEmpty) {
				t.Errorf("error %v", err)
			}
			return
		}
		if twice, err := all.Check(name, data); err != nil || twice != name || !slices.Contains(all, name) {
			t.Errorf("%q became %q, and that %q: %v", media, name, twice, err)
		}
		if digest := files.Digest(name, data); !files.ValidDigest(digest) {
			t.Errorf("the digest %q", digest)
		}
	})
}

// FuzzParseURI checks that an address of an object is refused, or names exactly one.
func FuzzParseURI(f *testing.F) {
	for _, seed := range []string{"gs://bucket/object", "gs://b/a/b.pdf", "gs://b//x", "gs://b/../c", "gs://b/.", "gs://b", "gs:///x", "https://b/x", "gs://B/x", "gs://b/x?y", "gs://b/%2e%2e/x", "gs://b/\u2028", "gs://b/é"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, uri string) {
		bucket, object, err := files.ParseURI(uri)
		if err != nil {
			if !errors.Is(err, files.ErrURI) || bucket != "" || object != "" {
				t.Errorf("%q, %q, %v", bucket, object, err)
			}
			return
		}
		if "gs://"+bucket+"/"+object != uri || strings.ContainsAny(bucket, "/") || !utf8.ValidString(object) || strings.Contains("/"+object+"/", "/../") {
			t.Errorf("%q became %q and %q", uri, bucket, object)
		}
	})
}

// FuzzParseTypes checks that a list of types is refused or read, in any order, to the same list.
func FuzzParseTypes(f *testing.F) {
	for _, seed := range []string{files.Default, "", "image/png", "image/png,image/png", "image/*", " image/png , text/csv", "text/html", "none"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, list string) {
		types, err := files.ParseTypes(list)
		if err != nil {
			return
		}
		again, err := files.ParseTypes(strings.Join(types, ","))
		if err != nil && len(types) > 0 || !slices.Equal(types, again) {
			t.Errorf("%q became %q, and that %q: %v", list, types, again, err)
		}
		for _, name := range types {
			if normal, err := files.Normalize(name); err != nil || normal != name || bytes.ContainsAny([]byte(name), ", \t") {
				t.Errorf("%q holds %q, which is %q: %v", list, name, normal, err)
			}
		}
	})
}
