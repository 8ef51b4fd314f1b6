package telemetry

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// A line is the same to the byte, whether it is written here or by slog's handler.
func TestLinesAreThoseOfSlog(t *testing.T) {
	t.Parallel()
	here := 0
	rapid.Check(t, func(rt *rapid.T) {
		text := rapid.OneOf(
			rapid.SampledFrom([]string{"", "POST /invoke 200 OK", "<a href=x>&", slog.MessageKey, slog.LevelKey, slog.TimeKey}),
			rapid.StringOf(rapid.RuneFrom([]rune("\"\\\n\r\x00\x7f\u2028é{}:, a"))),
			rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }),
		)
		usual := rapid.Bool().Draw(rt, "usual")
		if usual {
			text = rapid.StringMatching(`[ -!#-\[\]-~]+`)
		}
		var attr *rapid.Generator[slog.Attr]
		attr = rapid.Custom(func(rt *rapid.T) slog.Attr {
			key, kinds := text.Draw(rt, "key"), 9
			if usual {
				kinds = 3
			}
			switch rapid.IntRange(0, kinds).Draw(rt, "kind") {
			case 0:
				return slog.String(key, text.Draw(rt, "text"))
			case 1:
				return slog.Int64(key, rapid.Int64().Draw(rt, "number"))
			case 2:
				return slog.Bool(key, rapid.Bool().Draw(rt, "bool"))
			case 3:
				return slog.GroupAttrs(rapid.SampledFrom([]string{"", "group", key}).Draw(rt, "group"),
					slog.Int("a", 1), slog.String("b", text.Draw(rt, "member")), slog.GroupAttrs("c", slog.Bool("d", true)))
			case 4:
				return slog.GroupAttrs("group", rapid.SliceOfN(attr, 0, 2).Draw(rt, "members")...)
			case 5:
				return slog.Any(key, slog.LevelWarn)
			case 6:
				return slog.Any(key, errors.New("an error"))
			case 7:
				return slog.Duration(key, time.Second)
			case 8:
				return slog.Float64(key, 0.5)
			default:
				return slog.Attr{}
			}
		})
		source := Source{Service: text.Draw(rt, "service"), Version: "1", Labels: map[string]string{"version": text.Draw(rt, "version"), "environment": "test"}}
		record := slog.NewRecord(time.Unix(rapid.Int64Range(0, 1<<33).Draw(rt, "time"), 123456000), slog.Level(rapid.IntRange(-8, 12).Draw(rt, "level")), text.Draw(rt, "message"), 0)
		record.AddAttrs(rapid.SliceOf(attr).Draw(rt, "attributes")...)

		var ours, slogs bytes.Buffer
		if h := NewLogger(&ours, nil, source).Handler().(*handler); h.out != nil {
			if written, err := h.out.write(h.fields, &record); err != nil {
				rt.Fatal(err)
			} else if !written && ours.Len() > 0 {
				rt.Fatalf("wrote %s", &ours)
			}
		}
		if ours.Len() == 0 {
			if usual {
				rt.Fatalf("left to slog: %+v", record)
			}
			return
		}
		here++
		h := NewLogger(&slogs, nil, source).Handler().(*handler)
		if err := h.Handler.Handle(context.Background(), record); err != nil {
			rt.Fatal(err)
		}
		if ours.String() != slogs.String() {
			rt.Errorf("here\n%sby slog\n%s", &ours, &slogs)
		}
	})
	if here == 0 {
		t.Error("no line was written here")
	}
}
