package invoke_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"example.com/gatehouse/internal/api"
	"example.com/gatehouse/internal/caller"
	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/session"
	"example.com/gatehouse/tool"
)

// keyedPayment has a payment, asked for with the key "key", wait for a person in i's store, and
// returns what its client has read and its record.
func keyedPayment(t *testing.T, i *instance, store session.Store, server *httptest.Server, gemini *geminitest.Server) (answered, *session.Run) {
	t.Helper()
	gemini.Enqueue(pays(50))
	_, body := ask(t, server, "/invoke", `{"query": "pay"}`, "Idempotency-Key", "key")
	waits := decodeAnswer(t, body)
	_, turn, _ := session.SplitRunID(waits.Data.RunID)
	record, err := store.LoadRun(t.Context(), i.records[turn].Key, turn)
	if err != nil {
		t.Fatal(err)
	}
	return waits, record
}

// A record that somebody has edited so that it cannot be read ends its run as failed, once: with
// a sentence for whoever looks, without asking the model or doing anything again, and its
// conversation goes on.
func TestACheckpointThatCannotBeRead(t *testing.T) {
	t.Parallel()
	everyStore(t, checkpointThatCannotBeRead)
}

func checkpointThatCannotBeRead(t *testing.T, open func(*testing.T) session.Store) {
	for name, edit := range map[string]string{
		"no JSON":                `{"contents":[`,
		"a list":                 `[]`,
		"null":                   `null`,
		"an empty object":        `{}`,
		"a text for a number":    `{"contents":[{"role":"user","parts":[{"text":"pay"}]}],"step":"one"}`,
		"a place below zero":     `{"contents":[{"role":"user","parts":[{"text":"pay"}]}],"step":-1}`,
		"contents of no form":    `{"contents":7}`,
		"a content of no form":   `{"contents":[{"role":"user","parts":[{"text":7}]}],"step":1}`,
		"no contents":            `{"contents":[]}`,
		"contents that are null": `{"contents":[null]}`,
		"parts that are null":    `{"contents":[{"role":"model","parts":[null]}],"step":1}`,
		"ends of no form":        `{"contents":[{"role":"user","parts":[{"text":"pay"}]}],"step":1,"ends":{"0":7}}`,
		"a result in its ledger": "",
	} {
		for _, test := range []struct {
			of            string
			waits, effect bool
		}{{of: "waits", waits: true}, {of: "has a dead holder"}, {of: "has a dead holder and had an effect", effect: true}} {
			t.Run(name+", of a run that "+test.of, func(t *testing.T) {
				t.Parallel()
				bank, gemini, store := &bank{}, geminitest.Start(t), open(t)
				i := &instance{Store: lapsing{store}}
				server, log := serveAgent(t, i, gemini, bank.agent(tool.Effect(bank.reconcile), tool.Confirm(question)))
				paused, record := keyedPayment(t, i, store, server, gemini)
				waits := paused.Data
				edited := *record
				edited.Checkpoint = json.RawMessage(edit)
				if !test.waits { // and has no turn
					edited.ID, edited.Revision, edited.KeyHash = session.NewID(), nil, ""
					edited.State, edited.Holder, edited.Pending = session.Working, "dead", nil
				}
				effect := test.effect
				if effect {
					edited.Effects = map[string]session.Effect{"e": {Name: "pay", Step: 1}}
				}
				if edit == "" {
					effect = true
					edited.Checkpoint, edited.Effects = record.Checkpoint, map[string]session.Effect{"e": {Name: "pay", Step: 1, Done: true, Result: json.RawMessage("7")}}
				}
				if _, err := store.SaveRun(t.Context(), &edited); err != nil {
					t.Fatal(err)
				}
				run, asked := session.RunID(edited.Key.ID, edited.ID), len(gemini.Requests())
				const sentence = "This answer cannot go on: what is stored of it cannot be read."
				var body string
				if test.waits {
					_, body = approve(t, server, run, waits.Pending[0].CallID, true)
				} else {
					body = get(t, server, "/runs/"+run+"/events")
				}
				if !strings.Contains(body, sentence) || strings.Contains(body, "Check what") != effect {
					t.Errorf("the first look: %s", body)
				}
				for range 3 {
					for _, path := range []string{"/runs/" + run, "/runs/" + run + "/events"} {
						if body := get(t, server, path); !strings.Contains(body, sentence) || strings.Contains(body, "WAITING") {
							t.Errorf("%s: %s", path, body)
						}
					}
					if status, body := approve(t, server, run, "call_1_1", true); status != http.StatusConflict {
						t.Errorf("approved: %d, %s", status, body)
					}
				}
				if info := get(t, server, "/runs/"+run); !strings.Contains(info, `"state":"failed"`) {
					t.Errorf("the run: %s", info)
				}
				if test.waits {
					if status, body := ask(t, server, "/invoke", `{"query": "pay"}`, "Idempotency-Key", "key"); status != http.StatusInternalServerError || !strings.Contains(body, sentence) {
						t.Errorf("a retry of its key: %d, %s", status, body)
					}
				}
				if n := strings.Count(log.String(), "the record of a run cannot be read: "); n != 1 {
					t.Errorf("logged %d times: %s", n, log)
				}
				if n := len(gemini.Requests()); n != asked || bank.sum() != 0 {
					t.Errorf("the model was asked %d times, %d paid", n-asked, bank.sum())
				}
				gemini.Enqueue(geminitest.Text("Hello."))
				if status, body := ask(t, server, "/invoke", `{"query": "hello", "session_id": "`+waits.SessionID+`"}`); status != http.StatusOK {
					t.Errorf("the next message: %d, %s", status, body)
				}
			})
		}
	}
}

