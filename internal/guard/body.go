package guard

import (
	"io"
	"net/http"
)

// A gatedBody is the body of a request that has no place yet. Its end comes only
// with one: who cannot have it reads that as an error of the body, before
// anything is done with what was sent.
type gatedBody struct {
	io.ReadCloser
	admit func() error
	err   error
	bytes int64 // read
}

func (b *gatedBody) Read(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.ReadCloser.Read(p)
	b.bytes += int64(n)
	if err == io.EOF {
		if refused := b.admit(); refused != nil {
			err = refused
		}
	}
	b.err = err
	return n, err
}

// readsBody reports whether the handler of r reads its body, and so has to wait for
// the client.
func readsBody(r *http.Request) bool {
	hasBody := r.Body != nil && r.Body != http.NoBody && r.ContentLength != 0
	return hasBody && (r.Method == http.MethodPost || r.Method == http.MethodPut)
}
