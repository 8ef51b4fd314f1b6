package files_test

import (
	"bytes"
	"compress/zlib"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"image"
	"image/png"
	"strings"
	"testing"
	"time"

	"example.com/gatehouse/internal/files"
)

// pngOf returns a picture of this size.
func pngOf(t testing.TB, width, height int) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := png.Encode(&b, image.NewGray(image.Rect(0, 0, width, height))); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func deflate(t testing.TB, data []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := zlib.NewWriter(&b)
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// wavOf returns silence of this many seconds: 8000 samples of two bytes each.
func wavOf(seconds int) []byte {
	data := make([]byte, seconds*16000)
	var b bytes.Buffer
	b.WriteString("RIFF")
	_ = binary.Write(&b, binary.LittleEndian, uint32(36+len(data)))
	b.WriteString("WAVEfmt ")
	for _, v := range []any{uint32(16), uint16(1), uint16(1), uint32(8000), uint32(16000), uint16(2), uint16(16)} {
		_ = binary.Write(&b, binary.LittleEndian, v)
	}
	b.WriteString("data")
	_ = binary.Write(&b, binary.LittleEndian, uint32(len(data)))
	b.Write(data)
	return b.Bytes()
}

func pdfOf(pages int) []byte {
	var b strings.Builder
	b.WriteString("%PDF-1.7\n1 0 obj\n<< /Type /Catalog /Pages 2 0 R >>\nendobj\n2 0 obj\n<< /Type /Pages /Kids [")
	for i := range pages {
		fmt.Fprintf(&b, " %d 0 R", i+3)
	}
	fmt.Fprintf(&b, " ] /Count %d >>\nendobj\n", pages)
	for i := range pages {
		fmt.Fprintf(&b, "%d 0 obj\n<< /Type /Page /Parent 2 0 R >>\nendobj\n", i+3)
	}
	b.WriteString("%%EOF\n")
	return []byte(b.String())
}

// mp3Of returns frames of MPEG 1 layer III at 128 kbit/s and 44.1 kHz.
func mp3Of(frames int) []byte {
	frame := make([]byte, 417)
	copy(frame, "\xff\xfb\x90\x00")
	return bytes.Repeat(frame, frames)
}

func TestTypesAreWhatTheContentSays(t *testing.T) {
	all, err := files.ParseTypes(files.Default)
	if err != nil {
		t.Fatal(err)
	}
	picture, text := pngOf(t, 2, 2), []byte("a,b\n1,2\n")
	for _, tt := range []struct {
		name, declared string
		data           []byte
		want           string
		err            error
	}{
		{"a picture", "image/png", picture, "image/png", nil},
		{"a picture in capitals", "Image/PNG", picture, "image/png", nil},
		{"a common other name", "image/jpg", []byte("\xff\xd8\xff\xe0"), "image/jpeg", nil},
		{"a parameter", "text/csv; charset=UTF-8", text, "text/csv", nil},
		{"a PDF", "application/pdf", pdfOf(1), "application/pdf", nil},
		{"a sound", "audio/x-wav", wavOf(1), "audio/wav", nil},
		{"an MP3 without a tag", "audio/mp3", mp3Of(3), "audio/mpeg", nil},
		{"a picture said to be another", "image/jpeg", picture, "", files.ErrContent},
		{"a picture said to be a PDF", "application/pdf", picture, "", files.ErrContent},
		{"a PDF said to be text", "text/plain", []byte("%PDF-1.7 only ASCII"), "", files.ErrContent},
		{"a program said to be a picture", "image/png", []byte("\x7fELF\x02\x01\x01"), "", files.ErrContent},
		{"HTML said to be a picture", "image/png", []byte("<script>alert(1)</script>"), "", files.ErrContent},
		{"text with a NUL", "text/plain", []byte("a\x00b"), "", files.ErrContent},
		{"text that is not UTF-8", "text/plain", []byte("a\xffb"), "", files.ErrContent},
		{"text in another charset", "text/plain; charset=utf-16", text, "", files.ErrType},
		{"a sync word only, said to be an MP3", "audio/mpeg", []byte("\xff\xfb"), "", files.ErrContent},
		{"nothing", "image/png", nil, "", files.ErrEmpty},
		{"no type", "", picture, "", files.ErrType},
		{"a type that is none", "image", picture, "", files.ErrType},
		{"a type with a NUL", "image/png\x00", picture, "", files.ErrType},
		{"a type with a line break", "image/png\r\nX: y", picture, "", files.ErrType},
		{"a very long type", "image/" + strings.Repeat("p", 1<<16), picture, "", files.ErrType},
		{"a type that cannot be checked", "image/svg+xml", []byte("<svg/>"), "", files.ErrType},
		{"a pattern", "image/*", picture, "", files.ErrType},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := all.Check(tt.declared, tt.data)
			if got != tt.want || !errors.Is(err, tt.err) {
				t.Errorf("got %q, %v; want %q, %v", got, err, tt.want, tt.err)
			}
		})
	}
	few, err := files.ParseTypes("application/pdf, image/png")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := few.Check("text/plain", text); !errors.Is(err, files.ErrType) {
		t.Errorf("a type that is not on the list: %v", err)
	}
	for _, list := range []string{"image/svg+xml", "video/*", "*/*", "image/*,text/html"} {
		if _, err := files.ParseTypes(list); err == nil {
			t.Errorf("the list %q was accepted", list)
		}
	}
}

