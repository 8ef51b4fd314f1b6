// Package files knows the files that requests and answers carry: which types there
// are and how their content begins, what a gs:// address may look like, and how many
// tokens a model counts for a file.
//
// Everything in it is read from hostile input: nothing is decoded further than needed,
// and every loop is bounded by the size of the content.
package files

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"mime"
	"slices"
	"strings"
	"unicode/utf8"
)

const (
	// Max is the number of files of a request, and of an answer.
	Max = 8
	// MaxName bounds a file's name, in bytes.
	MaxName = 255
	// MaxType bounds a media type, in bytes.
	MaxType = 127
)

var (
	// ErrNotFound: there is no such file where files are kept, or it may not be read. The
	// two look the same on purpose.
	ErrNotFound = errors.New("file not found")
	// ErrTooLarge: the file is larger than asked for.
	ErrTooLarge = errors.New("file too large")
)

// Types are the media types that are allowed.
type Types []string

// Default is the default of FILE_TYPES.
const Default = "image/*,application/pdf,audio/*,text/*"

// ParseTypes returns the types of a list separated by commas: media types, or all of a
// kind as image/*. "none" allows nothing. A type whose content cannot be checked is an
// error.
func ParseTypes(list string) (Types, error) {
	var t Types
	if strings.TrimSpace(list) == "none" {
		return t, nil
	}
	for item := range strings.SplitSeq(list, ",") {
		item = strings.ToLower(strings.TrimSpace(item))
		if item == "" {
			continue
		}
		kind, all := strings.CutSuffix(item, "/*")
		known := false
		for _, f := range formats {
			if f.name == item || all && strings.HasPrefix(f.name, kind+"/") {
				known = true
				if !slices.Contains(t, f.name) {
					t = append(t, f.name)
				}
			}
		}
		if !known {
			return nil, fmt.Errorf("%.40q is not among the types that can be checked: %s", item, strings.Join(names(), ", "))
		}
	}
	return t, nil
}

// names lists the types that can be checked.
func names() []string {
	var all []string
	for _, f := range formats {
		all = append(all, f.name)
	}
	return all
}

// A format is a type of files, and how its content is recognized.
type format struct {
	name    string
	aliases []string
	matches func(data []byte) bool
}

// signed are the formats that can be recognized by their content.
var signed = []format{
	{"image/png", nil, prefix("\x89PNG\r\n\x1a\n")},
	{"image/jpeg", []string{"image/jpg"}, prefix("\xff\xd8\xff")},
	{"image/webp", nil, func(d []byte) bool { return riff(d, "WEBP") }},
	{"image/heic", nil, func(d []byte) bool { return brand(d, "heic", "heix", "hevc", "hevx", "heim", "heis", "mif1", "msf1") }},
	{"image/heif", nil, func(d []byte) bool { return brand(d, "mif1", "msf1", "heic", "heix", "hevc", "hevx", "heim", "heis") }},
	{"application/pdf", nil, prefix("%PDF-")},
	{"audio/wav", []string{"audio/x-wav", "audio/wave", "audio/vnd.wave"}, func(d []byte) bool { return riff(d, "WAVE") }},
	{"audio/mpeg", []string{"audio/mp3", "audio/mpga"}, func(d []byte) bool { _, ok := mp3Seconds(d); return ok }},
	{"audio/aac", []string{"audio/x-aac", "audio/aacp"}, func(d []byte) bool { _, ok := aacSeconds(d); return ok }},
	{"audio/ogg", []string{"audio/opus", "application/ogg"}, prefix("OggS")},
	{"audio/flac", []string{"audio/x-flac"}, prefix("fLaC")},
}

var formats = slices.Concat(signed, []format{
	{"text/plain", nil, isText},
	{"text/markdown", []string{"text/x-markdown"}, isText},
	{"text/csv", nil, isText},
})

func prefix(magic string) func([]byte) bool {
	return func(data []byte) bool { return bytes.HasPrefix(data, []byte(magic)) }
}

func riff(data []byte, form string) bool {
	return len(data) >= 12 && string(data[:4]) == "RIFF" && string(data[8:12]) == form
}

// brand reports whether data is an ISO base media file of one of the major brands.
func brand(data []byte, brands ...string) bool {
	return len(data) >= 12 && string(data[4:8]) == "ftyp" && slices.Contains(brands, string(data[8:12]))
}

// isText reports whether data is text and does not begin as a file of another type.
func isText(data []byte) bool {
	if !utf8.Valid(data) || bytes.IndexByte(data, 0) >= 0 {
		return false
	}
	for _, f := range signed {
		if f.matches(data) {
			return false
		}
	}
	return true
}

// The errors about a file's type. Their texts complete a sentence about the file.
var (
	ErrType    = errors.New("is not of a type that is accepted here")
	ErrContent = errors.New("does not hold what its type means")
	ErrEmpty   = errors.New("must not be empty")
)

// Normalize returns the name of a media type as declared by a client, without
// parameters. It does not check that the type is allowed.
func Normalize(declared string) (string, error) {
	if len(declared) > MaxType || strings.ContainsFunc(declared, func(r rune) bool { return r < ' ' || r > '~' }) {
		return "", ErrType
	}
	name, parameters, err := mime.ParseMediaType(declared)
	if err != nil {
		return "", ErrType
	}
	if charset, ok := parameters["charset"]; ok && !strings.EqualFold(charset, "utf-8") && !strings.EqualFold(charset, "us-ascii") {
		return "", ErrType
	}
	for _, f := range formats {
		if f.name == name || slices.Contains(f.aliases, name) {
			return f.name, nil
		}
	}
	return name, nil
}

