// Package gcloudtest stands in for gcloud, for Terraform, and for the Google Cloud
// that they speak to, as far as a deployment and the steps of the delivery use
// them. What it knows lies in a file,
// since each call of gcloud is a process: the program in gcloud/ is one, which
// tests put on the PATH.
//
// What the steps must not do is as important as what they do. So the stand-in refuses every
// call that it does not know, and known ones that would be wrong on Google Cloud: a command
// without a project, a deployment that takes traffic at once, an image by a tag. A test
// prepares the cloud, runs the steps, and reads from [Cloud.Calls] and the rest what they have
// come to.
//
// The file is not locked: of two calls at once, what one has changed would be lost.
package gcloudtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Variable names the environment's variable that holds the file's path for gcloud.
const Variable = "GATEHOUSE_TEST_CLOUD"

// A Cloud is what the stand-in knows.
type Cloud struct {
	Project, Region string
	Services        map[string]*Service // by name
	Secrets         map[string]string   // the latest version, by name
	Calls           [][]string          // what gcloud was called with
	Fail            map[string]int      // how often a call that begins so fails: its words, and the shares it sets
	Ongoing         string              // the id of the build that began first
	Stderr          map[string]string   // what a call that fails prints, by the same words

	// What a deployment from nothing finds.
	Account     string            // gcloud's login
	Application bool              // whether there is one for Terraform
	State       string            // the project's, ACTIVE where it is there
	Billing     bool              // whether it is on
	APIs        []string          // those that are on
	Buckets     []string          // their names
	Objects     map[string]string // contents, by URL
	Tags        map[string]string // an image's digest, by its name and tag
	Builds      []string          // what comes of the next builds; then SUCCESS
	BuildLog    string            // of a build that fails
	BadImages   []string          // digests of images that do not start
	Resources   []*Resource       // Terraform's state
}

// New is a cloud that holds a project with billing, and nothing in it.
func New(project, region string) *Cloud {
	return &Cloud{Project: project, Region: region, Account: "you@example.com", Application: true, State: "ACTIVE", Billing: true,
		Services: map[string]*Service{}, Secrets: map[string]string{}, Fail: map[string]int{}, Stderr: map[string]string{},
		Objects: map[string]string{}, Tags: map[string]string{}}
}

// A Service is one of Cloud Run's.
type Service struct {
	Traffic   map[string]int    // percent, by revision
	History   []string          // what the traffic was, after each change
	Revisions []string          // in the order they were made
	Images    map[string]string // by revision
	Tags      map[string]string // revision, by tag
	URL       string            // of every tag
	Made      int               // revisions that it has named itself
	App       string            // its label
	NotReady  map[string]string // why a revision is not ready
}

