package terraform_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"

	"example.com/gatehouse/internal/terraformtest"
)

// The documents' types, and their collection groups.
var documents = map[string]string{
	"sessionDocument": "sessions",
	"archiveDocument": "archive",
	"userDocument":    "users",
	"runDocument":     "runs",
	"runMark":         "runs",
	"stepsDocument":   "steps",
	"accountDocument": "limits",
	"minuteDocument":  "figures",
}

// The collections of queries that a file passes on, by the file.
var collections = map[string]string{
	"sessions.go": "sessions",
	"archive.go":  "sessions",
	"since.go":    "sessions",
	"counters.go": "limits",
	"traffic.go":  "figures",
}

// code is what package firestore declares.
type code struct {
	fields      map[string][]string // by collection, those of its documents
	single      map[string]bool     // "collection.field" that is the only field of a query
	composite   map[string]bool     // indexes, as "collection: field DIRECTION, …"
	collections map[string]bool     // that are named in calls
}

func readFirestore(t *testing.T) code {
	t.Helper()
	c := code{map[string][]string{}, map[string]bool{}, map[string]bool{}, map[string]bool{}}
	names, err := filepath.Glob("../internal/gcp/firestore/*.go")
	if err != nil {
		t.Fatal(err)
	}
	files, constants := map[string]*ast.File{}, map[string]string{}
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		files[filepath.Base(name)] = file
		readConstants(file, constants)
	}
	for name := range collections {
		if files[name] == nil {
			t.Errorf("the package of Firestore has no %s", name)
		}
	}
	for name, file := range files {
		c.readFile(t, file, constants, collections[name])
	}
	return c
}

// readConstants adds the string constants of a file.
func readConstants(file *ast.File, constants map[string]string) {
	ast.Inspect(file, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok {
			for i, name := range spec.Names {
				if i < len(spec.Values) {
					if value, ok := spec.Values[i].(*ast.BasicLit); ok && value.Kind == token.STRING {
						constants[name.Name], _ = strconv.Unquote(value.Value)
					}
				}
			}
		}
		return true
	})
}

func (c code) readFile(t *testing.T, file *ast.File, constants map[string]string, collection string) {
	// value is a string that the source writes out or names; "" for another.
	value := func(e ast.Expr) string {
		switch e := e.(type) {
		case *ast.BasicLit:
			s, _ := strconv.Unquote(e.Value)
			return s
		case *ast.Ident:
			return constants[e.Name]
		}
		return ""
	}
	chained := map[ast.Node]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.TypeSpec:
			c.readType(t, n)
		case *ast.ValueSpec:
			if n.Names[0].Name == "TrafficIndexes" && len(n.Values) == 1 {
				for _, index := range n.Values[0].(*ast.CompositeLit).Elts {
					var fields []string
					for _, f := range index.(*ast.CompositeLit).Elts {
						fields = append(fields, value(f)+" ASCENDING")
					}
					c.composite[collection+": "+strings.Join(fields, ", ")] = true
				}
			}
		case *ast.CallExpr:
			if !chained[n] {
				c.readQuery(n, collection, value, chained)
			}
		}
		return true
	})
}

func (c code) readType(t *testing.T, spec *ast.TypeSpec) {
	fields, ok := spec.Type.(*ast.StructType)
	if !ok {
		return
	}
	var names []string
	for _, field := range fields.Fields.List {
		if field.Tag != nil {
			tag, _ := strconv.Unquote(field.Tag.Value)
			if name, _, _ := strings.Cut(reflect.StructTag(tag).Get("firestore"), ","); name != "" {
				names = append(names, name)
			}
		}
	}
	if !slices.Contains(names, "expires_at") {
		return // a part of a document
	}
	collection, ok := documents[spec.Name.Name]
	if !ok {
		t.Errorf("%s is a document of a collection that this test does not know", spec.Name.Name)
		return
	}
	for _, name := range names { // of all types that the collection's documents have
		if !slices.Contains(c.fields[collection], name) {
			c.fields[collection] = append(c.fields[collection], name)
		}
	}
}

