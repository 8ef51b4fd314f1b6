package firestore_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"example.com/gatehouse/internal/gcp/emulator"
	"example.com/gatehouse/internal/gcp/firestore"
	"example.com/gatehouse/session"
	"example.com/gatehouse/session/sessiontest"
)

// The variables that make a test process a writer of TestWritersInTwoProcesses.
const (
	writerVariable = "FIRESTORE_TEST_WRITER"
	idVariable     = "FIRESTORE_TEST_SESSION"
)

const eachWriter = 8

func TestWritersInTwoProcesses(t *testing.T) {
	if writer := os.Getenv(writerVariable); writer != "" {
		write(t, writer)
		return
	}
	host, project := emulator.Host(t), emulator.Project()
	key := session.Key{Owner: session.OwnerOf("caller", ""), ID: session.NewID()}
	var writers []*exec.Cmd
	for w := range 2 {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestWritersInTwoProcesses$", "-test.count=1")
		cmd.Env = append(os.Environ(), writerVariable+"="+strconv.Itoa(w), projectVariable+"="+project, idVariable+"="+key.ID, hostVariable+"="+host)
		cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		writers = append(writers, cmd)
	}
	for w, cmd := range writers {
		if err := cmd.Wait(); err != nil {
			t.Errorf("writer %d: %v", w, err)
		}
	}
	store := firestore.NewSessions(emulator.Connect(t, host, project), sessiontest.TTL, time.Now)
	sessiontest.Interleaved(t, readAll(t, store, key, 100), 2, eachWriter)
}

func write(t *testing.T, writer string) {
	store := firestore.NewSessions(emulator.Connect(t, os.Getenv(hostVariable), os.Getenv(projectVariable)), sessiontest.TTL, time.Now)
	key := session.Key{Owner: session.OwnerOf("caller", ""), ID: os.Getenv(idVariable)}
	for i := range eachWriter {
		s, err := store.Load(t.Context(), key)
		if errors.Is(err, session.ErrNotFound) {
			s, err = session.New(key), nil
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := session.Commit(t.Context(), store, s, sessiontest.Turn(fmt.Sprintf("%s/%d", writer, i)), session.Conditions{}); err != nil {
			t.Fatal(err)
		}
	}
}
