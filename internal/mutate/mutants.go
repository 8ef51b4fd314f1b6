package main

import (
	"context"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const (
	activeVariable  = "GATEHOUSE_MUTANT"
	reachedVariable = "GATEHOUSE_MUTANTS_REACHED"
)

// mutant is one fault.
type mutant struct {
	id        int
	at        token.Position
	function  string
	what      string
	broken    bool // it does not compile
	statement string
}

func (m mutant) place() string  { return fmt.Sprintf("%s:%d", filepath.Base(m.at.Filename), m.at.Line) }
func (m mutant) String() string { return fmt.Sprintf("%s  %s: %s", m.place(), m.what, m.statement) }

// edit replaces source[from:to].
type edit struct {
	mutants  []int
	from, to int
	text     string
}

type pkg struct {
	dir     string
	name    string
	fset    *token.FileSet
	files   []*ast.File
	sources map[string][]byte
	info    *types.Info
	types   *types.Package
	mutants []mutant
	edits   map[string][]edit

	function string // in which mutants are looked for
}

// load parses a package and checks its types by what the compiler exported.
func load(ctx context.Context, path string) (*pkg, error) {
	listed, err := goList(ctx, "-export", "-deps", "-json=ImportPath,Export,Dir,Name,GoFiles", path)
	if err != nil {
		return nil, err
	}
	type listing struct {
		ImportPath, Export, Dir, Name string
		GoFiles                       []string
	}
	var l listing // at the end the package's, which comes after what it imports
	exports := map[string]string{}
	for d := json.NewDecoder(strings.NewReader(listed)); d.More(); exports[l.ImportPath] = l.Export {
		l = listing{}
		if err := d.Decode(&l); err != nil {
			return nil, err
		}
	}
	p := &pkg{dir: l.Dir, name: l.Name, fset: token.NewFileSet(), sources: map[string][]byte{}, edits: map[string][]edit{},
		info: &types.Info{Types: map[ast.Expr]types.TypeAndValue{}, Defs: map[*ast.Ident]types.Object{}, Uses: map[*ast.Ident]types.Object{}}}
	for _, name := range l.GoFiles {
		file := filepath.Join(l.Dir, name)
		if p.sources[file], err = os.ReadFile(file); err != nil {
			return nil, err
		}
		f, err := parser.ParseFile(p.fset, file, p.sources[file], parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		p.files = append(p.files, f)
	}
	open := func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) }
	config := types.Config{Importer: importer.ForCompiler(p.fset, "gc", open)}
	p.types, err = config.Check(l.ImportPath, p.fset, p.files, p.info)
	return p, err
}

// find collects the mutants of all files.
func (p *pkg) find() {
	for _, f := range p.files {
		for _, d := range f.Decls {
			p.function = ""
			if function, ok := d.(*ast.FuncDecl); ok {
				p.function = function.Name.Name
			}
			ast.PreorderStack(d, nil, func(n ast.Node, around []ast.Node) bool {
				switch n := n.(type) {
				case *ast.ArrayType:
					return false // its length is a constant
				case *ast.CallExpr:
					if types.ExprString(n.Fun) == "make" {
						_, isMap := p.info.TypeOf(n).Underlying().(*types.Map)
						return !isMap && len(n.Args) < 3 // nobody sees a capacity
					}
				case *ast.GenDecl:
					return n.Tok == token.VAR // a constant must stay one
				case *ast.BlockStmt:
					p.statements(n.List, around)
				case *ast.CaseClause:
					p.statements(n.Body, around)
				case *ast.CommClause:
					p.statements(n.Body, around)
				case *ast.IfStmt:
					p.condition(n.Cond)
				case *ast.ReturnStmt:
					for _, r := range n.Results {
						p.condition(r)
					}
				case *ast.BinaryExpr:
					p.binary(n)
				case *ast.BasicLit:
					if entry, ok := around[len(around)-1].(*ast.KeyValueExpr); !ok || entry.Key != n { // a constant key
						p.number(f, n)
					}
				}
				return true
			})
		}
	}
}

