package api

import (
	"net/http"
	"time"
)

// writeTimeout bounds one write to a client that does not read.
const writeTimeout = 10 * time.Second

// BoundWrite sets the deadline of the next write of a response, where its ResponseWriter
// supports one. Called before each write, it bounds the time in which the client reads
// nothing, and not the length of a stream. The clock is the connection's, not the service's.
// net/http lifts the deadline when the handler has returned, so it does not reach the
// connection's next request.
func BoundWrite(c *http.ResponseController) { _ = c.SetWriteDeadline(time.Now().Add(writeTimeout)) }
