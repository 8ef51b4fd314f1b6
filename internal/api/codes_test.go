package api_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"testing"

	"example.com/gatehouse/internal/api"
)

// No code can be added without a row in the contract's table, which
// TestTheTableOfErrorsIsTheContracts holds to the package's own.
func TestEveryCodeIsInTheContract(t *testing.T) {
	t.Parallel()
	file, err := parser.ParseFile(token.NewFileSet(), "errors.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	codes := 0
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if typ, ok := spec.Type.(*ast.Ident); !ok || typ.Name != "Code" {
			return true
		}
		for _, value := range spec.Values {
			text, err := strconv.Unquote(value.(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			codes++
			if _, ok := contract[api.Code(text)]; !ok {
				t.Errorf("%s is not in the contract", text)
			}
		}
		return true
	})
	if codes != len(contract) {
		t.Errorf("%d codes, and %d in the contract", codes, len(contract))
	}
}
