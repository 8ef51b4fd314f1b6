package reader_test

import (
	"encoding/base64"
	"encoding/json"
	"reflect"
	"testing"

	"example.com/gatehouse/agenttest"
	"example.com/gatehouse/examples/reader"
)

// invoice is a file of a type that is accepted; what it says is up to the script.
var invoice = map[string]any{"files": []any{map[string]any{
	"type": "application/pdf", "data": base64.StdEncoding.EncodeToString([]byte("%PDF-1.7\n1 0 obj << /Type /Page >> endobj")),
}}}

var read = reader.Invoice{
	Supplier: "Müller AG", Number: "2026-117", Date: "2026-11-20", Currency: "CHF", Total: 11995,
	Items: []reader.Item{{Text: "Paper", Amount: 2050}, {Text: "Desk", Amount: 10000}, {Text: "Discount", Amount: -55}},
}

func asMap(t *testing.T, v any) map[string]any {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func asText(t *testing.T, v any) string {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func TestAnInvoice(t *testing.T) {
	s := agenttest.Start(t, reader.New)
	wrong := read
	wrong.Total = 99
	s.Model(
		agenttest.Call("check_sum", asMap(t, wrong)),
		agenttest.Call("check_sum", asMap(t, read)).And("make_table", asMap(t, read)),
		agenttest.Say(asText(t, read)),
	)
	answer := s.Do(agenttest.Request{Query: "What is on this invoice? Make a table of it.", Body: invoice})
	if answer.Status != 200 || len(answer.Tools) != 3 || answer.Tools[0].OK || !answer.Tools[1].OK || !answer.Tools[2].OK {
		t.Fatalf("%+v", answer)
	}
	if !reflect.DeepEqual(answer.Data["output"], asMap(t, read)) {
		t.Errorf("the answer is %v", answer.Data["output"])
	}
	files, _ := answer.Data["files"].([]any)
	if len(files) != 1 {
		t.Fatalf("files: %v", answer.Data["files"])
	}
	table, _ := files[0].(map[string]any)
	if content, _ := base64.StdEncoding.DecodeString(table["data"].(string)); table["name"] != "invoice.csv" || string(content) != "Paper,20.50\nDesk,100.00\nDiscount,-0.55\n" {
		t.Errorf("%v", table)
	}
	if part := answer.Sent[0].Contents[0].Parts[1]; part.InlineData == nil || part.InlineData.MIMEType != "application/pdf" {
		t.Errorf("the model is sent %+v", part)
	}
}

func TestAnInvoiceThatIsNone(t *testing.T) {
	lie := map[string]any{"files": []any{map[string]any{"type": "application/pdf", "data": base64.StdEncoding.EncodeToString([]byte("MZ\x90\x00"))}}}
	answer := agenttest.Start(t, reader.New).Do(agenttest.Request{Query: "What is on this invoice?", Body: lie})
	if answer.Status != 422 || answer.Error != "validation_failed" || len(answer.Sent) != 0 {
		t.Errorf("%+v", answer)
	}
}
