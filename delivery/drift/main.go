// Command drift reports what a Terraform plan would change, and why: because the
// commit asks for it, because somebody changed it by hand, or because an API returns
// it in another form than it was written in.
//
//	terraform show -json PLAN >plan.json; drift plan.json
//
// It exits with 0 if all differences are due to the APIs, 3 if the commit asks for
// some, 4 if somebody made some, and 1 if the plan cannot be read. It prints
// attributes but never their values, which may be secret.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"example.com/gatehouse/internal/apiform"
)

const (
	asked  = 3
	byHand = 4
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: drift PLAN.json")
		os.Exit(64)
	}
	raw, err := os.ReadFile(os.Args[1])
	if err != nil {
		fmt.Fprintln(os.Stderr, "drift:", err)
		os.Exit(1)
	}
	code, err := report(raw, os.Stdout)
	if err != nil {
		fmt.Fprintln(os.Stderr, "drift:", err)
		os.Exit(1)
	}
	os.Exit(code)
}

// A resource is one change in a plan, in Terraform's JSON.
type resource struct {
	Address string `json:"address"`
	Type    string `json:"type"`
	Change  struct {
		Actions []string       `json:"actions"`
		Before  map[string]any `json:"before"`
		After   map[string]any `json:"after"`
		Unknown map[string]any `json:"after_unknown"`
	} `json:"change"`
}

func report(raw []byte, out io.Writer) (int, error) {
	var plan struct {
		Version string     `json:"format_version"`
		Drift   []resource `json:"resource_drift"`
		Changes []resource `json:"resource_changes"`
	}
	if err := json.Unmarshal(raw, &plan); err != nil {
		return 0, err
	}
	if plan.Version == "" {
		return 0, fmt.Errorf("this is no plan of Terraform's")
	}
	drifts := map[string]resource{}
	for _, r := range plan.Drift {
		drifts[r.Address] = r
	}
	code := 0
	for _, r := range plan.Changes {
		drift, drifted := drifts[r.Address]
		actions := strings.Join(r.Change.Actions, " and ")
		switch {
		case actions == "no-op" || actions == "read":
		case actions == "create" && drifted && slices.Contains(drift.Change.Actions, "delete"):
			fmt.Fprintf(out, "by hand: somebody deleted %s; applying makes it again\n", r.Address)
			code = max(code, byHand)
		case actions != "update":
			fmt.Fprintf(out, "asked for: %s %s\n", actions, r.Address)
			code = max(code, asked)
		default:
			code = max(code, r.update(drift, out))
		}
	}
	if code == 0 {
		fmt.Fprintln(out, "nothing to apply: what differs is only the form in which an API returns it, or an output")
	}
	return code, nil
}

// update reports each attribute of an update. Its before is what the API returned now;
// a drift's before is what it returned after the last apply.
func (r resource) update(drift resource, out io.Writer) (code int) {
	returned := apiform.Returned(r.Type, r.Change.After)
	for _, path := range apiform.Changes(r.Change.Before, r.Change.After) {
		if unknown, _ := apiform.At(r.Change.Unknown, path).(bool); unknown {
			continue // computed during the apply, because of another attribute
		}
		now := apiform.At(r.Change.Before, path)
		switch {
		case same(now, apiform.At(returned, path)):
			fmt.Fprintf(out, "by the API: %s: %s comes back in another form than it is written, at each plan; write it in that form\n", r.Address, path)
		case drift.Address != "" && !same(apiform.At(drift.Change.Before, path), apiform.At(drift.Change.After, path)):
			fmt.Fprintf(out, "by hand: somebody changed %s: %s; applying takes it back\n", r.Address, path)
			code = max(code, byHand)
		default:
			fmt.Fprintf(out, "asked for: %s: %s\n", r.Address, path)
			code = max(code, asked)
		}
	}
	return code
}

func same(a, b any) bool {
	return len(apiform.Changes(map[string]any{"v": a}, map[string]any{"v": b})) == 0
}
