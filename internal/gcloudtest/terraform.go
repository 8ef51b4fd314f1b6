package gcloudtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Terraform is stood in for by its plan, state and exit codes, not by its language: the
// resources are a fixed list, enough for the order of a first apply, for one that stops in the
// middle, and for what repairs it. What can go wrong is a key of [Cloud.Fail]: "create ADDRESS"
// fails before the resource is there; "taint INDEXTYPE" leaves it tainted in the state and
// unmade; "lose INDEX" makes it and loses it from the state; "late INDEX" makes it and leaves
// it tainted, although it works.

// A Resource is one in Terraform's state.
type Resource struct {
	Address, Type, Name, Index string
	Tainted                    bool
	Values                     map[string]any
}

const module = "module.gatehouse.module.gatehouse."

// wanted is what the configuration asks for, in the order in which it is made.
func (c *Cloud) wanted(image string, buildOnly bool) []*Resource {
	all := []*Resource{
		{Type: "google_artifact_registry_repository", Name: "this", Values: map[string]any{"repository_id": "gatehouse", "location": c.Region}},
		{Type: "google_service_account", Name: "build", Values: map[string]any{"account_id": "gatehouse-build"}},
		{Type: "terraform_data", Name: "build", Values: map[string]any{}},
	}
	if !buildOnly {
		all = append(all, &Resource{Type: "google_firestore_database", Name: "this", Values: map[string]any{"name": "(default)"}})
		for _, function := range []string{"invoke", "health"} {
			all = append(all, &Resource{Type: service, Name: "function", Index: function, Values: map[string]any{"name": function, "location": c.Region, "image": image}})
		}
		all = append(all, &Resource{Type: "google_monitoring_dashboard", Name: "this", Values: map[string]any{}})
	}
	for _, r := range all {
		r.Address = module + r.Type + "." + r.Name
		if r.Index != "" {
			r.Address += fmt.Sprintf("[%q]", r.Index)
		}
	}
	return all
}

const service = "google_cloud_run_v2_service"

// resource is one of the state's, by its type and index.
func (c *Cloud) resource(kind, index string) *Resource {
	for _, r := range c.Resources {
		if r.Type == kind && r.Index == index {
			return r
		}
	}
	return nil
}

func (c *Cloud) at(address string) (int, error) {
	i := slices.IndexFunc(c.Resources, func(r *Resource) bool { return r.Address == address })
	if i < 0 {
		return i, fmt.Errorf("no matching objects found: %s", address)
	}
	return i, nil
}

// A planned is a change in a plan's JSON.
type planned struct {
	Address string `json:"address"`
	Type    string `json:"type"`
	Name    string `json:"name"`
	Index   string `json:"index,omitempty"`
	Change  struct {
		Actions []string       `json:"actions"`
		Before  map[string]any `json:"before"`
		After   map[string]any `json:"after"`
	} `json:"change"`
}

// CallTerraform does what a deployment asks of Terraform, with the file at path,
// and refuses everything else.
func CallTerraform(path string, args []string, out io.Writer) error {
	c, err := Load(path)
	if err != nil {
		return err
	}
	c.Calls = append(c.Calls, append([]string{"terraform"}, args...))
	root, ok := strings.CutPrefix(args[0], "-chdir=")
	if !ok {
		return errors.New("no root is named")
	}
	call := "terraform " + args[1]
	// The plan of the build's resources fails apart from that of all.
	if args[1] == "plan" && strings.Contains(strings.Join(args, " "), "-target=") {
		call += " -target"
	}
	if c.Fail[call] > 0 {
		c.Fail[call]--
		err = c.failure(call)
	} else {
		err = c.terraform(root, args[1], args[2:], out)
	}
	// What a failed apply has made is kept, as Terraform keeps it.
	return errors.Join(err, c.Save(path))
}

// A terraformError is in Terraform's own words, which begin as its sentences do.
type terraformError string

func (e terraformError) Error() string { return string(e) }