// add registers a mutant at a node, without its edits.
func (p *pkg) add(n ast.Node, format string, args ...any) int {
	at, end := p.fset.Position(n.Pos()), p.fset.Position(n.End())
	text := strings.Join(strings.Fields(string(p.sources[at.Filename][at.Offset:end.Offset])), " ")
	if len(text) > 120 {
		text = text[:120] + "…"
	}
	id := len(p.mutants) + 1
	p.mutants = append(p.mutants, mutant{id: id, at: at, function: p.function, what: fmt.Sprintf(format, args...), statement: text})
	return id
}

// insert puts text before a position.
func (p *pkg) insert(at token.Pos, text string, ids ...int) {
	where := p.fset.Position(at)
	p.edits[where.Filename] = append(p.edits[where.Filename], edit{ids, where.Offset, where.Offset, text})
}

// wrap puts text around a node. An outer node is found before an inner one: of the texts at one
// place, what closes comes first, the inner before the outer, and then what opens.
func (p *pkg) wrap(n ast.Node, before, after string, ids ...int) {
	p.insert(n.Pos(), before, ids...)
	end := p.fset.Position(n.End())
	p.edits[end.Filename] = slices.Insert(p.edits[end.Filename], 0, edit{ids, end.Offset, end.Offset, after})
}

// statements leaves out a statement, or an error that is returned.
func (p *pkg) statements(list []ast.Stmt, around []ast.Node) {
	for _, s := range list {
		what := ""
		switch s := s.(type) {
		case *ast.ExprStmt:
			if call, ok := s.X.(*ast.CallExpr); !ok || !unmutated.MatchString(types.ExprString(call.Fun)) {
				what = "left out"
			}
		case *ast.AssignStmt:
			if s.Tok != token.DEFINE {
				what = "left out"
			}
		case *ast.DeferStmt:
			if !unmutated.MatchString(types.ExprString(s.Call.Fun)) {
				what = "left out"
			}
		case *ast.IncDecStmt, *ast.SendStmt:
			what = "left out"
		case *ast.BranchStmt:
			if s.Tok == token.CONTINUE || s.Tok == token.BREAK {
				what = "left out"
			}
		case *ast.ReturnStmt:
			r := p.results(around)
			if r.Len() == 0 { // of named results it may be the last statement, which must return
				what = "left out"
			} else if r.Len() == len(s.Results) && types.TypeString(r.At(r.Len()-1).Type(), nil) == "error" {
				last := s.Results[len(s.Results)-1]
				at, from := p.fset.Position(s.Pos()), p.fset.Position(last.Pos())
				// A copied line break would move every line after it.
				if text := string(p.sources[at.Filename][at.Offset:from.Offset]); !p.info.Types[last].IsNil() && !strings.Contains(text, "\n") {
					id := p.add(s, "returns nil for the error")
					p.insert(s.Pos(), fmt.Sprintf("if mutant_(%d) { %s nil }; ", id, text), id)
				}
			}
		}
		if what != "" {
			id := p.add(s, "%s", what)
			p.wrap(s, fmt.Sprintf("if !mutant_(%d) { ", id), " }", id)
		}
	}
}

// unmutated are calls that leave no more than a report; panics, which end a function; and
// locks, without which a test ends or hangs whatever it tests.
var unmutated = regexp.MustCompile(`^panic$|(?i:log|logger|span)\.[A-Z]\w*$|\.(Debug|Info|Warn|Error|DebugContext|InfoContext|WarnContext|ErrorContext|LogAttrs|SetAttributes|Helper|R?Lock|R?Unlock)$`)

// results returns the results of the innermost function.
func (p *pkg) results(around []ast.Node) *types.Tuple {
	for _, n := range slices.Backward(around) {
		switch n := n.(type) {
		case *ast.FuncDecl:
			return p.info.TypeOf(n.Name).(*types.Signature).Results()
		case *ast.FuncLit:
			return p.info.TypeOf(n).(*types.Signature).Results()
		}
	}
	return nil
}

