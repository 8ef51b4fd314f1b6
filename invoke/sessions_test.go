package invoke_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/internal/auth"
	"example.com/gatehouse/internal/gcp/bucket/buckettest"
	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/session"
	"example.com/gatehouse/session/sessiontest"
)

// A store of which some calls fail, and whose oldest turns are gone.
type partialStore struct {
	session.Store
	away string // the method that fails
	gone int    // turns, from the first on
}

func (p *partialStore) fails(method string) error {
	if p.away == method {
		return fmt.Errorf("%s: %w", method, session.ErrUnavailable)
	}
	return nil
}

func (p *partialStore) LoadUser(ctx context.Context, owner session.Owner) (*session.User, error) {
	if err := p.fails("LoadUser"); err != nil {
		return nil, err
	}
	return p.Store.LoadUser(ctx, owner)
}

func (p *partialStore) List(ctx context.Context, owner session.Owner, limit int, cursor string) ([]session.Meta, string, error) {
	if err := p.fails("List"); err != nil {
		return nil, "", err
	}
	return p.Store.List(ctx, owner, limit, cursor)
}

func (p *partialStore) Load(ctx context.Context, key session.Key) (*session.Session, error) {
	if err := p.fails("Load"); err != nil {
		return nil, err
	}
	return p.Store.Load(ctx, key)
}

func (p *partialStore) ListRuns(ctx context.Context, owner session.Owner, filter session.RunFilter, limit int, cursor string) ([]*session.Run, string, error) {
	if err := p.fails("ListRuns"); err != nil {
		return nil, "", err
	}
	return p.Store.ListRuns(ctx, owner, filter, limit, cursor)
}

func (p *partialStore) Turns(ctx context.Context, key session.Key, after, limit int) (session.Meta, []session.Record, error) {
	if err := p.fails("Turns"); err != nil {
		return session.Meta{}, nil, err
	}
	meta, records, err := p.Store.Turns(ctx, key, after, limit)
	for len(records) > 0 && records[0].Number <= p.gone {
		records = records[1:]
	}
	return meta, records, err
}

// withTurns returns a store that has a session of anybody's with turns.
func withTurns(t *testing.T, turns int) (store *session.Memory, id string) {
	t.Helper()
	anybody, _, err := (&auth.None{}).Authenticate(nil)
	if err != nil {
		t.Fatal(err)
	}
	store = newMemory()
	current := session.New(session.Key{Owner: anybody.Owner(), ID: session.NewID()})
	for i := range turns {
		if _, err := session.Commit(t.Context(), store, current, sessiontest.Turn(fmt.Sprint("question ", i+1)), session.Conditions{}); err != nil {
			t.Fatal(err)
		}
		if current, err = store.Load(t.Context(), current.Key); err != nil {
			t.Fatal(err)
		}
	}
	return store, current.Key.ID
}

// A page of turns that the store does not have any more is empty, and not the last one.
func TestTurnsThatAreGone(t *testing.T) {
	t.Parallel()
	store, id := withTurns(t, 45)
	server, _ := serveAgent(t, &partialStore{Store: store, gone: 30}, geminitest.Start(t), agent.Agent{})
	var read []string
	pages := 0
	for path := "/sessions/" + id; ; {
		pages++
		data := readData(t, server, path)
		for _, turn := range data["turns"].([]any) {
			read = append(read, turn.(members)["query"].(string))
		}
		next, _ := data["next_cursor"].(string)
		if next == "" || pages == 5 {
			break
		}
		path = "/sessions/" + id + "?cursor=" + next
	}
	if pages != 3 || len(read) != 15 || read[0] != "question 31" || read[14] != "question 45" {
		t.Errorf("%d pages have %q", pages, read)
	}
	if exported := get(t, server, "/export"); strings.Count(exported, `"kind":"turn"`) != 15 || !strings.Contains(exported, `"kind":"end"`) {
		t.Errorf("the export: %s", exported)
	}
}

// What is no id of a session is none's, for every method.
func TestAnIDThatIsNone(t *testing.T) {
	t.Parallel()
	server, _ := serveAgent(t, newMemory(), geminitest.Start(t), agent.Agent{})
	for _, method := range []string{http.MethodGet, http.MethodDelete} {
		for _, id := range []string{"short", "0123456789abcde.", strings.Repeat("x", 65)} {
			if response, text := fetch(t, server, method, "/sessions/"+id); response.StatusCode != http.StatusNotFound || !strings.Contains(text, `"error":"session_not_found"`) {
				t.Errorf("%s %s: %d %s", method, id, response.StatusCode, text)
			}
		}
	}
}

// A list of nothing is an empty list, which a client in a typed language can read as it reads
// others.
func TestListsAreNeverNull(t *testing.T) {
	t.Parallel()
	store, id := withTurns(t, 1)
	gemini := geminitest.Start(t)
	server, _ := serveAgent(t, store, gemini, agent.Agent{})
	gemini.Enqueue(geminitest.Text("Hello."))
	_, answer := ask(t, server, "/invoke", `{"query": "hello"}`)
	for of, text := range map[string]string{"the answer": answer, "the turns": get(t, server, "/sessions/"+id)} {
		for _, list := range []string{"files", "sources", "warnings", "pending"} {
			if !strings.Contains(text, `"`+list+`":[]`) {
				t.Errorf("%s have no list of %s: %s", of, list, text)
			}
		}
	}
}

// Whose file it is, is in the session: while that cannot be read, nor can the file.
func TestAFileOfASessionThatCannotBeRead(t *testing.T) {
	t.Parallel()
	store, id := withTurns(t, 1)
	server, _ := serveAgent(t, &partialStore{Store: store, away: "Load"}, geminitest.Start(t), reader(), withFiles(t, buckettest.Start(t), true))
	path := "/sessions/" + id + "/files/" + base64.RawURLEncoding.EncodeToString(make([]byte, sha256.Size))
	if response, text := fetch(t, server, http.MethodGet, path); response.StatusCode != http.StatusServiceUnavailable || !strings.Contains(text, `"error":"session_store_unavailable"`) {
		t.Errorf("%d %s", response.StatusCode, text)
	}
}

// The last line of an export decides: it is not end if anything could not be read.
func TestAnExportThatIsNotWhole(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"", "LoadUser", "List", "Load", "Turns", "ListRuns"} {
		t.Run("without "+method, func(t *testing.T) {
			t.Parallel()
			store, _ := withTurns(t, 2)
			server, _ := serveAgent(t, &partialStore{Store: store, away: method}, geminitest.Start(t), agent.Agent{})
			response, exported := fetch(t, server, http.MethodGet, "/export")
			lines := strings.Split(strings.TrimSpace(exported), "\n")
			want := `{"kind":"error","error":"session_store_unavailable"}`
			if method == "" {
				want = `{"kind":"end"}`
			}
			if last := lines[len(lines)-1]; response.StatusCode != http.StatusOK || last != want {
				t.Errorf("%d, the last line is %s", response.StatusCode, last)
			}
		})
	}
}
