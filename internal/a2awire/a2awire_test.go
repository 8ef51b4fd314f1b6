package a2awire_test

import (
	"testing"

	"example.com/gatehouse/internal/a2awire"
)

func TestMend(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, answer string
		void         bool
		want         string
	}{
		{"a result", `{"id":1,"result":{}}`, false, `{"id":1,"result":{}}`},
		{"no result", `{"id":1}`, true, `{"id":1,"result":null}`},
		{"a result of a method that should have none", `{"id":1,"result":{}}`, true, `{"id":1,"result":{}}`},
		{"an error of a method without a result", `{"error":{"code":-32001},"id":1}`, true, `{"error":{"code":-32001},"id":1}`},
		{"a type of the program", `{"id":1,"error":{"code":-32602,"message":"invalid params: json: cannot unmarshal \"x\" into Go value of type a2a.T","data":[]}}`, false,
			`{"id":1,"error":{"code":-32602,"message":"invalid params: they are not what the method takes","data":[]}}`},
		{"a type in a stream", "id: 1\ndata: {\"error\":{\"code\":-32602,\"message\":\"invalid params: json: T\"}}\n\n", false,
			"id: 1\ndata: {\"error\":{\"code\":-32602,\"message\":\"invalid params: they are not what the method takes\"}}\n\n"},
		{"an error of the server's own", `{"id":1,"error":{"code":-32601,"message":"method not found","data":[{"@type":"x","metadata":{"timestamp":"T"}}]}}`, false,
			`{"id":1,"error":{"code":-32601,"message":"method not found","data":[{"@type":"x","metadata":{"error":"not_found","request_id":"id","timestamp":"T"}}]}}`},
		{"what is no JSON", `{"error":{"code":-32700,"message":"parse error: invalid character \"x\"","data":[{"metadata":{"timestamp":"T"}}]}}`, false,
			`{"error":{"code":-32700,"message":"parse error: what was sent cannot be read","data":[{"metadata":{"error":"malformed_request","request_id":"id","timestamp":"T"}}]}}`},
		{"an error of the gate's with its code", `{"error":{"code":-32602,"message":"x","data":[{"metadata":{"error":"validation_failed","timestamp":"T"}}]}}`, false,
			`{"error":{"code":-32602,"message":"x","data":[{"metadata":{"error":"validation_failed","timestamp":"T"}}]}}`},
		{"a result with an error in it", `{"result":{"error":{"code":-32601,"message":"x","data":[{"metadata":{"timestamp":"T"}}]}}}`, false,
			`{"result":{"error":{"code":-32601,"message":"x","data":[{"metadata":{"timestamp":"T"}}]}}}`},
		{"an error of the gate's", `{"error":{"code":-32602,"message":"Part of what was sent is missing."}}`, false, `{"error":{"code":-32602,"message":"Part of what was sent is missing."}}`},
		{"an answer that quotes one", `{"result":{"text":"\"error\":{\"code\":-32602,\"message\":\"invalid params: json\"}"}}`, false,
			`{"result":{"text":"\"error\":{\"code\":-32602,\"message\":\"invalid params: json\"}"}}`},
		{"one that is cut off", `{"error":{"code":-32602,"message":"invalid params: \`, false, `{"error":{"code":-32602,"message":"invalid params: \`},
		{"no JSON", "ping", true, "ping"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := string(a2awire.Request{ID: "id", Void: tt.void}.Mend([]byte(tt.answer))); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
}