// condition makes each operand of a boolean expression true, and false.
func (p *pkg) condition(e ast.Expr) {
	switch x := e.(type) {
	case *ast.ParenExpr:
		p.condition(x.X)
		return
	case *ast.BinaryExpr:
		if x.Op == token.LAND || x.Op == token.LOR {
			p.condition(x.X)
			p.condition(x.Y)
			return
		}
	}
	t := p.info.Types[e]
	if b, ok := t.Type.(*types.Basic); !ok || b.Info()&types.IsBoolean == 0 {
		return
	}
	if t.Value != nil {
		id := p.add(e, "the opposite")
		p.wrap(e, fmt.Sprintf("mutantNot_(%d, ", id), ")", id)
		return
	}
	yes, no := p.add(e, "always true"), p.add(e, "always false")
	p.wrap(e, fmt.Sprintf("mutantBool_(%d, ", yes), ")", yes, no)
}

var operators = map[token.Token][2]string{
	token.LSS: {"Less", "<="}, token.LEQ: {"LessEqual", "<"}, token.GTR: {"Greater", ">="}, token.GEQ: {"GreaterEqual", ">"},
	token.ADD: {"Add", "-"}, token.SUB: {"Sub", "+"}, token.MUL: {"Mul", "/"}, token.QUO: {"Quo", "*"},
}

// binary exchanges an operator for its neighbor.
func (p *pkg) binary(e *ast.BinaryExpr) {
	o, ok := operators[e.Op]
	x, y := p.info.Types[e.X], p.info.Types[e.Y]
	typed := x
	if x.Value != nil {
		typed = y
	}
	b, basic := typed.Type.Underlying().(*types.Basic)
	if !ok || p.info.Types[e].Value != nil || !basic || b.Info()&(types.IsInteger|types.IsFloat) == 0 {
		return
	}
	id := p.add(e, "%s", o[1])
	p.wrap(e, fmt.Sprintf("mutant%s_(%d, ", o[0], id), ")", id)
	at := p.fset.Position(e.OpPos)
	p.edits[at.Filename] = append(p.edits[at.Filename], edit{[]int{id}, at.Offset, at.Offset + len(e.Op.String()), ", "})
}

// number adds one to a number in the text.
func (p *pkg) number(f *ast.File, n *ast.BasicLit) {
	t := p.info.Types[n].Type
	if n.Kind != token.INT || t == nil {
		return
	}
	name := types.TypeString(t, func(other *types.Package) string {
		if other == p.types {
			return ""
		}
		return other.Name()
	})
	b, ok := t.Underlying().(*types.Basic)
	if !ok || b.Info()&types.IsUntyped != 0 || b.Info()&(types.IsInteger|types.IsFloat) == 0 {
		return
	}
	if of, _, imported := strings.Cut(name, "."); imported && !slices.ContainsFunc(f.Imports, func(i *ast.ImportSpec) bool {
		return i.Name == nil && strings.HasSuffix(strings.Trim(i.Path.Value, `"`), of)
	}) {
		return
	}
	id := p.add(n, "one more")
	p.wrap(n, fmt.Sprintf("mutantNumber_[%s](%d, ", name, id), ")", id)
}

// build compiles a package's tests with all mutants. One that does not compile is left out.
func (p *pkg) build(ctx context.Context, work, program, name string) error {
	for range 20 {
		replace := map[string]string{filepath.Join(p.dir, "mutants_.go"): filepath.Join(work, "mutants_.go")}
		if err := os.WriteFile(filepath.Join(work, "mutants_.go"), []byte(fmt.Sprintf(support, p.name, activeVariable, reachedVariable, len(p.mutants)+2)), 0o600); err != nil {
			return err
		}
		for file := range p.sources {
			changed := filepath.Join(work, filepath.Base(file))
			if err := os.WriteFile(changed, p.apply(file), 0o600); err != nil {
				return err
			}
			replace[file] = changed
		}
		overlay, err := json.Marshal(map[string]any{"Replace": replace})
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(work, "overlay.json"), overlay, 0o600); err != nil {
			return err
		}
		cmd := exec.CommandContext(ctx, "go", "test", "-c", "-vet=off", "-gcflags="+p.types.Path()+"=-e", "-overlay", filepath.Join(work, "overlay.json"), "-o", program, name)
		out, err := cmd.CombinedOutput()
		if err == nil {
			return nil
		}
		if !p.leaveOut(string(out)) {
			return fmt.Errorf("build %s: %w: %s", name, err, out)
		}
	}
	return fmt.Errorf("build %s: it does not compile", name)
}

