package caller_test

import (
	"testing"

	"example.com/gatehouse/internal/caller"
)

func TestFromContext(t *testing.T) {
	t.Parallel()
	if c, ok := caller.FromContext(t.Context()); ok || c.Owner != "" || caller.Owner(t.Context()) != "" {
		t.Errorf("without a caller: %+v, %v", c, ok)
	}
	c := caller.New(caller.Principal{Issuer: "i", Subject: "s"}, "ada")
	if got, ok := caller.FromContext(caller.NewContext(t.Context(), c)); !ok || got != c {
		t.Errorf("%+v, %v, want %+v", got, ok, c)
	}
}

func TestOwnersDiffer(t *testing.T) {
	t.Parallel()
	seen := map[string]string{}
	for name, c := range map[string]caller.Caller{
		"a caller":                         caller.New(caller.Principal{Issuer: "ab", Subject: "c"}, ""),
		"another with the same letters":    caller.New(caller.Principal{Issuer: "a", Subject: "bc"}, ""),
		"the caller for an end user":       caller.New(caller.Principal{Issuer: "ab", Subject: "c"}, "ada"),
		"the caller for another end user":  caller.New(caller.Principal{Issuer: "ab", Subject: "c"}, "bob"),
		"another caller for that end user": caller.New(caller.Principal{Issuer: "ab", Subject: "d"}, "ada"),
	} {
		if other, ok := seen[string(c.Owner)]; ok {
			t.Errorf("%s and %s have one owner", name, other)
		}
		seen[string(c.Owner)] = name
	}
	p := caller.Principal{Issuer: "ab", Subject: "c"}
	if p.Owner() != caller.New(p, "").Owner {
		t.Error("the principal's owner is not that of its calls for nobody")
	}
}

// A request of the queue learns for whom it works from what is stored.
func TestAssume(t *testing.T) {
	t.Parallel()
	ada := caller.New(caller.Principal{Issuer: "i", Subject: "s"}, "ada")
	ctx, worksFor := caller.Await(t.Context())
	if worksFor.Owner != "" {
		t.Errorf("before anybody was assumed: %+v", worksFor)
	}
	if got, ok := caller.FromContext(caller.Assume(ctx, ada)); !ok || got != ada || *worksFor != ada {
		t.Errorf("%+v, %v, and %+v; want %+v", got, ok, *worksFor, ada)
	}
	if got := caller.Owner(caller.Assume(t.Context(), ada)); got != ada.Owner {
		t.Errorf("where nobody awaits it: %q", got)
	}
}
