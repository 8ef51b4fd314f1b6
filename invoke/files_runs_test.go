package invoke_test

import (
	"bytes"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"example.com/gatehouse/internal/gcp/bucket/buckettest"
	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/internal/telemetry"
	"example.com/gatehouse/internal/testlog"
	"example.com/gatehouse/invoke"
	"example.com/gatehouse/session"
	"example.com/gatehouse/tool"
)

// A run that goes on elsewhere has its files: in the queue, after an approval, and where it is
// taken over.

// withPicture is a question with a picture.
func withPicture(t *testing.T) (body string, data []byte) {
	data = picture(t, 30)
	return `{"query":"What is this?","files":[{"type":"image/png","data":"` + encoded(data) + `"}]}`, data
}

// seesFile checks what a model's request has in the place of the first question's file.
func seesFile(t *testing.T, r geminitest.Request, byAddress bool, path string, data []byte) {
	t.Helper()
	parts := partsOf(t, r, 0)
	if len(parts) < 2 {
		t.Fatalf("the model sees %.300v", parts)
	}
	reference, _ := parts[1]["fileData"].(map[string]any)
	inline, _ := parts[1]["inlineData"].(map[string]any)
	if byAddress && reference["fileUri"] != "gs://"+path || !byAddress && inline["data"] != encoded(data) {
		t.Errorf("the model sees %.300v", parts[1])
	}
}

// onlyObject returns the path of the only file that is kept.
func onlyObject(t *testing.T, storage *buckettest.Server) (path string) {
	t.Helper()
	objects := storage.Objects()
	for path = range objects {
	}
	if len(objects) != 1 {
		t.Fatalf("%d files are kept, want 1", len(objects))
	}
	return path
}

func TestFilesInTheBackground(t *testing.T) {
	t.Parallel()
	for name, byAddress := range map[string]bool{"a model that reads addresses": true, "a model that does not": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			gemini, storage := geminitest.Start(t), buckettest.Start(t)
			server, _ := serveQueued(t, newMemory(), gemini, reader(), withFiles(t, storage, true, func(c *invoke.Config) { c.Files.ByAddress = byAddress }))
			gemini.Enqueue(geminitest.Text("A square."), geminitest.Text("Grey."))
			body, data := withPicture(t)
			status, a, text := askFiles(t, server, "/invoke", body, "Prefer", "respond-async")
			if status != http.StatusAccepted {
				t.Fatalf("%d %s", status, text)
			}
			path := onlyObject(t, storage) // before the 202
			waitsFor(t, server, decodeAnswer(t, text).Data.RunID, "done")
			seesFile(t, gemini.Requests()[0], byAddress, path, data)
			_, stored := fetch(t, server, http.MethodGet, "/sessions/"+a.Data.SessionID)
			if !strings.Contains(stored, `"files":[{"type":"image/png","uri":"/sessions/`+a.Data.SessionID) {
				t.Errorf("the session: %s", stored)
			}
			if status, _, text := askFiles(t, server, "/invoke", `{"query":"Which color?","session_id":"`+a.Data.SessionID+`"}`); status != 200 {
				t.Fatalf("%d %s", status, text)
			}
			seesFile(t, gemini.Requests()[1], byAddress, path, data)
			if puts := storage.Calls()[http.MethodPost]; puts != 1 {
				t.Errorf("stored %d times, want 1", puts)
			}
		})
	}
}