var compileError = regexp.MustCompile(`(?m)^\S*?([^/\s]+\.go):(\d+):\d+: `)

// leaveOut marks the mutants on the lines that did not compile.
func (p *pkg) leaveOut(said string) (some bool) {
	for _, e := range compileError.FindAllStringSubmatch(said, -1) {
		line, _ := strconv.Atoi(e[2])
		for i, m := range p.mutants {
			if filepath.Base(m.at.Filename) == e[1] && m.at.Line == line && !m.broken {
				p.mutants[i].broken, some = true, true
			}
		}
	}
	return some
}

// apply returns a file's text with its edits.
func (p *pkg) apply(file string) []byte {
	edits := slices.DeleteFunc(slices.Clone(p.edits[file]), func(e edit) bool {
		return slices.ContainsFunc(e.mutants, func(id int) bool { return p.mutants[id-1].broken })
	})
	slices.SortStableFunc(edits, func(a, b edit) int { return a.from - b.from })
	source, last := p.sources[file], 0
	var out []byte
	for _, e := range edits {
		out = append(append(out, source[last:e.from]...), e.text...)
		last = e.to
	}
	return append(out, source[last:]...)
}

// support is the package's switch. A test that runs by itself writes which mutants it reached.
const support = `package %[1]s

import (
	"os"
	"strconv"
	"sync/atomic"
)

type mutantNumber interface {
	~int | ~int8 | ~int16 | ~int32 | ~int64 | ~uint | ~uint8 | ~uint16 | ~uint32 | ~uint64 | ~float32 | ~float64
}

type mutantSwitch struct {
	active  int
	file    *os.File
	reached [%[4]d]atomic.Bool
}

var mutants_ = func() *mutantSwitch {
	s := new(mutantSwitch)
	s.active, _ = strconv.Atoi(os.Getenv("%[2]s"))
	if name := os.Getenv("%[3]s"); name != "" {
		s.file, _ = os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	}
	return s
}()

func mutant_(id int) bool {
	if mutants_.file != nil && !mutants_.reached[id].Swap(true) {
		_, _ = mutants_.file.WriteString(strconv.Itoa(id) + "\n")
	}
	return mutants_.active == id
}

func mutantBool_(id int, value bool) bool {
	yes, no := mutant_(id), mutant_(id+1)
	return (value || yes) && !no
}

func mutantNot_(id int, value bool) bool { return value != mutant_(id) }

func mutantNumber_[T mutantNumber](id int, n T) T {
	if mutant_(id) {
		return n + 1
	}
	return n
}

func mutantLess_[T mutantNumber](id int, a, b T) bool         { return a < b || a == b && mutant_(id) }
func mutantLessEqual_[T mutantNumber](id int, a, b T) bool    { return a < b || a == b && !mutant_(id) }
func mutantGreater_[T mutantNumber](id int, a, b T) bool      { return a > b || a == b && mutant_(id) }
func mutantGreaterEqual_[T mutantNumber](id int, a, b T) bool { return a > b || a == b && !mutant_(id) }

func mutantAdd_[T mutantNumber](id int, a, b T) T { if mutant_(id) { return a - b }; return a + b }
func mutantSub_[T mutantNumber](id int, a, b T) T { if mutant_(id) { return a + b }; return a - b }
func mutantMul_[T mutantNumber](id int, a, b T) T { if mutant_(id) { return a / b }; return a * b }
func mutantQuo_[T mutantNumber](id int, a, b T) T { if mutant_(id) { return a * b }; return a / b }
`
