//go:build unix

package mcptool_test

import (
	"context"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"example.com/gatehouse/internal/npmtest"
	"example.com/gatehouse/tool"
	"example.com/gatehouse/tool/mcptool"
)

// everything is the reference server, which has a tool for each thing that a server can
// do (https://www.npmjs.com/package/@modelcontextprotocol/server-everything).
const everything = "@modelcontextprotocol/server-everything@2026.8.31"

// install installs the reference server, and returns npx's arguments that run it.
func install(t *testing.T) []string {
	t.Helper()
	dir := npmtest.Install(t, "the reference server of npm", everything)
	return []string{"npx", "--no-install", "--prefix", dir, "mcp-server-everything"}
}

func TestTheReferenceServer(t *testing.T) {
	npx := install(t)
	t.Run("a command", func(t *testing.T) {
		set, err := mcptool.Command("every", append(npx, "stdio"))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { closeSet(t, set) })
		useEverything(t, set)
	})
	t.Run("streamable HTTP", func(t *testing.T) {
		listener, err := net.Listen("tcp", "127.0.0.1:0") // a port that is free
		if err != nil {
			t.Fatal(err)
		}
		_, port, _ := net.SplitHostPort(listener.Addr().String())
		_ = listener.Close()
		server := exec.Command(npx[0], append(npx[1:], "streamableHttp")...)
		server.Env = append(os.Environ(), "PORT="+port)
		server.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // npx starts a shell, which starts node
		if err := server.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			_ = syscall.Kill(-server.Process.Pid, syscall.SIGKILL)
			_ = server.Wait()
		})
		for deadline := time.Now().Add(time.Minute); ; {
			conn, err := net.Dial("tcp", "127.0.0.1:"+port)
			if err == nil {
				_ = conn.Close()
				break
			}
			if time.Now().After(deadline) {
				t.Fatal(err)
			}
			time.Sleep(50 * time.Millisecond)
		}
		useEverything(t, connect(t, "http://127.0.0.1:"+port+"/mcp"))
	})
}

// useEverything lists the server's tools and calls some of them.
func useEverything(t *testing.T, set *mcptool.Set) {
	t.Helper()
	tools := awaitTools(t, set)
	prefix, _, _ := strings.Cut(tools[0].Name(), "_")
	for _, test := range []struct {
		name string
		args map[string]any
		want string // of the output
	}{
		{"echo", map[string]any{"message": "hello"}, "hello"},
		{"get-sum", map[string]any{"a": 2.0, "b": 3.0}, "5"},
		{"get-tiny-image", nil, "[image image/png"},
		{"get-structured-content", map[string]any{"location": "New York"}, "temperature"},
		{"get-resource-links", map[string]any{"count": 2.0}, "["},
	} {
		i := slices.IndexFunc(tools, func(each tool.Tool) bool { return each.Name() == prefix+"_"+test.name })
		if i < 0 {
			t.Errorf("there is no %s among %v", test.name, names(tools))
			continue
		}
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		got, err := tools[i].Call(ctx, test.args)
		text := ""
		for key, value := range got {
			text += key + " "
			if s, ok := value.(string); ok {
				text += s
			}
		}
		if err != nil || !strings.Contains(text, test.want) {
			t.Errorf("%s: %v, %v", test.name, got, err)
		}
	}
}
