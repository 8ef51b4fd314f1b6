package files

import (
	"bytes"
	"encoding/binary"
	"image"
	_ "image/jpeg" // for DecodeConfig
	_ "image/png"
	"strings"
)

// A model does not count a file's bytes: it counts an image by its size, a PDF by its
// pages, and audio by its seconds. A reservation must not be below what the model will
// count, independent of what the file claims, so each figure is the highest of the families'
// (https://ai.google.dev/gemini-api/docs/tokens and
// https://ai.google.dev/gemini-api/docs/media-resolution), and what a file hides from
// a cheap look counts as the most that a model takes. The model's own count replaces
// it after the first call.
const (
	imageTokens = 1120 // of Gemini 3, at the default and the highest resolution of a request
	tileTokens  = 258  // of each tile of an image, of Gemini 2
	mostTiles   = 24   // of an image scaled to 3072 by 3072 pixels
	pageTokens  = 560  // of a page, at the default resolution; twice as much at a high one
	mostPages   = 1000 // that a model takes
	audioTokens = 32   // of a second
	mostSeconds = 34_200
	textBytes   = 2 // of a token of text, at least in most scripts
)

// Tokens returns the most tokens that a model counts for a file of a type that
// [Types.Check] has accepted. high is set for requests with a high media resolution.
func Tokens(mediaType string, data []byte, high bool) int {
	switch kind, _, _ := strings.Cut(mediaType, "/"); {
	case kind == "image":
		return max(imageTokens, tileTokens*tiles(data))
	case mediaType == "application/pdf":
		tokens := pageTokens * Pages(data)
		if high {
			tokens *= 2
		}
		return tokens
	case kind == "audio":
		return audioTokens * int(min(seconds(mediaType, data), mostSeconds)+1)
	}
	return len(data)/textBytes + 1
}

// tiles returns the number of tiles that Gemini 2 cuts an image into.
func tiles(data []byte) int {
	config, _, err := image.DecodeConfig(bytes.NewReader(data))
	if err != nil || config.Width <= 0 || config.Height <= 0 {
		return mostTiles
	}
	width, height := config.Width, config.Height
	if width <= 384 && height <= 384 {
		return 1
	}
	const edge = 3072 // larger images are scaled down to fit
	if longer := max(width, height); longer > edge {
		width, height = max(1, width*edge/longer), max(1, height*edge/longer)
	}
	side := min(max(min(width, height)*2/3, 256), 768)
	return min(((width+side-1)/side)*((height+side-1)/side), mostTiles)
}

// seconds returns the duration of a sound, at least of what its decoder would play.
func seconds(mediaType string, data []byte) float64 {
	switch mediaType {
	case "audio/wav":
		if s, ok := wavSeconds(data); ok {
			return s
		}
	case "audio/mpeg":
		if s, ok := mp3Seconds(data); ok {
			return s
		}
	case "audio/aac":
		if s, ok := aacSeconds(data); ok {
			return s
		}
	case "audio/flac":
		return flacSeconds(data)
	case "audio/ogg":
		return oggSeconds(data)
	}
	return mostSeconds
}

// wavSeconds divides the bytes by those of a second of the slowest reading of the
// header. Only PCM is that simple.
func wavSeconds(data []byte) (float64, bool) {
	for at := 12; at+8 <= len(data); {
		size := int64(binary.LittleEndian.Uint32(data[at+4:]))
		if string(data[at:at+4]) == "fmt " {
			if at+24 > len(data) {
				return 0, false
			}
			format := binary.LittleEndian.Uint16(data[at+8:])
			channels := int64(binary.LittleEndian.Uint16(data[at+10:]))
			rate := int64(binary.LittleEndian.Uint32(data[at+12:]))
			bits := int64(binary.LittleEndian.Uint16(data[at+22:]))
			perSecond := rate * channels * (bits / 8)
			if format != 1 && format != 3 && format != 0xfffe || perSecond < 1000 {
				return 0, false
			}
			return float64(len(data)) / float64(perSecond), true
		}
		next := int64(at) + 8 + size + size%2
		if next > int64(len(data)) {
			return 0, false
		}
		at = int(next)
	}
	return 0, false
}

// afterID3 returns data without an ID3v2 tag at its start.
func afterID3(data []byte) []byte {
	if len(data) < 10 || string(data[:3]) != "ID3" {
		return data
	}
	size := int(data[6]&0x7f)<<21 | int(data[7]&0x7f)<<14 | int(data[8]&0x7f)<<7 | int(data[9]&0x7f)
	if 10+size > len(data) {
		return nil
	}
	return data[10+size:]
}

