package delivery

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// A cloud is what the stand-in for gcloud knows. It lies in a file, since each
// call is a process.
type cloud struct {
	Services map[string]*cloudService // by name
	Calls    [][]string               // what gcloud was called with
	Fail     map[string]int           // how often a call that begins so fails: its words, and the shares it sets
	Ongoing  string                   // the id of the build that began first
}

type cloudService struct {
	Traffic   map[string]int    // percent, by revision
	History   []string          // what the traffic was, after each change
	Revisions []string          // in the order they were made
	Images    map[string]string // by revision
	Tags      map[string]string // revision, by tag
	URL       string            // of every tag
}

func (c *cloud) save(path string) error {
	raw, err := json.Marshal(c)
	if err != nil {
		return err
	}
	// Whole or not at all: tests look while a call is under way.
	if err := os.WriteFile(path+".new", raw, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

func loadCloud(path string) (*cloud, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var c cloud
	return &c, json.Unmarshal(raw, &c)
}

// cloudVariable tells this test's program to be gcloud, and where the cloud is.
const cloudVariable = "GATEHOUSE_TEST_CLOUD"

func TestMain(m *testing.M) {
	path := os.Getenv(cloudVariable)
	if path == "" {
		os.Exit(m.Run())
	}
	if err := gcloud(path, os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "ERROR: (gcloud)", err)
		os.Exit(1)
	}
}

// gcloud does what the steps ask of gcloud, and refuses everything else.
func gcloud(path string, args []string, out io.Writer) error {
	c, err := loadCloud(path)
	if err != nil {
		return err
	}
	c.Calls = append(c.Calls, args)
	words := args
	if i := slices.IndexFunc(args, func(a string) bool { return strings.HasPrefix(a, "-") }); i >= 0 {
		words = args[:i]
	}
	call := strings.TrimSpace(strings.Join(words, " ") + " " + flagOf(args, "--to-revisions"))
	for prefix, times := range c.Fail {
		if strings.HasPrefix(call, prefix) && times > 0 {
			c.Fail[prefix]--
			return fmt.Errorf("%s is out of order (%w)", prefix, c.save(path))
		}
	}
	err = c.answer(words, args[len(words):], out)
	if saved := c.save(path); saved != nil {
		return saved
	}
	return err
}

// flagOf is the value of a flag, given as two arguments or as one.
func flagOf(flags []string, name string) string {
	for i, f := range flags {
		if f == name && i+1 < len(flags) {
			return flags[i+1]
		}
		if value, ok := strings.CutPrefix(f, name+"="); ok {
			return value
		}
	}
	return ""
}

func (c *cloud) answer(words, flags []string, out io.Writer) error {
	format := flagOf(flags, "--format")
	command := strings.Join(words, " ")
	if words[0] == "run" && (flagOf(flags, "--project") != project || flagOf(flags, "--region") != region) {
		return fmt.Errorf("project and region are not named: %q", flags)
	}
	switch {
	case command == "auth print-access-token":
		fmt.Fprintln(out, "access-token")
	case command == "auth print-identity-token" && flagOf(flags, "--audiences") != "":
		fmt.Fprintln(out, "identity-token-of-"+flagOf(flags, "--impersonate-service-account"))
	case command == "secrets versions access latest" && flagOf(flags, "--secret") == keySecret:
		fmt.Fprint(out, apiKey)
	case command == "builds list" && slices.Contains(flags, "--ongoing"):
		fmt.Fprintln(out, c.Ongoing)
	case strings.HasPrefix(command, "run revisions describe ") && format == "value(metadata.creationTimestamp)":
		for _, s := range c.Services {
			if i := slices.Index(s.Revisions, words[3]); i >= 0 {
				fmt.Fprintf(out, "2026-11-24T07:00:%02dZ\n", i)
				return nil
			}
		}
		return fmt.Errorf("no revision %s", words[3])
	case strings.HasPrefix(command, "run services describe "):
		s, err := c.service(words[3])
		if err != nil {
			return err
		}
		if flagOf(flags, "--flatten") != "status.traffic[]" {
			return fmt.Errorf("not flattened: %q", flags)
		}
		switch format {
		case "value(status.traffic.revisionName,status.traffic.percent)":
			for revision, percent := range s.Traffic {
				fmt.Fprintf(out, "%s\t%d\n", revision, percent)
			}
			for _, revision := range s.Tags {
				fmt.Fprintf(out, "%s\t\n", revision) // a tag's entry has no percent
			}
		case "value(status.traffic.tag,status.traffic.url)":
			fmt.Fprint(out, "\t\n") // the entry with the traffic has no tag
			for tag := range s.Tags {
				fmt.Fprintf(out, "%s\t%s\n", tag, s.URL)
			}
		default:
			return fmt.Errorf("unknown format %s", format)
		}
	case strings.HasPrefix(command, "run deploy "):
		s, err := c.service(words[2])
		if err != nil {
			return err
		}
		if !slices.Contains(flags, "--no-traffic") || !strings.Contains(flagOf(flags, "--image"), "@sha256:") {
			return fmt.Errorf("would take traffic, or run what may change: %q", flags)
		}
		revision := words[2] + "-" + flagOf(flags, "--revision-suffix")
		if slices.Contains(s.Revisions, revision) {
			return fmt.Errorf("revision %s exists", revision)
		}
		s.Revisions = append(s.Revisions, revision)
		s.Images[revision] = flagOf(flags, "--image")
		s.Tags[flagOf(flags, "--tag")] = revision
	case strings.HasPrefix(command, "run services update-traffic "):
		s, err := c.service(words[3])
		if err != nil {
			return err
		}
		next, sum := map[string]int{}, 0
		for share := range strings.SplitSeq(flagOf(flags, "--to-revisions"), ",") {
			revision, text, _ := strings.Cut(share, "=")
			percent, err := strconv.Atoi(text)
			if err != nil || !slices.Contains(s.Revisions, revision) {
				return fmt.Errorf("no such share: %s", share)
			}
			next[revision] = percent
			sum += percent
		}
		if sum != 100 {
			return fmt.Errorf("the shares are %d together", sum)
		}
		s.Traffic = next
		s.History = append(s.History, flagOf(flags, "--to-revisions"))
	default:
		return fmt.Errorf("not a call that the stand-in knows: %q %q", words, flags)
	}
	return nil
}

func (c *cloud) service(name string) (*cloudService, error) {
	if s := c.Services[name]; s != nil {
		return s, nil
	}
	return nil, fmt.Errorf("cannot find service [%s]", name)
}

// install puts this test's program on the PATH as gcloud, and a cloud where it
// looks. It gives the folder for PATH.
func install(t *testing.T, c *cloud) (bin, path string) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin, path = t.TempDir(), filepath.Join(t.TempDir(), "cloud.json")
	// With -race a program would sleep a second at its end.
	script := fmt.Sprintf("#!/bin/sh\nexec env GORACE=atexit_sleep_ms=0 %s=%q %q \"$@\"\n", cloudVariable, path, self)
	if err := os.WriteFile(filepath.Join(bin, "gcloud"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := c.save(path); err != nil {
		t.Fatal(err)
	}
	return bin, path
}
