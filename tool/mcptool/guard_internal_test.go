package mcptool

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/mcp"

	"example.com/gatehouse/agent"
)

// A set connects to public addresses only, and sends its credential to its host only.
func TestGuard(t *testing.T) {
	t.Parallel()
	inner := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("the server was reached") }))
	defer inner.Close()
	set, err := HTTP("far", "https://mcp.example.org/mcp", Bearer(agent.NewSecret(func() string { return "k" })))
	if err != nil {
		t.Fatal(err)
	}
	own := set.transport().(*mcp.StreamableClientTransport).HTTPClient.Transport.(*transport)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, inner.URL, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := own.RoundTrip(request); !errors.Is(err, errRedirect) {
		t.Errorf("another host: %v", err)
	}
	if _, err := own.next.RoundTrip(request); !errors.Is(explain(err), errAddress) {
		t.Errorf("an address of this machine: %v", err)
	}
}

// A server may send anything in the place of an answer, and none of it is for the log.
func TestNothingOfTheServerIsLogged(t *testing.T) {
	t.Parallel()
	far := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		_, _ = io.WriteString(conn, "a prompt\r\n\r\n")
		_ = conn.Close()
	}))
	defer far.Close()
	set, err := HTTP("far", far.URL+"/?key=hunter2")
	if err != nil {
		t.Fatal(err)
	}
	_, err = mcp.NewClient(&mcp.Implementation{Name: "test"}, nil).Connect(t.Context(), set.transport(), nil)
	if got := describeError(err); got != "cannot be reached: its response is not valid" {
		t.Errorf("%q for %v", got, err)
	}
}