// Save writes c into the file at path.
func (c *Cloud) Save(path string) error {
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

// Load reads what Save has written.
func Load(path string) (*Cloud, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var c Cloud
	return &c, json.Unmarshal(raw, &c)
}

// Call does what the steps ask of gcloud, with the file at path, and refuses
// everything else.
//
// The call is noted before it is judged, so that a test sees refused ones, too. The error is
// what gcloud prints to standard error; the program then exits with 1.
func Call(path string, args []string, out io.Writer) error {
	c, err := Load(path)
	if err != nil {
		return err
	}
	c.Calls = append(c.Calls, args)
	// Everything before the first flag is the command and its positional arguments.
	words := args
	if i := slices.IndexFunc(args, func(a string) bool { return strings.HasPrefix(a, "-") }); i >= 0 {
		words = args[:i]
	}
	// The shares are part of the name by which a call fails: a test lets the traffic's second
	// step fail and not its first.
	call := strings.TrimSpace(strings.Join(words, " ") + " " + flagOf(args, "--to-revisions"))
	for prefix, times := range c.Fail {
		if strings.HasPrefix(call, prefix) && times > 0 {
			c.Fail[prefix]--
			if err := c.Save(path); err != nil {
				return err
			}
			return c.failure(prefix)
		}
	}
	err = c.answer(words, args[len(words):], out)
	if saved := c.Save(path); saved != nil {
		return saved
	}
	return err
}

// failure is the error of a call that is to fail.
func (c *Cloud) failure(call string) error {
	if text := c.Stderr[call]; text != "" {
		return errors.New(text)
	}
	return fmt.Errorf("%s is out of order", call)
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

func (c *Cloud) answer(words, flags []string, out io.Writer) error {
	format := flagOf(flags, "--format")
	command := strings.Join(words, " ")
	if c.project(command, out) {
		return nil
	}
	if found, err := c.build(words, flags, out); found {
		return err
	}
	// A default of the developer's own gcloud must not decide where something is deployed.
	if words[0] == "run" && (flagOf(flags, "--project") != c.Project || flagOf(flags, "--region") != c.Region) {
		return fmt.Errorf("project and region are not named: %q", flags)
	}
	switch {
	case command == "auth print-access-token":
		fmt.Fprintln(out, "access-token")
	case command == "auth print-identity-token" && flagOf(flags, "--audiences") != "":
		fmt.Fprintln(out, "identity-token-of-"+flagOf(flags, "--impersonate-service-account"))
	case command == "secrets versions access latest" && c.Secrets[flagOf(flags, "--secret")] != "":
		fmt.Fprint(out, c.Secrets[flagOf(flags, "--secret")])
	case command == "builds list" && slices.Contains(flags, "--ongoing"):
		fmt.Fprintln(out, c.Ongoing)
	case strings.HasPrefix(command, "run revisions describe ") && format == "value(metadata.creationTimestamp)":
		// The times rise in the order in which the revisions were made, one second each.
		for _, s := range c.Services {
			if i := slices.Index(s.Revisions, words[3]); i >= 0 {
				fmt.Fprintf(out, "2026-11-24T07:00:%02dZ\n", i)
				return nil
			}
		}
		return fmt.Errorf("no revision %s", words[3])
	case command == "run services list" && format == "json":
		return c.list(strings.TrimPrefix(flagOf(flags, "--filter"), "metadata.name="), out)
	case strings.HasPrefix(command, "run services delete "):
		if _, err := c.service(words[3]); err != nil {
			return err
		}
		delete(c.Services, words[3])
	case strings.HasPrefix(command, "run services describe "):
		s, err := c.service(words[3])
		if err != nil {
			return err
		}
		// gcloud prints one line for each entry only with --flatten; without it, all are on
		// one.
		if flat := strings.Contains(format, "status.traffic."); flat != (flagOf(flags, "--flatten") == "status.traffic[]") {
			return fmt.Errorf("flattened wrongly: %q", flags)
		}
		switch format {
		case "value(status.latestCreatedRevisionName,spec.template.spec.containers[0].image)":
			latest := s.Revisions[len(s.Revisions)-1]
			fmt.Fprintf(out, "%s\t%s\n", latest, s.Images[latest])
		case "value(spec.template.spec.containers[0].image)":
			fmt.Fprintln(out, s.Images[s.Revisions[len(s.Revisions)-1]])
		case "value(status.traffic.revisionName,status.traffic.percent)":
			for revision, percent := range s.Traffic {
				fmt.Fprintf(out, "%s\t%d\n", revision, percent)
			}
			for _, revision := range s.Tags {
				fmt.Fprintf(out, "%s\t\n", revision) // a tag's entry has no percent
			}
		case "value(status.traffic.tag,status.traffic.revisionName,status.traffic.url)":
			fmt.Fprintf(out, "\t%s\t\n", s.Revisions[0]) // the entry with the traffic has no tag
			for tag, revision := range s.Tags {
				fmt.Fprintf(out, "%s\t%s\t%s\n", tag, revision, s.URL)
			}
		default:
			return fmt.Errorf("unknown format %s", format)
		}
	case strings.HasPrefix(command, "run deploy "):
		s, err := c.service(words[2])
		if err != nil {
			return err
		}
		// A deployment that takes traffic skips the smoke test; a tag may name another image
		// tomorrow.
		if !slices.Contains(flags, "--no-traffic") || !strings.Contains(flagOf(flags, "--image"), "@sha256:") {
			return fmt.Errorf("would take traffic, or run what may change: %q", flags)
		}
		if flagOf(flags, "--tag")+flagOf(flags, "--revision-suffix") != "" {
			return fmt.Errorf("would name the revision in the service, which Terraform sees: %q", flags)
		}
		s.Made++
		revision := fmt.Sprintf("%s-%05d-abc", words[2], 1+s.Made)
		s.Revisions = append(s.Revisions, revision)
		s.Images[revision] = flagOf(flags, "--image")
		if why := c.starts(s.Images[revision]); why != "" {
			s.NotReady[revision] = why
			return fmt.Errorf("revision %s is not ready: %s", revision, why)
		}
	case strings.HasPrefix(command, "run services update-traffic ") && flagOf(flags, "--update-tags") != "":
		s, err := c.service(words[3])
		if err != nil {
			return err
		}
		tag, revision, _ := strings.Cut(flagOf(flags, "--update-tags"), "=")
		if !slices.Contains(s.Revisions, revision) {
			return fmt.Errorf("no revision %s", revision)
		}
		s.Tags[tag] = revision
	case strings.HasPrefix(command, "run services update-traffic "):
		s, err := c.service(words[3])
		if err != nil {
			return err
		}
		next, sum := map[string]int{}, 0
		// Cloud Run refuses shares that are not 100 together, or of revisions that it does not
		// have.
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

func (c *Cloud) service(name string) (*Service, error) {
	if s := c.Services[name]; s != nil {
		return s, nil
	}
	return nil, fmt.Errorf("cannot find service [%s]", name)
}
