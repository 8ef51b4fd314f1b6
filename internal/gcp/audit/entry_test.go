package audit_test

import (
	"bytes"
	"math"
	"strconv"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"pgregory.net/rapid"

	"example.com/gatehouse/internal/gcp/audit"
)

// A line is one JSON object with its members in order, and each has its value, for any text.
func TestLinesAreJSON(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		text := rapid.OneOf(
			rapid.Just(""), rapid.String(), rapid.StringOf(rapid.RuneFrom([]rune("\"\\/\b\n\x00\x7f\u2028<>&é{}:,"))),
			rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }),
		)
		number := rapid.OneOf(rapid.Just(int64(0)), rapid.Int64())
		cost := rapid.OneOf(rapid.Float64(), rapid.SampledFrom([]float64{0, math.Copysign(0, -1), 0.000123, 1e-6, 9.9e-7, 12.5, 1e20, 1e21, -0.5, math.Inf(1), math.NaN()})).Draw(rt, "cost")
		e := audit.Entry{
			ID: text.Draw(rt, "id"), Action: text.Draw(rt, "action"), Outcome: text.Draw(rt, "outcome"), Principal: text.Draw(rt, "principal"),
			EndUser: text.Draw(rt, "end user"), Session: text.Draw(rt, "session"), Turn: int(number.Draw(rt, "turn")), Model: text.Draw(rt, "model"),
			Agent: text.Draw(rt, "agent"), Calls: text.Draw(rt, "calls"), Tokens: number.Draw(rt, "tokens"), CostUSD: &cost,
			Status: int(number.Draw(rt, "status")), Count: number.Draw(rt, "count"), RequestID: text.Draw(rt, "request"),
			Trace: text.Draw(rt, "trace"), SpanID: text.Draw(rt, "span"), TraceSampled: rapid.Bool().Draw(rt, "sampled"),
		}
		var out bytes.Buffer
		l, err := audit.New(t.Context(), "", audit.Off, "", &out)
		if err != nil {
			rt.Fatal(err)
		}
		l.Write(t.Context(), e)
		var members map[string]jsontext.Value
		if err := json.Unmarshal(out.Bytes(), &members); err != nil {
			rt.Fatalf("%s: %v", &out, err)
		}
		if id, at := members["logging.googleapis.com/insertId"], members["time"]; string(id) == `""` || strings.HasPrefix(string(at), `"0001-`) {
			rt.Errorf("id %s, time %s", id, at)
		}
		if raw, written := members["cost_usd"]; written {
			if got, err := strconv.ParseFloat(string(raw), 64); err != nil || got != cost {
				rt.Errorf("cost %s, want %v", raw, cost)
			}
		}
		for name, given := range map[string]string{
			"action": e.Action, "agent_digest": e.Agent, "calls": e.Calls, "end_user": e.EndUser, "model": e.Model, "outcome": e.Outcome,
			"principal": e.Principal, "request_id": e.RequestID, "session_id": e.Session,
		} {
			var got string
			raw, written := members[name]
			if written {
				err = json.Unmarshal(raw, &got)
			}
			if want := strings.ToValidUTF8(given, "\uFFFD"); err != nil || written != (want != "") || len(given) <= 512 && got != want {
				rt.Errorf("%s %s, want %q: %v", name, raw, want, err)
			}
		}
		want, err := json.Marshal(members, json.Deterministic(true))
		if err != nil {
			rt.Fatal(err)
		}
		if want = append(want, '\n'); !bytes.Equal(out.Bytes(), want) {
			rt.Errorf("wrote\n%swant\n%s", &out, want)
		}
	})
}