func (c *Cloud) terraform(root, command string, args []string, out io.Writer) error {
	last := ""
	if len(args) > 0 {
		last = args[len(args)-1]
	}
	lock := fmt.Sprintf("gs://%s-tfstate/gatehouse/default.tflock", c.Project)
	// An apply that was killed leaves its lock, and every plan after it fails until somebody
	// unlocks.
	if _, locked := c.Objects[lock]; locked && (command == "plan" || command == "apply") {
		return terraformError(fmt.Sprintf("Error acquiring the state lock: %s", generation))
	}
	switch command {
	case "init":
		if !slices.Contains(args, "bucket="+c.Project+"-tfstate") || !slices.Contains(args, "prefix=gatehouse") || !slices.Contains(c.Buckets, "gs://"+c.Project+"-tfstate") {
			return fmt.Errorf("the state's bucket is not there: %q", args)
		}
		return os.WriteFile(filepath.Join(root, ".terraform.lock.hcl"), []byte("# checksums\n"), 0o600)
	case "force-unlock":
		if last != generation {
			return fmt.Errorf("there is no lock %s", last)
		}
		delete(c.Objects, lock)
	case "untaint":
		i, err := c.at(last)
		if err != nil {
			return err
		}
		c.Resources[i].Tainted = false
	case "state":
		switch args[0] {
		case "rm":
			i, err := c.at(last)
			if err != nil {
				return err
			}
			c.Resources = slices.Delete(c.Resources, i, i+1)
		case "mv":
			from, to := args[len(args)-2], last
			moved := false
			for _, r := range c.Resources {
				// An address without an index moves all instances of the resource.
				if index, ok := strings.CutPrefix(r.Address, from); ok && (index == "" || index[0] == '[') {
					r.Address, moved = to+index, true
				}
			}
			if !moved {
				return terraformError(fmt.Sprintf("Invalid source address: %s", from))
			}
		case "push":
			raw, err := os.ReadFile(filepath.Join(root, last))
			if err != nil {
				return err
			}
			return json.Unmarshal(raw, &c.Resources)
		}
	case "import":
		for _, r := range c.wanted("", false) {
			if name, ok := r.Values["name"].(string); ok && r.Address == args[len(args)-2] && strings.HasSuffix(last, "/"+name) {
				c.Resources = append(c.Resources, r)
				return nil
			}
		}
		return fmt.Errorf("nothing to import %q as", args)
	case "output":
		function := strings.TrimSuffix(last, "_url")
		if c.Services[function] == nil {
			return terraformError(fmt.Sprintf("Output %q not found", last))
		}
		fmt.Fprint(out, "https://"+function+".example")
	case "show":
		if last != "-json" {
			raw, err := os.ReadFile(filepath.Join(root, last))
			if err != nil {
				return err
			}
			_, err = out.Write(raw)
			return err
		}
		return c.show(out)
	case "plan":
		return c.plan(root, args)
	case "apply":
		return c.apply(filepath.Join(root, last))
	default:
		return fmt.Errorf("not a command that the stand-in knows: %s %q", command, args)
	}
	return nil
}

// show writes the state in Terraform's JSON, resources of the module two modules
// down, and what is at other addresses in the root.
func (c *Cloud) show(out io.Writer) error {
	type object map[string]any
	var resources, rest []object
	for _, r := range c.Resources {
		o := object{"address": r.Address, "type": r.Type, "tainted": r.Tainted, "values": r.Values}
		if strings.HasPrefix(r.Address, module) {
			resources = append(resources, o)
		} else {
			rest = append(rest, o)
		}
	}
	inner := object{"resources": resources}
	outer := object{"child_modules": []object{inner}}
	return json.NewEncoder(out).Encode(object{"format_version": "1.0", "values": object{"root_module": object{"resources": rest, "child_modules": []object{outer}}}})
}

