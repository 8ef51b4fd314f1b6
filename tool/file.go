package tool

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
)

// A File is a file that a tool adds to the answer, such as a picture or a PDF: the
// output itself, or anywhere in its lists, maps and structs. The user gets the file; the
// model reads its name, type and size only.
type File struct {
	Name string // shown to people; at most 255 bytes
	Type string // media type, such as image/png
	Data []byte
}

// MarshalJSON returns what the model reads of the file.
func (f File) MarshalJSON() ([]byte, error) {
	return json.Marshal(struct {
		Name  string `json:"name,omitempty"`
		Type  string `json:"type"`
		Bytes int    `json:"bytes"`
		Note  string `json:"note"`
	}{f.Name, f.Type, len(f.Data), "The user gets this file with the answer."})
}

// maxFiles bounds the files of one output.
const maxFiles = 8

// A Files collects the files in the outputs of tools. It is safe for concurrent use.
type Files struct {
	mu    sync.Mutex
	left  int // bytes
	files []File
}

// NewFiles returns an empty collection that takes files of at most limit bytes in all.
func NewFiles(limit int) *Files { return &Files{left: limit} }

// Take returns the files collected since the last Take.
func (f *Files) Take() []File {
	f.mu.Lock()
	defer f.mu.Unlock()
	files := f.files
	f.files = nil
	return files
}

// put adds files. The error is for the model.
func (f *Files) put(files []File) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	size := 0
	for _, file := range files {
		size += len(file.Data)
		if len(file.Data) == 0 || file.Type == "" || len(file.Name) > 255 {
			return fmt.Errorf("the file %.40q has no content, no type or too long a name", file.Name)
		}
	}
	if size > f.left {
		return fmt.Errorf("the files have %d bytes, more than the %d that this turn has left: ask for less", size, f.left)
	}
	f.left -= size
	f.files = append(f.files, files...)
	return nil
}

type filesKey struct{}

// WithFiles returns a context in which the files of tools' outputs are collected in
// files. Who runs tools sets it, not their authors.
func WithFiles(ctx context.Context, files *Files) context.Context {
	return context.WithValue(ctx, filesKey{}, files)
}

// collect moves the files of an output to the context's collection.
func collect(ctx context.Context, out any) error {
	collection, ok := ctx.Value(filesKey{}).(*Files)
	if !ok {
		return nil
	}
	found := filesIn(reflect.ValueOf(out), maxFileDepth)
	if len(found) == 0 {
		return nil
	}
	if len(found) > maxFiles {
		return fmt.Errorf("the output has %d files, more than the %d allowed", len(found), maxFiles)
	}
	return collection.put(found)
}

var fileType = reflect.TypeFor[File]()

// maxFileDepth bounds the levels of lists, maps and structs in which files are looked for.
const maxFileDepth = 32

// filesIn returns the files in v, which was encoded and so has no cycle; of more than
// maxFiles, no more than show that there are too many. What the model reads of each file
// promises it to the user, so none may be passed over.
func filesIn(v reflect.Value, levels int) (found []File) {
	for v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
		v = v.Elem()
	}
	in := func(element reflect.Value) {
		if len(found) <= maxFiles {
			found = append(found, filesIn(element, levels-1)...)
		}
	}
	switch {
	case !v.IsValid():
	case v.Type() == fileType && v.CanInterface():
		found = append(found, v.Interface().(File))
	case levels == 0:
	case (v.Kind() == reflect.Slice || v.Kind() == reflect.Array) && holdsFiles(v.Type().Elem()):
		for i := range v.Len() {
			in(v.Index(i))
		}
	case v.Kind() == reflect.Map && holdsFiles(v.Type().Elem()):
		keys := v.MapKeys()
		slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
		for _, key := range keys {
			in(v.MapIndex(key))
		}
	case v.Kind() == reflect.Struct:
		for field, value := range v.Fields() {
			if (field.IsExported() || field.Anonymous) && holdsFiles(field.Type) { // as encoding/json sees them
				in(value)
			}
		}
	}
	return found
}

// holdsFiles reports whether a value of t may hold files: most are text and numbers, and
// are passed over.
func holdsFiles(t reflect.Type) bool {
	for range maxFileDepth { // a type may be a list of itself
		switch t.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
			t = t.Elem()
		default:
			return t.Kind() == reflect.Struct || t.Kind() == reflect.Interface
		}
	}
	return false
}
