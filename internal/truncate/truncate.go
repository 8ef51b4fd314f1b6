// Package truncate bounds what callers and upstreams wrote before it is shown: in an
// error, a log line, a report.
package truncate

// Text returns s if it has at most n bytes, else as many whole runes of it as fit in n
// bytes and "…", whose three bytes are not counted. In bytes that are not UTF-8 the cut may
// be anywhere.
func Text(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xC0 == 0x80 { // inside a rune of UTF-8
		n--
	}
	return s[:n] + "…"
}