// Check returns the type of a file that is declared as one, if it is allowed and data
// is of it.
func (t Types) Check(declared string, data []byte) (string, error) {
	name, err := Normalize(declared)
	if err != nil {
		return "", err
	}
	if !slices.Contains(t, name) {
		return "", ErrType
	}
	if len(data) == 0 {
		return "", ErrEmpty
	}
	for _, f := range formats {
		if f.name == name && f.matches(data) {
			return name, nil
		}
	}
	return "", ErrContent
}

// extensions are the types of files by the end of their names, for objects that were
// stored without a type.
var extensions = map[string]string{
	"png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg", "webp": "image/webp", "heic": "image/heic", "heif": "image/heif",
	"pdf": "application/pdf", "wav": "audio/wav", "mp3": "audio/mpeg", "aac": "audio/aac", "ogg": "audio/ogg", "opus": "audio/ogg", "flac": "audio/flac",
	"txt": "text/plain", "md": "text/markdown", "csv": "text/csv",
}

// TypeOf returns the type of an object by the one it was stored with or, if that means
// nothing, by its name; "" if neither is known.
func TypeOf(stored, name string) string {
	if stored != "" && stored != "application/octet-stream" && stored != "binary/octet-stream" {
		return stored
	}
	if dot := strings.LastIndexByte(name, '.'); dot >= 0 {
		return extensions[strings.ToLower(name[dot+1:])]
	}
	return ""
}

// ErrBase64 is the error of [Decode].
var ErrBase64 = errors.New("must be base64 with padding and nothing between (RFC 4648, 4)")

// strict refuses line breaks, which encoding/base64 skips, by checking for them, and
// stray bits in the last character.
var strict = base64.StdEncoding.Strict()

// Decode decodes strict base64.
func Decode(text []byte) ([]byte, error) {
	if bytes.ContainsAny(text, "\r\n") {
		return nil, ErrBase64
	}
	data := make([]byte, strict.DecodedLen(len(text)))
	n, err := strict.Decode(data, text)
	if err != nil {
		return nil, ErrBase64
	}
	return data[:n:n], nil
}

// Digest returns the base64url SHA-256 of a file: its type and content.
func Digest(mediaType string, data []byte) string {
	h := sha256.New()
	h.Write([]byte(mediaType))
	h.Write([]byte{0})
	h.Write(data)
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil))
}

// ValidDigest reports whether text has the form of a [Digest].
func ValidDigest(text string) bool {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	return err == nil && len(raw) == sha256.Size && !strings.ContainsAny(text, "\r\n")
}

// ErrURI is the error of [ParseURI].
var ErrURI = errors.New("must be gs://BUCKET/OBJECT, without empty or dotted segments, control characters, escapes and any of ? # * [ ] \\")

// ParseURI returns the bucket and the object of a gs:// address. It refuses what two
// readers could understand differently.
func ParseURI(uri string) (bucket, object string, err error) {
	rest, ok := strings.CutPrefix(uri, "gs://")
	bucket, object, slash := strings.Cut(rest, "/")
	if !ok || !slash || bucket == "" || object == "" || len(bucket) > 222 || len(object) > 1024 || !utf8.ValidString(object) {
		return "", "", ErrURI
	}
	if strings.ContainsFunc(bucket, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '-' || r == '_' || r == '.')
	}) {
		return "", "", ErrURI
	}
	if strings.ContainsAny(object, "?#*[]\\%") || strings.ContainsFunc(object, func(r rune) bool { return r < ' ' || r == 0x7f || r == '\u0085' || r == '\u2028' || r == '\u2029' }) {
		return "", "", ErrURI
	}
	for segment := range strings.SplitSeq(object, "/") {
		if segment == "" || segment == "." || segment == ".." {
			return "", "", ErrURI
		}
	}
	return bucket, object, nil
}

// ErrName is the error of [CheckName].
var ErrName = fmt.Errorf("must have at most %d bytes and no control characters", MaxName)

// CheckName returns an error if name, which may be "", is not a file's name.
func CheckName(name string) error {
	if len(name) > MaxName || !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		return ErrName
	}
	return nil
}

// ErrDataURL is the error of [ParseDataURL].
var ErrDataURL = errors.New("must be a data: URL with base64, such as data:image/png;base64,…")

// ParseDataURL returns the type and the base64 of a data: URL (RFC 2397).
func ParseDataURL(url []byte) (mediaType string, encoded []byte, err error) {
	head, encoded, ok := bytes.Cut(url, []byte(","))
	if !ok || len(head) > MaxType+32 {
		return "", nil, ErrDataURL
	}
	const scheme, suffix = "data:", ";base64"
	text := string(head)
	if len(text) < len(scheme) || !strings.EqualFold(text[:len(scheme)], scheme) || !strings.HasSuffix(strings.ToLower(text), suffix) {
		return "", nil, ErrDataURL
	}
	return text[len(scheme) : len(text)-len(suffix)], encoded, nil
}