func (c *Cloud) plan(root string, args []string) error {
	image, project := "", ""
	for i, arg := range args {
		if i > 0 && args[i-1] == "-var" {
			name, value, _ := strings.Cut(arg, "=")
			switch name {
			case "image":
				image = value
			case "project_id":
				project = value
			}
		}
	}
	if project != c.Project {
		return fmt.Errorf("the project is not named: %q", args)
	}
	// A validation of the module's, by which an image cannot come from a registry that others
	// fill.
	if image != "" && !strings.Contains(image, "/"+c.Project+"/") {
		return terraformError("Error: Invalid value for variable: image is in the registry of a project that is neither project_id nor among image_projects")
	}
	i := slices.Index(args, "-out")
	if i < 0 {
		return errors.New("the plan is not kept")
	}
	targeted := slices.Contains(args, "-target="+module+"terraform_data.build")
	for _, r := range c.Resources {
		if targeted && !strings.HasPrefix(r.Address, module) {
			return terraformError("Error: Moved resource instances excluded by targeting")
		}
	}
	var changes []planned
	for _, r := range c.wanted(image, targeted) {
		p := planned{Address: r.Address, Type: r.Type, Name: r.Name, Index: r.Index}
		p.Change.After, p.Change.Actions = r.Values, []string{"create"}
		if at, err := c.at(r.Address); err == nil {
			p.Change.Before, p.Change.Actions = c.Resources[at].Values, []string{"no-op"}
			if c.Resources[at].Tainted {
				p.Change.Actions = []string{"delete", "create"}
			}
		}
		changes = append(changes, p)
	}
	raw, err := json.Marshal(map[string]any{"format_version": "1.2", "resource_changes": changes})
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(root, args[i+1]), raw, 0o600)
}

// apply makes what a plan holds, and stops at the first resource that fails. What
// was made until then is in the state, as with Terraform.
func (c *Cloud) apply(file string) error {
	raw, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var plan struct {
		Changes []planned `json:"resource_changes"`
	}
	if err := json.Unmarshal(raw, &plan); err != nil {
		return err
	}
	for _, p := range plan.Changes {
		// deletion_protection refuses to replace what is tainted: a deployment has to untaint
		// it first.
		if slices.Contains(p.Change.Actions, "delete") {
			return fmt.Errorf("%s: cannot destroy it without setting deletion_protection=false", p.Address)
		}
		if !slices.Contains(p.Change.Actions, "create") {
			continue
		}
		call := "create " + strings.TrimPrefix(p.Address, module)
		if c.Fail[call] > 0 {
			c.Fail[call]--
			return c.failure(call)
		}
		r := &Resource{Address: p.Address, Type: p.Type, Name: p.Name, Index: p.Index, Values: p.Change.After}
		if c.Fail["taint "+r.Index+r.Type] > 0 {
			c.Fail["taint "+r.Index+r.Type]--
			r.Tainted = true
			c.Resources = append(c.Resources, r)
			return fmt.Errorf("%s: Error 503: backend error while waiting for it to be ready", p.Address)
		}
		if p.Type == service {
			if err := c.serve(r); err != nil {
				return err
			}
		}
		c.Resources = append(c.Resources, r)
		if c.Fail["lose "+r.Index] > 0 { // killed before the state was written
			c.Fail["lose "+r.Index]--
			c.Resources = c.Resources[:len(c.Resources)-1]
			return errors.New("signal: killed")
		}
		if c.Fail["late "+r.Index] > 0 { // it is there, and Terraform did not hear so
			c.Fail["late "+r.Index]--
			r.Tainted = true
			return fmt.Errorf("%s: Error waiting to create Service: timeout", p.Address)
		}
	}
	return nil
}

// serve makes a service's first revision, which takes all traffic once ready.
func (c *Cloud) serve(r *Resource) error {
	name, _ := r.Values["name"].(string)
	image, _ := r.Values["image"].(string)
	if image == "" {
		return errors.New("an apply that makes a function needs image")
	}
	if c.Services[name] != nil {
		return terraformError(fmt.Sprintf("Error 409: Resource '%s' already exists", name))
	}
	revision := name + "-00001-abc"
	s := &Service{Revisions: []string{revision}, Images: map[string]string{revision: image}, Tags: map[string]string{}, Traffic: map[string]int{},
		NotReady: map[string]string{}, App: "gatehouse", URL: "https://" + name + ".example"}
	c.Services[name] = s
	if why := c.starts(image); why != "" {
		s.NotReady[revision] = why
		r.Tainted = true
		c.Resources = append(c.Resources, r)
		return terraformError(fmt.Sprintf("Error waiting to create Service: %s", why))
	}
	s.Traffic[revision] = 100
	return nil
}
