package a2a_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	sdk "github.com/a2aproject/a2a-go/v2/a2a"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-json-experiment/json/jsontext"

	"example.com/gatehouse/agent"
	"example.com/gatehouse/internal/auth/authtest"
	"example.com/gatehouse/internal/doortest"
	"example.com/gatehouse/internal/geminitest"
	"example.com/gatehouse/internal/pythontest"
	"example.com/gatehouse/internal/slowtest"
)

// python runs a script of testdata with the SDK of PyPI against the door.
func python(t *testing.T, s *service, script string, env ...string) string {
	t.Helper()
	bin := pythontest.Environment(t, "testdata/requirements.txt", "A2A's Python SDK")
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, filepath.Join(bin, "python"), filepath.Join("testdata", script))
	command.Env = append(append(os.Environ(), "DOOR_URL="+s.URL, "DOOR_KEY="+doortest.Key("ada"), "DOOR_OTHER_KEY="+doortest.Key("bob")), env...)
	out, err := command.CombinedOutput()
	if err != nil || !strings.HasSuffix(strings.TrimSpace(string(out)), "ok") {
		t.Errorf("%v\n%s", err, out)
	}
	return string(out)
}

// The SDK of PyPI is a client, in both versions.
func TestPythonClient(t *testing.T) {
	slowtest.Skip(t, "A2A's Python SDK")
	url, env, got := receive(t)
	s := startWith(t, keeper, env, doortest.Queue)
	gates := make(chan chan struct{}, len(versions))
	for range versions {
		for range 8 / len(versions) {
			s.Gemini.Enqueue(geminitest.Text("ec", "ho"))
		}
		gate := make(chan struct{})
		s.Gemini.Enqueue(geminitest.Text("ec", "ho").WithGate(1, gate))
		gates <- gate
	}
	next := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { close(<-gates) }))
	t.Cleanup(next.Close)
	out := python(t, s, "client.py", "HOOK_URL="+url, "GO_ON_URL="+next.URL)
	pushes := 0
	for line := range strings.Lines(out) {
		if task, ok := strings.CutPrefix(strings.TrimSpace(line), "pushed "); ok {
			wantPush(t, got, sdk.TaskID(task), "run.done")
			pushes++
		}
	}
	if pushes != len(versions) {
		t.Errorf("%d pushes:\n%s", pushes, out)
	}
}

// newKeys makes a key of each kind: the private JWK set, and the list of public JWKs.
func newKeys(t *testing.T) (private, public string) {
	t.Helper()
	es, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	keys := []jose.JSONWebKey{{Key: es, KeyID: "new"}, {Key: ed, KeyID: "old"}}
	encoded, err := json.Marshal(jose.JSONWebKeySet{Keys: keys})
	if err != nil {
		t.Fatal(err)
	}
	for i := range keys {
		keys[i] = keys[i].Public()
		keys[i].Algorithm = map[string]string{"new": "ES256", "old": "EdDSA"}[keys[i].KeyID]
	}
	halves, err := json.Marshal(keys)
	if err != nil {
		t.Fatal(err)
	}
	return string(encoded), string(halves)
}

// card returns the card's document, and its entity tag.
func (s *service) card(t *testing.T) (document, tag string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL+cardPath, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, body := doortest.Do(t, r)
	return body, response.Header.Get("ETag")
}

// All instances of a service serve one card, and its signatures are no secret's.
func TestASignedCard(t *testing.T) {
	t.Parallel()
	private, public := newKeys(t)
	env := []string{"CARD_URL=http://127.0.0.1:4711", "CARD_KEYS=" + private, "CARD_KEYS_URL=https://keys.example.com/jwks.json"}
	first, tag := start(t, env...).card(t)
	if again, other := start(t, env...).card(t); again != first || other != tag || tag == "" {
		t.Errorf("another instance serves %s with %s, and not %s with %s", again, other, first, tag)
	}
	if !strings.Contains(first, `"url":"http://127.0.0.1:4711/a2a"`) {
		t.Errorf("signed for another address: %s", first)
	}
	var read sdk.AgentCard
	if err := json.Unmarshal([]byte(first), &read); err != nil || len(read.Signatures) != 4 || read.Name != "keeper" {
		t.Errorf("%+v, %v", read, err)
	}
	// The last two are of the document without its signatures.
	var document map[string]any
	var keys []jose.JSONWebKey
	if err := errors.Join(json.Unmarshal([]byte(first), &document), json.Unmarshal([]byte(public), &keys)); err != nil {
		t.Fatal(err)
	}
	delete(document, "signatures")
	payload, err := json.Marshal(document)
	if err == nil {
		err = (*jsontext.Value)(&payload).Canonicalize()
	}
	if err != nil {
		t.Fatal(err)
	}
	for i, key := range keys {
		signature := read.Signatures[2+i]
		signed, err := jose.ParseDetached(signature.Protected+".."+signature.Signature, payload, []jose.SignatureAlgorithm{jose.ES256, jose.EdDSA})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := signed.Verify(key); err != nil {
			t.Errorf("%s: %v", key.KeyID, err)
		}
	}
	if unsigned, _ := start(t, env[0]).card(t); strings.Contains(unsigned, "signatures") {
		t.Errorf("%s", unsigned)
	}
}

// The SDK of PyPI verifies the card as an A2A client of 1.0 reads it, empty members and
// letters of any script included, and the document as it is.
func TestPythonVerifiesTheCard(t *testing.T) {
	slowtest.Skip(t, "A2A's Python SDK")
	private, public := newKeys(t)
	_, others := newKeys(t)
	issuer := authtest.Start(t, "")
	s := startAgent(t, func(ctx context.Context, env agent.Env) (agent.Agent, error) {
		a, err := keeper(ctx, env)
		a.Description, a.Examples = "Keeps the <library> & “archive” of Köln: 图书 📚 \u2028.", []string{"Wie viele Bücher?"}
		return a, err
	}, "AUTH=oidc,api_key", "OIDC_ISSUERS="+issuer.URL+"|app", "CARD_KEYS="+private, "CARD_KEYS_URL=https://keys.example.com/jwks.json", "CARD_URL=https://agent.example.com")
	python(t, s, "verify.py", "PUBLIC_KEYS="+public, "OTHER_KEYS="+others)
}