func TestBadFilesInTheBackground(t *testing.T) {
	t.Parallel()
	const async = "respond-async"
	body, _ := withPicture(t)
	t.Run("content that is kept nowhere", func(t *testing.T) {
		t.Parallel()
		gemini := geminitest.Start(t)
		server, _ := serveQueued(t, newMemory(), gemini, reader(), withFiles(t, nil, false))
		status, a, text := askFiles(t, server, "/invoke", body, "Prefer", async)
		if status != 422 || a.Error != "validation_failed" || len(a.Details) != 1 || a.Details[0].Field != "files" || len(gemini.Requests()) != 0 {
			t.Errorf("%d %s", status, text)
		}
	})
	t.Run("an address, without a bucket to keep files in", func(t *testing.T) {
		t.Parallel()
		gemini, storage := geminitest.Start(t), buckettest.Start(t)
		storage.Put("papers/a.png", buckettest.Object{MediaType: "image/png", Data: picture(t, 30)})
		server, _ := serveQueued(t, newMemory(), gemini, reader(), withFiles(t, storage, false))
		status, _, text := askFiles(t, server, "/invoke", `{"query":"What is this?","files":[{"uri":"gs://papers/a.png"}]}`, "Prefer", async)
		if status != http.StatusAccepted {
			t.Fatalf("%d %s", status, text)
		}
		waitsFor(t, server, decodeAnswer(t, text).Data.RunID, "done")
		seesFile(t, gemini.Requests()[0], false, "", picture(t, 30))
	})
	t.Run("an address that names nothing", func(t *testing.T) {
		t.Parallel()
		gemini, storage := geminitest.Start(t), buckettest.Start(t)
		server, _ := serveQueued(t, newMemory(), gemini, reader(), withFiles(t, storage, true))
		status, a, text := askFiles(t, server, "/invoke", `{"query":"What is this?","files":[{"uri":"gs://papers/none.png"}]}`, "Prefer", async)
		if status != 422 || a.Details[0].Field != "files[0].uri" {
			t.Errorf("%d %s", status, text)
		}
	})
	t.Run("a bucket that is away", func(t *testing.T) {
		t.Parallel()
		gemini, storage := geminitest.Start(t), buckettest.Start(t)
		server, _ := serveQueued(t, newMemory(), gemini, reader(), withFiles(t, storage, true))
		storage.Fail(func(*http.Request) int { return 503 })
		status, a, text := askFiles(t, server, "/invoke", body, "Prefer", async)
		if status != 503 || a.Error != "session_store_unavailable" {
			t.Errorf("%d %s", status, text)
		}
		if runs := get(t, server, "/runs"); !strings.Contains(runs, `"runs":[]`) {
			t.Errorf("runs: %s", runs)
		}
	})
	t.Run("a queue that is away", func(t *testing.T) {
		t.Parallel()
		gemini, storage := geminitest.Start(t), buckettest.Start(t)
		server, q := serveQueued(t, newMemory(), gemini, reader(), withFiles(t, storage, true))
		q.off.Store(true)
		if status, _, text := askFiles(t, server, "/invoke", body, "Prefer", async); status != 503 {
			t.Errorf("%d %s", status, text)
		}
		if left := storage.Objects(); len(left) != 0 {
			t.Errorf("%d files are left of a run that nobody does", len(left))
		}
	})
	t.Run("a file that is gone when the run begins", func(t *testing.T) {
		t.Parallel()
		gemini, storage := geminitest.Start(t), buckettest.Start(t)
		server, _ := serveQueued(t, newMemory(), gemini, reader(), withFiles(t, storage, true))
		storage.Fail(func(r *http.Request) int {
			if r.Method == http.MethodGet {
				return 404
			}
			return 0
		})
		status, _, text := askFiles(t, server, "/invoke", body, "Prefer", async)
		if status != http.StatusAccepted {
			t.Fatalf("%d %s", status, text)
		}
		run := decodeAnswer(t, text).Data.RunID
		waitsFor(t, server, run, "failed")
		if ended := get(t, server, "/runs/"+run); !strings.Contains(ended, `"validation_failed"`) || !strings.Contains(ended, `"files[0]"`) || len(gemini.Requests()) != 0 {
			t.Errorf("the run: %s", ended)
		}
	})
}

