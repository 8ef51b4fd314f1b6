package model

import (
	"crypto/tls"
	"crypto/x509"
	"net/http"
	"time"
)

// PingedWithin is how long a connection that died silently lives on.
const PingedWithin = pingAfter + pingTimeout

// NewTransport returns the transport that calls usually take, for a server with
// another certificate, which pings sooner.
func NewTransport(roots *x509.CertPool, ping time.Duration) *http.Transport {
	t := newTransport()
	t.TLSClientConfig = &tls.Config{RootCAs: roots}
	t.HTTP2.SendPingTimeout, t.HTTP2.PingTimeout = ping/2, ping/2
	return t
}