// readQuery reads a chain of calls from its end to its beginning.
func (c code) readQuery(call *ast.CallExpr, collection string, value func(ast.Expr) string, chained map[ast.Node]bool) {
	equal, order := []string{}, []string{} // order from last to first
	ranged := map[string]bool{}
	for {
		selector, ok := call.Fun.(*ast.SelectorExpr)
		if !ok {
			break
		}
		switch {
		case selector.Sel.Name == "Collection" && len(call.Args) == 1:
			if name := value(call.Args[0]); name != "" {
				collection = name
				c.collections[name] = true
			}
		case selector.Sel.Name == "Where" && len(call.Args) == 3:
			if field := value(call.Args[0]); value(call.Args[1]) == "==" {
				equal = append(equal, field)
			} else {
				ranged[field] = true
			}
		case selector.Sel.Name == "OrderBy" && len(call.Args) == 2:
			field := value(call.Args[0])
			if s, ok := call.Args[0].(*ast.SelectorExpr); ok && s.Sel.Name == "DocumentID" {
				field = "__name__"
			}
			direction := "ASCENDING"
			if s, ok := call.Args[1].(*ast.SelectorExpr); ok && s.Sel.Name == "Desc" {
				direction = "DESCENDING"
			}
			order = append(order, field+" "+direction)
		}
		next, ok := selector.X.(*ast.CallExpr)
		if !ok {
			break
		}
		chained[next] = true
		call = next
	}
	slices.Reverse(order)
	if len(order) == 0 {
		for field := range ranged {
			order = append(order, field+" ASCENDING")
		}
	}
	if len(equal)+len(order) == 0 {
		return
	}
	var fields []string
	for _, field := range equal {
		fields = append(fields, field+" ASCENDING")
	}
	fields = append(fields, order...)
	last := fields[len(fields)-1]
	if name, direction, _ := strings.Cut(last, " "); name != "__name__" {
		if len(fields) == 1 {
			c.single[collection+"."+name] = true
			return
		}
		// Firestore ends every index with the document's name.
		fields = append(fields, "__name__ "+direction)
	}
	c.composite[collection+": "+strings.Join(fields, ", ")] = true
}

func TestFirestoreIsSetUpForTheCode(t *testing.T) {
	want := readFirestore(t)
	unindexed, expiring, composite := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for _, c := range plans(t)["private"] {
		after := c.Change.After
		name := text(after["collection"]) + "." + text(after["field"])
		switch {
		case c.Type == "google_firestore_field" && len(list(after["ttl_config"])) > 0:
			expiring[name] = true
		case c.Type == "google_firestore_field":
			unindexed[name] = true
		case c.Type == "google_firestore_index":
			var fields []string
			for _, f := range list(after["fields"]) {
				fields = append(fields, text(terraformtest.Dig(f, "field_path"))+" "+text(terraformtest.Dig(f, "order")))
			}
			composite[text(after["collection"])+": "+strings.Join(fields, ", ")] = true
		}
	}
	for collection := range want.collections {
		if want.fields[collection] == nil {
			t.Errorf("the collection %s has no document that this test knows", collection)
		}
	}
	known := map[string]bool{}
	for collection, fields := range want.fields {
		if !expiring[collection+".expires_at"] {
			t.Errorf("%s has no TTL policy", collection)
		}
		for _, field := range fields {
			name := collection + "." + field
			known[name] = true
			if need := want.single[name] || field == "expires_at"; need == unindexed[name] {
				t.Errorf("%s: a query or the TTL reads it alone %t, exempt from single-field indexes %t", name, need, unindexed[name])
			}
		}
	}
	if len(want.fields["sessions"]) < 10 || len(want.composite) == 0 {
		t.Fatalf("little was found in the code: %v", want)
	}
	for _, index := range slices.Sorted(maps.Keys(want.composite)) {
		if !composite[index] {
			t.Errorf("the code's queries need the index %s", index)
		}
	}
	if want.fields["figures"] == nil {
		return // without figures in the code, more is planned than is needed
	}
	for index := range composite {
		if !want.composite[index] {
			t.Errorf("no query needs the index %s", index)
		}
	}
	for name := range unindexed {
		if !known[name] {
			t.Errorf("%s is exempted, and no document has it", name)
		}
	}
}
