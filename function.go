// Package gatehouse is what is deployed: two Cloud Run functions, "invoke" and
// "health", registered with the functions framework. Google's buildpack imports
// this package for that and makes the program around it.
package gatehouse

import (
	"net/http"
	"os"
	"sync"

	"github.com/GoogleCloudPlatform/functions-framework-go/functions"

	"example.com/gatehouse/internal/service"
)

// build makes the service at the first request: importing the package, as
// tools and tests do, costs nothing.
var build = sync.OnceValue(func() *service.Service {
	return service.New(os.LookupEnv, os.Stdout)
})

func init() {
	functions.HTTP("invoke", func(w http.ResponseWriter, r *http.Request) { build().Invoke.ServeHTTP(w, r) })
	functions.HTTP("health", func(w http.ResponseWriter, r *http.Request) { build().Health.ServeHTTP(w, r) })
}