// A record of which not even the request can be read ends its run alike. What has begun in it is
// not known, and its key is not free.
func TestARecordThatCannotBeRead(t *testing.T) {
	t.Parallel()
	everyStore(t, func(t *testing.T, open func(*testing.T) session.Store) {
		const sentence = "This answer cannot go on: what is stored of it cannot be read. Check what has been done before you ask again."
		for _, first := range []string{"/runs/%s", "/runs/%s/events", "/runs/%s/stop", "/runs/%s/approvals", "the key"} {
			for _, state := range []session.RunState{session.Working, session.Waiting} {
				if state == session.Working && strings.HasSuffix(first, "/approvals") {
					continue // nobody can approve what does not wait
				}
				t.Run(string(state)+", "+first, func(t *testing.T) {
					t.Parallel()
					bank, gemini, store := &bank{}, geminitest.Start(t), open(t)
					i := &instance{Store: store}
					server, log := serveAgent(t, i, gemini, bank.agent(tool.Effect(bank.reconcile), tool.Confirm(question)))
					paused, record := keyedPayment(t, i, store, server, gemini)
					waits := paused.Data
					// As Firestore reads a head of another type.
					edited := session.Run{
						Key: record.Key, ID: record.ID, State: state, Request: json.RawMessage(`"unreadable"`), Effects: map[string]session.Effect{"unreadable": {}}, Revision: record.Revision,
					}
					if _, err := store.SaveRun(t.Context(), &edited); err != nil {
						t.Fatal(err)
					}
					asked := len(gemini.Requests())
					look := func(path string) string {
						path = strings.Replace(path, "%s", waits.RunID, 1)
						switch {
						case path == "the key":
							_, body := ask(t, server, "/invoke", `{"query": "pay"}`, "Idempotency-Key", "key")
							return body
						case strings.HasSuffix(path, "/approvals"):
							_, body := approve(t, server, waits.RunID, waits.Pending[0].CallID, true)
							return body
						case strings.HasSuffix(path, "/stop"):
							_, body := ask(t, server, path, "")
							return body
						}
						return get(t, server, path)
					}
					if body := look(first); first != "the key" && !strings.Contains(body, sentence) {
						t.Errorf("the first look: %s", body)
					}
					for range 2 {
						for _, path := range []string{"/runs/%s", "/runs/%s/events"} {
							if body := look(path); !strings.Contains(body, sentence) || strings.Contains(body, "WAITING") {
								t.Errorf("%s: %s", path, body)
							}
						}
					}
					if info := look("/runs/%s"); !strings.Contains(info, `"state":"failed"`) {
						t.Errorf("the run: %s", info)
					}
					if n := strings.Count(log.String(), "the record of a run cannot be read: "); n != 1 {
						t.Errorf("logged %d times: %s", n, log)
					}
					if n := len(gemini.Requests()); n != asked || bank.sum() != 0 {
						t.Errorf("the model was asked %d times, %d paid", n-asked, bank.sum())
					}
				})
			}
		}
	})
}

// The same without a session, where the record is all that there is of the key.
func TestAKeyedRecordThatCannotBeRead(t *testing.T) {
	t.Parallel()
	everyStore(t, func(t *testing.T, open func(*testing.T) session.Store) {
		for name, answers := range map[string]map[string]session.Answer{"an effect": nil, "an effect that was approved": {"1/call_1_1": {Approve: true}}} {
			t.Run(name, func(t *testing.T) {
				ctx, store, gemini := ofCaller(t, "ada"), open(t), geminitest.Start(t)
				s := asked(t, store, gemini, (&bank{}).agent())
				gemini.Enqueue(geminitest.Text("one"))
				first, err := s.Ask(ctx, completion("key", "hello"), nil)
				if err != nil {
					t.Fatal(err)
				}
				id, turn, _ := session.SplitRunID(first.RunID)
				record, err := store.LoadRun(ctx, session.Key{Owner: caller.Owner(ctx), ID: id}, turn)
				if err != nil {
					t.Fatal(err)
				}
				edited := session.Run{
					Key: record.Key, ID: record.ID, State: session.Working, Request: json.RawMessage(`"unreadable"`), Effects: map[string]session.Effect{"unreadable": {}}, Answers: answers, Revision: record.Revision,
				}
				if _, err := store.SaveRun(ctx, &edited); err != nil {
					t.Fatal(err)
				}
				asks := len(gemini.Requests())
				for range 3 {
					_, err := s.Ask(ctx, completion("key", "hello"), nil)
					if failed := api.AsError(err); failed.Code != api.Internal || !strings.Contains(failed.Message, "cannot be read. Check what") {
						t.Errorf("a retry: %v", err)
					}
				}
				if n := len(gemini.Requests()) - asks; n != 0 {
					t.Errorf("the model was asked %d times", n)
				}
			})
		}
	})
}