func TestBase64IsStrict(t *testing.T) {
	for text, ok := range map[string]bool{
		"aGVsbG8=": true, "aGVsbG8": false, "aGVsbG9=": false, "aGVs\nbG8=": false, "aGVs\r\nbG8=": false, " aGVsbG8=": false,
		"aGVsbG8==": false, "aGVsbG8=aGVsbG8=": false, "a-_b": false, "data:text/plain;base64,aGVsbG8=": false, "": true,
	} {
		if _, err := files.Decode([]byte(text)); (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestAddressesAreReadOneWay(t *testing.T) {
	for uri, ok := range map[string]bool{
		"gs://bucket/object": true, "gs://bucket.example.com/a/b c.pdf": true, "gs://bucket/ä.png": true,
		"": false, "gs://": false, "gs://bucket": false, "gs://bucket/": false, "gs:///object": false, "GS://bucket/object": false,
		"https://storage.googleapis.com/bucket/object": false, "file:///etc/passwd": false,
		"gs://bucket/../other/object": false, "gs://bucket/a/../../b": false, "gs://bucket/./a": false, "gs://bucket/a//b": false, "gs://bucket/a/": false,
		"gs://user@bucket/a": false, "gs://bucket:80/a": false, "gs://BUCKET/a": false, "gs://bucket%2fa/b": false, "gs://buck et/a": false,
		"gs://bucket/a#123": false, "gs://bucket/a?generation=1": false, "gs://bucket/%2e%2e/a": false, "gs://bucket/a\\b": false, "gs://bucket/*": false,
		"gs://bucket/a\x00b": false, "gs://bucket/a\nb": false, "gs://bucket/a\u2028b": false, "gs://bucket/a\xff": false,
		"gs://bucket/" + strings.Repeat("a", 1025): false, "gs://" + strings.Repeat("b", 223) + "/a": false,
	} {
		bucket, object, err := files.ParseURI(uri)
		if (err == nil) != ok || ok && "gs://"+bucket+"/"+object != uri {
			t.Errorf("%q: %q, %q, %v", uri, bucket, object, err)
		}
	}
}

func TestDataURLs(t *testing.T) {
	for url, want := range map[string]string{
		"data:image/png;base64,AAAA": "image/png", "DATA:text/plain;charset=utf-8;BASE64,AAAA": "text/plain;charset=utf-8", "data:;base64,AAAA": "",
	} {
		got, encoded, err := files.ParseDataURL([]byte(url))
		if err != nil || got != want || string(encoded) != "AAAA" {
			t.Errorf("%q: %q, %q, %v", url, got, encoded, err)
		}
	}
	for _, url := range []string{"", "data:", "data:image/png,abc", "https://example.com/a.png", "data:" + strings.Repeat("x", 1<<20) + ";base64,AAAA", "base64,AAAA"} {
		if _, _, err := files.ParseDataURL([]byte(url)); err == nil {
			t.Errorf("%.40q was accepted", url)
		}
	}
}

func TestTokensAreNeverBytes(t *testing.T) {
	flac := append([]byte("fLaC"), bytes.Repeat([]byte("\xff\xf8\xc9\x18\x00\x00\x00"), 10)...) // 4096 samples at 44.1 kHz each
	objects := deflate(t, pdfOf(7)[9:])
	inStreams := append([]byte("%PDF-1.7\n1 0 obj << /Type /ObjStm /N 9 /First 9 /Filter /FlateDecode /Length 1 >>\nstream\n"), objects...)
	inStreams = append(inStreams, "\nendstream\nendobj\n"...)
	for _, tt := range []struct {
		name, media string
		data        []byte
		want        int
	}{
		{"a small picture", "image/png", pngOf(t, 300, 200), 1120},
		{"a large picture, in tiles", "image/png", pngOf(t, 1920, 1080), 258 * 6},
		{"a wide picture", "image/png", pngOf(t, 6000, 10), 258 * 12},
		{"a picture whose size is hidden", "image/heic", []byte("....ftypheic"), 258 * 24},
		{"a PDF of 3 pages", "application/pdf", pdfOf(3), 3 * 560},
		{"a PDF with its pages in an object stream", "application/pdf", inStreams, 7 * 560},
		{"a PDF of 5000 pages", "application/pdf", pdfOf(5000), 1000 * 560},
		{"an encrypted PDF", "application/pdf", append(pdfOf(1), "trailer << /Encrypt 9 0 R >>"...), 1000 * 560},
		{"a PDF with escaped names", "application/pdf", append(pdfOf(1), "<< /T#79pe /P#61ge >>"...), 1000 * 560},
		{"a PDF that names a page twice", "application/pdf", append(pdfOf(1), "<< /Kids [3 0 R 3 0 R] >>"...), 1000 * 560},
		{"a PDF that says it has fewer pages", "application/pdf", bytes.ReplaceAll(pdfOf(40), []byte("/Count 40"), []byte("/Count 1 ")), 40 * 560},
		{"a PDF without pages", "application/pdf", []byte("%PDF-1.7 nothing"), 1000 * 560},
		{"ten seconds", "audio/wav", wavOf(10), 32 * 11},
		{"a WAV whose header lies", "audio/wav", bytes.Replace(wavOf(1), []byte("\x40\x1f\x00\x00"), []byte("\x01\x00\x00\x00"), 1), 32 * 34_201},
		{"a thousand frames of MP3", "audio/mpeg", mp3Of(1000), 32 * 27},
		{"ten frames of FLAC", "audio/flac", flac, 32 * 1},
		{"text", "text/plain", bytes.Repeat([]byte("word "), 100), 251},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := files.Tokens(tt.media, tt.data, false); got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
		})
	}
	if got := files.Tokens("application/pdf", pdfOf(3), true); got != 3*1120 {
		t.Errorf("at a high resolution: %d", got)
	}
}

// A bomb must cost neither memory nor time: what it would unpack to is counted as the
// most that a model takes.
func TestABombIsCountedAndNotUnpacked(t *testing.T) {
	const size = 7 << 20
	zeros := deflate(t, make([]byte, 1<<30))
	const head = "1 0 obj << /Type /ObjStm /Filter /FlateDecode >> stream\n"
	stream, empty := append([]byte(head), zeros...), append([]byte(head), deflate(t, nil)...)
	for name, data := range map[string][]byte{
		"streams that unpack to gigabytes": append([]byte("%PDF-1.7\n"), bytes.Repeat(stream, size/len(stream))...),
		"only the word stream":             append([]byte("%PDF-1.7\n"), bytes.Repeat([]byte("stream "), size/7)...),
		"only slashes":                     append([]byte("%PDF-1.7\n"), bytes.Repeat([]byte("/"), size)...),
		"arrays without an end":            append([]byte("%PDF-1.7\n"), bytes.Repeat([]byte("/Kids ["), size/7)...),
		"arrays within an array":           append(append([]byte("%PDF-1.7\n"), bytes.Repeat([]byte("/Kids ["), size/7-2)...), ']'),
		"small arrays":                     append([]byte("%PDF-1.7\n"), bytes.Repeat([]byte("/Kids[]"), size/7)...),
		"streams that unpack to nothing":   append(pdfOf(1), bytes.Repeat(empty, size/len(empty)-16)...),
		"object streams without data":      append([]byte("%PDF-1.7\n"), bytes.Repeat([]byte("obj/ObjStm stream\n"), size/18)...),
	} {
		t.Run(name, func(t *testing.T) {
			begin := time.Now()
			if got := files.Pages(data[:min(len(data), size)]); got != 1000 {
				t.Errorf("%d pages", got)
			}
			if took := time.Since(begin); took > 5*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
}

func FuzzTokens(f *testing.F) {
	f.Add("application/pdf", pdfOf(2))
	f.Add("audio/mpeg", mp3Of(2))
	f.Add("audio/wav", wavOf(1)[:64])
	f.Add("audio/ogg", []byte("OggS\x00\x02\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01\x13OpusHead\x01\x02\x00\x00\x80\xbb\x00\x00\x00\x00\x00"))
	f.Add("audio/flac", []byte("fLaC\xff\xf8\xc9\x18"))
	f.Add("audio/aac", []byte("\xff\xf1\x50\x80\x01\xff\xfc"))
	f.Add("image/png", pngOf(f, 1, 1))
	all, _ := files.ParseTypes(files.Default)
	f.Fuzz(func(t *testing.T, media string, data []byte) {
		name, err := all.Check(media, data)
		if err != nil {
			return
		}
		if tokens := files.Tokens(name, data, true); tokens < 1 || tokens > 2*560*1000+len(data) {
			t.Errorf("%d tokens", tokens)
		}
	})
}

func TestDigestsNameTypeAndContent(t *testing.T) {
	a, b := files.Digest("text/plain", []byte("x")), files.Digest("text/csv", []byte("x"))
	if a == b || !files.ValidDigest(a) || files.ValidDigest(a+"A") || files.ValidDigest("../"+a[3:]) || files.ValidDigest(base64.RawURLEncoding.EncodeToString([]byte("short"))) {
		t.Errorf("%q, %q", a, b)
	}
}
