package egress

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"syscall"
)

// A RequestError is how a request failed without a response, in words that hold neither the
// URL nor anything that the server has sent: it may be logged.
type RequestError struct {
	reason string
	err    error
}

func (e *RequestError) Error() string { return e.reason }

// Unwrap returns the error as it came, for [errors.Is] and [errors.As]: its text may quote the
// server.
func (e *RequestError) Unwrap() error { return e.err }

// Reason returns err, of [http.Client.Do], as a [RequestError].
//
// The words are chosen by type, since the texts of net/http and crypto quote what was received:
// a line that is not HTTP, or the names in a certificate.
func Reason(err error) error { return &RequestError{reason(err), err} }

func reason(err error) string {
	if refused, ok := errors.AsType[*AddressError](err); ok {
		return refused.Error()
	}
	if _, ok := errors.AsType[*net.DNSError](err); ok {
		return "its name cannot be resolved"
	}
	if isTLS(err) {
		return "TLS failed"
	}
	if isCertificate(err) {
		return "its certificate is not trusted"
	}
	failed, isNet := errors.AsType[net.Error](err)
	operation, isOperation := errors.AsType[*net.OpError](err)
	switch {
	case errors.Is(err, context.Canceled):
		return "the request was canceled"
	case errors.Is(err, context.DeadlineExceeded), isNet && failed.Timeout():
		return "it timed out"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "it refused the connection"
	case isOperation && operation.Op == "dial":
		return "it cannot be connected to"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), isOperation:
		return "the connection was lost"
	}
	return "its response is not valid"
}

func isCertificate(err error) bool {
	_, verification := errors.AsType[*tls.CertificateVerificationError](err)
	_, authority := errors.AsType[x509.UnknownAuthorityError](err)
	_, host := errors.AsType[x509.HostnameError](err)
	_, invalid := errors.AsType[x509.CertificateInvalidError](err)
	return verification || authority || host || invalid
}

// isTLS reports whether there was no handshake. An alert of either side is a net.OpError whose
// operation package crypto/tls names so.
func isTLS(err error) bool {
	_, record := errors.AsType[tls.RecordHeaderError](err)
	operation, ok := errors.AsType[*net.OpError](err)
	alert := ok && (operation.Op == "remote error" || operation.Op == "local error")
	return record || alert || errors.Is(err, http.ErrSchemeMismatch)
}
