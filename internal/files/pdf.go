package files

import (
	"bytes"
	"compress/zlib"
	"encoding/hex"
	"io"
	"strings"
)

const (
	// maxInflated bounds what is unpacked of a PDF to count its pages, in bytes.
	maxInflated = 16 << 20
	// leastInflated is what each stream counts for at least: beginning to unpack one takes some
	// 40 KiB, and hundreds of thousands of empty ones fit in a file.
	leastInflated = 1 << 10
)

// Pages returns the number of pages of a PDF, at least as many as a reader would show,
// up to the 1000 that a model takes.
//
// It is the highest of what the page tree states and of what there is of it, in plain
// and in object streams. A file that hides any of it, by encryption, by another
// filter, by escaped names, by naming a page twice, or behind more than is
// unpacked here, counts as 1000.
func Pages(data []byte) int {
	var c pageCount
	c.scan(data)
	left := maxInflated
	for rest := data; !c.hidden; {
		at := bytes.Index(rest, []byte("stream"))
		if at < 0 {
			break
		}
		before := rest[:at]
		if bytes.HasSuffix(before, []byte("end")) {
			rest = rest[at+len("stream"):]
			continue
		}
		if start := bytes.LastIndex(before, []byte("obj")); start >= 0 {
			before = before[start:]
		}
		rest = rest[at+len("stream"):]
		if bytes.Contains(before, []byte("/ObjStm")) {
			left -= max(c.unpack(before, rest, left), leastInflated)
		}
	}
	switch pages := max(c.objects, c.claimed, len(c.kids)); {
	case c.hidden || pages == 0:
		return mostPages
	default:
		return min(pages, mostPages)
	}
}

// A pageCount is what a scan has found of a page tree.
type pageCount struct {
	objects int                 // of the type Page
	claimed int                 // the highest /Count
	kids    map[string]struct{} // references in /Kids
	hidden  bool                // not everything can be seen
}

// unpack scans the object stream that begins at data, described by dictionary, and
// returns the bytes that it unpacked.
func (c *pageCount) unpack(dictionary, data []byte, left int) int {
	if bytes.Count(dictionary, []byte("Decode")) != 1 || !bytes.Contains(dictionary, []byte("/FlateDecode")) {
		c.hidden = true
		return 0
	}
	data = bytes.TrimPrefix(bytes.TrimPrefix(data, []byte("\r")), []byte("\n"))
	reader, err := zlib.NewReader(bytes.NewReader(data))
	if err != nil {
		c.hidden = true
		return 0
	}
	unpacked, err := io.ReadAll(io.LimitReader(reader, int64(left)+1))
	if len(unpacked) > left || err != nil {
		c.hidden = true
		return 0
	}
	c.scan(unpacked)
	return len(unpacked)
}

// space is white space in a PDF.
const space = " \t\r\n\f\x00"

// scan looks at the names in data.
func (c *pageCount) scan(data []byte) {
	for at := bytes.IndexByte(data, '/'); at >= 0 && !c.hidden; {
		data = data[at+1:]
		end := bytes.IndexAny(data, space+"/[]<>()%{}")
		if end < 0 {
			return
		}
		name, value := data[:min(end, 128)], bytes.TrimLeft(data[end:], space)
		switch string(name) {
		case "Encrypt":
			c.hidden = true
		case "Type":
			if bytes.HasPrefix(value, []byte("/Page")) && !bytes.HasPrefix(value, []byte("/Pages")) {
				c.objects++
			}
		case "Count":
			n := 0
			for i := 0; i < len(value) && value[i] >= '0' && value[i] <= '9' && n < mostPages; i++ {
				n = 10*n + int(value[i]-'0')
			}
			c.claimed = max(c.claimed, n)
		case "Kids":
			c.addKids(value)
		default:
			if isEscaped(name) {
				c.hidden = true
			}
		}
		at = bytes.IndexByte(data, '/')
	}
}

// addKids adds the references of an array. One that is not in plain sight, or that
// comes twice, hides pages.
func (c *pageCount) addKids(value []byte) {
	array, ok := bytes.CutPrefix(value, []byte("["))
	// The search ends at the first character of anything else, so that it is linear
	// over all arrays of a file.
	end := bytes.IndexFunc(array, func(r rune) bool { return !(r >= '0' && r <= '9' || r == 'R' || strings.ContainsRune(space, r)) })
	if !ok || end < 0 || array[end] != ']' {
		c.hidden = true
		return
	}
	if c.kids == nil {
		c.kids = map[string]struct{}{}
	}
	for reference := range strings.SplitSeq(string(array[:end]), "R") {
		if reference = strings.Join(strings.Fields(reference), " "); reference == "" {
			continue
		}
		if _, twice := c.kids[reference]; twice || len(c.kids) > 2*mostPages {
			c.hidden = true
			return
		}
		c.kids[reference] = struct{}{}
	}
}

// isEscaped reports whether name is one that is looked for, with characters written in
// hexadecimal (ISO 32000-1, 7.3.5).
func isEscaped(name []byte) bool {
	if bytes.IndexByte(name, '#') < 0 {
		return false
	}
	var plain []byte
	for i := 0; i < len(name); i++ {
		c := []byte{name[i]}
		if name[i] == '#' && i+2 < len(name) {
			if _, err := hex.Decode(c, name[i+1:i+3]); err == nil {
				i += 2
			}
		}
		plain = append(plain, c...)
	}
	switch string(plain) {
	case "Type", "Page", "Pages", "Count", "Kids", "Encrypt", "ObjStm":
		return true
	}
	return false
}