// A run that a person has approved goes on with its files, and its turn has them.
func TestFilesOfARunThatWaited(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name            string
		keep, byAddress bool
	}{
		{"a model that reads addresses", true, true},
		{"a model that does not", true, false},
		{"files that are kept nowhere", false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b, gemini, storage := &bank{}, geminitest.Start(t), buckettest.Start(t)
			server, _ := serveAgent(t, newMemory(), gemini, b.agent(tool.Effect(b.reconcile), tool.Confirm(question)),
				withFiles(t, storage, tt.keep, func(c *invoke.Config) { c.Files.ByAddress = tt.byAddress }))
			gemini.Enqueue(pays(50), geminitest.Text("Paid."), geminitest.Text("Grey."))
			body, data := withPicture(t)
			_, first := ask(t, server, "/invoke", body)
			waiting := decodeAnswer(t, first).Data
			if status, text := approve(t, server, waiting.RunID, waiting.Pending[0].CallID, true); status != 200 {
				t.Fatalf("%d %s", status, text)
			}
			if status, _, text := askFiles(t, server, "/invoke", `{"query":"Which color?","session_id":"`+waiting.SessionID+`"}`); status != 200 {
				t.Fatalf("%d %s", status, text)
			}
			for _, r := range gemini.Requests()[1:] {
				if tt.keep {
					seesFile(t, r, tt.byAddress, onlyObject(t, storage), data)
					continue
				}
				if note, _ := partsOf(t, r, 0)[1]["text"].(string); !strings.HasPrefix(note, "[A file of the type image/png was here, ") {
					t.Errorf("the model sees %.300v", partsOf(t, r, 0))
				}
			}
		})
	}
}

// A run that is taken over goes on with its files; its first holder, when it is back, leaves
// them alone. Without a bucket they were in its memory only, so that nobody can go on.
func TestFilesOfARunThatIsTakenOver(t *testing.T) {
	t.Parallel()
	t.Run("kept", func(t *testing.T) { t.Parallel(); filesOfARunThatIsTakenOver(t, true) })
	t.Run("not kept", func(t *testing.T) { t.Parallel(); filesOfARunThatIsTakenOver(t, false) })
}

func filesOfARunThatIsTakenOver(t *testing.T, keep bool) {
	gemini, storage := geminitest.Start(t), buckettest.Start(t)
	var offset atomic.Int64
	store := session.NewMemory(time.Hour, session.MemoryLimit, func() time.Time { return time.Now().Add(time.Duration(offset.Load())) },
		telemetry.NewLogger(&testlog.Buffer{}, nil, telemetry.Source{}))
	start := func() *instance {
		i := &instance{Store: store}
		i.Server, _ = serveAgent(t, i, gemini, reader(), withFiles(t, storage, keep))
		return i
	}
	a, b := start(), start()
	gate := make(chan struct{})
	defer close(gate)
	gemini.Enqueue(geminitest.Text("void ", "never").WithGate(1, gate), geminitest.Text("A square."))
	body, data := withPicture(t)
	own := a.watch(t, http.MethodPost, "/invoke", strings.Replace(body, `"query"`, `"stream":true,"query"`, 1))
	run := runID(t, own.until(t, "delta")[0])
	a.journaled(t, run, "void ")
	a.cut.Store(true)
	offset.Store(int64(session.LeaseTime + 3*time.Second))
	watch := b.watch(t, http.MethodGet, "/runs/"+run+"/events", "")
	if !keep {
		if left := get(t, b.Server, "/runs/"+run); watch.status == http.StatusOK || !strings.Contains(left, `"state":"failed"`) || len(gemini.Requests()) != 1 {
			t.Errorf("%d, the run is %s", watch.status, left)
		}
		return
	}
	watch.until(t, "done")
	a.cut.Store(false)
	own.until(t, "done")
	path := onlyObject(t, storage)
	seesFile(t, gemini.Requests()[1], false, path, data)
	if !bytes.Equal(storage.Objects()[path].Data, data) {
		t.Error("the file that is kept is another one")
	}
}
