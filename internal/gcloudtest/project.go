package gcloudtest

import (
	"archive/tar"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

// project answers what is asked about the project, its APIs and buckets. It
// reports whether the call was one of those.
func (c *Cloud) project(command string, out io.Writer) bool {
	switch {
	case command == "auth list":
		fmt.Fprintln(out, c.Account)
	case strings.HasPrefix(command, "projects describe "):
		fmt.Fprintln(out, c.State)
	case strings.HasPrefix(command, "billing projects describe "):
		fmt.Fprintln(out, map[bool]string{true: "True", false: "False"}[c.Billing])
	case strings.HasPrefix(command, "beta services identity create"):
	default:
		return false
	}
	return true
}

// build answers what a deployment asks about APIs, buckets and builds.
func (c *Cloud) build(words, flags []string, out io.Writer) (found bool, err error) {
	command := strings.Join(words, " ")
	last := words[len(words)-1]
	switch {
	case command == "auth application-default print-access-token":
		if !c.Application {
			return true, errors.New("your default credentials were not found")
		}
		fmt.Fprintln(out, "access-token")
	case command == "services enable":
		if !c.Billing {
			return true, errors.New("FAILED_PRECONDITION: Billing account for project is not found")
		}
		for i := 2; i < len(flags); i++ {
			if !slices.Contains(c.APIs, flags[i]) {
				c.APIs = append(c.APIs, flags[i])
			}
		}
	case command == "storage buckets list":
		if name := strings.TrimPrefix(flagOf(flags, "--filter"), "name="); slices.Contains(c.Buckets, "gs://"+name) {
			fmt.Fprintln(out, name)
		}
	case strings.HasPrefix(command, "storage buckets create "):
		if slices.Contains(c.Buckets, last) {
			return true, errors.New("HTTPError 409: you already own this bucket")
		}
		c.Buckets = append(c.Buckets, last)
	case strings.HasPrefix(command, "storage buckets update "):
		if !slices.Contains(c.Buckets, last) {
			return true, fmt.Errorf("%s not found: 404", last)
		}
	// Terraform's lock is an object, whose generation is the id that force-unlock takes.
	case strings.HasPrefix(command, "storage objects describe "):
		if _, ok := c.Objects[last]; !ok {
			return true, fmt.Errorf("%s not found: 404", last)
		}
		fmt.Fprintln(out, generation)
	case strings.HasPrefix(command, "storage cat "):
		fmt.Fprint(out, c.Objects[last])
	case strings.HasPrefix(command, "artifacts docker images describe "):
		if c.Tags[last] == "" {
			return true, errors.New("NOT_FOUND: the image is not there")
		}
		fmt.Fprintln(out, c.Tags[last])
	case strings.HasPrefix(command, "builds submit "):
		return true, c.submit(last, flags, out)
	case strings.HasPrefix(command, "builds describe "):
		fmt.Fprintln(out, words[2][strings.LastIndex(words[2], "-")+1:])
	case strings.HasPrefix(command, "logging read "):
		fmt.Fprint(out, c.BuildLog)
	default:
		return false, nil
	}
	return true, nil
}

// generation is that of every object.
const generation = "1732620000000001"

// submit runs a build to its end. Its ID ends with what came of it.
//
// It refuses what Cloud Build would only find minutes later: a source without the files that
// the build runs, or a registry that does not exist.
func (c *Cloud) submit(archive string, flags []string, out io.Writer) error {
	names, err := packed(archive)
	if err != nil {
		return err
	}
	for _, name := range []string{"go.mod", ".delivery/steps/build", ".delivery/steps/lib.sh", ".delivery/steps/project.toml"} {
		if !slices.Contains(names, name) {
			return fmt.Errorf("the source holds no %s: %q", name, names)
		}
	}
	if _, err := os.Stat(flagOf(flags, "--config")); err != nil {
		return err
	}
	substitutions := map[string]string{}
	for s := range strings.SplitSeq(flagOf(flags, "--substitutions"), ",") {
		name, value, _ := strings.Cut(s, "=")
		substitutions[name] = value
	}
	if c.resource("google_artifact_registry_repository", "") == nil || substitutions["_COMMIT"] == "" ||
		!strings.HasPrefix(substitutions["_SERVICE_ACCOUNT"], substitutions["_REPOSITORY"]+"-build@") {
		return fmt.Errorf("nothing to build with: %v", substitutions)
	}
	status := "SUCCESS"
	if len(c.Builds) > 0 {
		status, c.Builds = c.Builds[0], c.Builds[1:]
	}
	// The digest is made from the commit, so that a test can predict it, and padded to the 64
	// digits of a SHA-256.
	if status == "SUCCESS" {
		image := fmt.Sprintf("%s-docker.pkg.dev/%s/%s/gatehouse", c.Region, c.Project, substitutions["_REPOSITORY"])
		commit := substitutions["_COMMIT"]
		c.Tags[image+":"+commit[:12]] = "sha256:" + (commit + strings.Repeat("0", 64))[:64]
	}
	fmt.Fprintln(out, "build-"+status)
	return nil
}

// packed returns the names of the files in a source archive.
func packed(file string) ([]string, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	zipped, err := gzip.NewReader(f)
	if err != nil {
		return nil, err
	}
	var names []string
	for archive := tar.NewReader(zipped); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return names, nil
		}
		if err != nil {
			return nil, err
		}
		names = append(names, header.Name)
	}
}

// starts is why an image does not start, if it does not.
func (c *Cloud) starts(image string) string {
	for _, bad := range c.BadImages {
		if strings.HasSuffix(image, bad) {
			return "The user-provided container failed to start and listen on the port defined by PORT=8080."
		}
	}
	return ""
}

// list writes a service as gcloud does in JSON.
func (c *Cloud) list(name string, out io.Writer) error {
	type object map[string]any
	list := []object{}
	if s := c.Services[name]; s != nil {
		latest := s.Revisions[len(s.Revisions)-1]
		// The latest ready revision may be an older one than the latest: that is how a
		// deployment that failed shows.
		ready, condition := "", object{"type": "Ready", "status": "True"}
		for _, revision := range s.Revisions {
			if s.NotReady[revision] == "" {
				ready = revision
			}
		}
		if why := s.NotReady[latest]; why != "" {
			condition = object{"type": "Ready", "status": "False", "message": why}
		}
		traffic := []object{}
		for revision, percent := range s.Traffic {
			traffic = append(traffic, object{"revisionName": revision, "percent": percent})
		}
		list = append(list, object{
			"metadata": object{"name": name, "labels": object{"app": s.App}},
			"spec":     object{"template": object{"spec": object{"containers": []object{{"image": s.Images[latest]}}}}},
			"status": object{"latestCreatedRevisionName": latest, "latestReadyRevisionName": ready,
				"conditions": []object{condition}, "traffic": traffic},
		})
	}
	return json.NewEncoder(out).Encode(list)
}