var (
	mp3Rates = [2][16]int{ // kbit/s of layer III: MPEG 1, then MPEG 2 and 2.5
		{0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0},
		{0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0},
	}
	mp3Samples = [4][4]int{ // Hz by version: 2.5, reserved, 2, 1
		{11025, 12000, 8000, 0}, {}, {22050, 24000, 16000, 0}, {44100, 48000, 32000, 0},
	}
)

// mp3Seconds adds up the frames, and reports whether data begins with one. Between
// frames it searches byte by byte, as decoders do.
func mp3Seconds(data []byte) (total float64, ok bool) {
	data = afterID3(data)
	for at := 0; at+4 <= len(data); {
		size, duration := mp3Frame(data[at:])
		if size == 0 {
			if at == 0 {
				return 0, false
			}
			at++
			continue
		}
		total += duration
		at += size
	}
	return total, total > 0
}

// mp3Frame returns the size and the seconds of the frame of layer III at the start of
// data, 0 if there is none.
func mp3Frame(data []byte) (size int, seconds float64) {
	if data[0] != 0xff || data[1]&0xe0 != 0xe0 || data[1]>>1&3 != 1 {
		return 0, 0
	}
	version := int(data[1] >> 3 & 3)
	table, perFrame := 1, 576
	if version == 3 {
		table, perFrame = 0, 1152
	}
	kbits, rate := mp3Rates[table][data[2]>>4], mp3Samples[version][data[2]>>2&3]
	if kbits == 0 || rate == 0 {
		return 0, 0
	}
	return perFrame/8*kbits*1000/rate + int(data[2]>>1&1), float64(perFrame) / float64(rate)
}

var aacRates = [16]int{96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000, 7350}

// aacSeconds adds up the frames of ADTS, and reports whether data begins with one.
func aacSeconds(data []byte) (total float64, ok bool) {
	data = afterID3(data)
	for at := 0; at+7 <= len(data); {
		d := data[at:]
		rate := aacRates[d[2]>>2&15]
		size := int(d[3]&3)<<11 | int(d[4])<<3 | int(d[5])>>5
		if d[0] != 0xff || d[1]&0xf6 != 0xf0 || rate == 0 || size < 7 {
			if at == 0 {
				return 0, false
			}
			at++
			continue
		}
		total += float64(1024*(int(d[6]&3)+1)) / float64(rate) * 2 // HE-AAC doubles what a frame holds
		at += size
	}
	return total, total > 0
}

// flacSeconds counts what may be frames by the codes at their start: the length that
// the file's first block names need not be true.
func flacSeconds(data []byte) float64 {
	total := 0.0
	for at := 4; at+4 <= len(data); at++ {
		if data[at] != 0xff || data[at+1]&0xfe != 0xf8 {
			continue
		}
		block, rate := 65536, 8000
		switch code := data[at+2] >> 4; {
		case code == 0:
			continue // reserved
		case code == 1:
			block = 192
		case code <= 5:
			block = 576 << (code - 2)
		case code >= 8:
			block = 256 << (code - 8)
		}
		if named := [16]int{0, 88200, 176400, 192000, 8000, 16000, 22050, 24000, 32000, 44100, 48000, 96000}[data[at+2]&15]; named > 0 {
			rate = named
		}
		total += float64(block) / float64(rate)
	}
	return total
}

// oggSeconds adds up the packets: exactly for Opus, and as the longest that there may
// be for other codecs.
func oggSeconds(data []byte) float64 {
	const unknown = 8192.0 / 8000 // Vorbis: the longest block at the lowest usual rate
	opus, continued, total := false, false, 0.0
	for at := 0; at+27 <= len(data); {
		if string(data[at:at+4]) != "OggS" {
			at++
			continue
		}
		laces := int(data[at+26])
		body := at + 27 + laces
		if body > len(data) {
			break
		}
		for i, start := 0, body; i < laces; i++ {
			lace := int(data[at+27+i])
			if !continued && start+8 <= len(data) {
				if packet := data[start:]; string(packet[:8]) == "OpusHead" {
					opus = true
				} else if opus {
					total += opusSeconds(packet)
				} else {
					total += unknown
				}
			}
			continued = lace == 255
			start += lace
			body = start
		}
		at = min(max(body, at+27), len(data))
	}
	return total
}

// opusSeconds returns the duration of a packet (RFC 6716, 3.1 and 3.2).
func opusSeconds(packet []byte) float64 {
	config := packet[0] >> 3
	milliseconds := [4]float64{2.5, 5, 10, 20}[config&3]
	switch {
	case config < 12:
		milliseconds = [4]float64{10, 20, 40, 60}[config&3]
	case config < 16:
		milliseconds = [2]float64{10, 20}[config&1]
	}
	frames := 1.0
	switch packet[0] & 3 {
	case 1, 2:
		frames = 2
	case 3:
		frames = float64(packet[1] & 0x3f)
	}
	return min(frames*milliseconds, 120) / 1000
}
