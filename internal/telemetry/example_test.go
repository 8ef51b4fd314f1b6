package telemetry_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	"example.com/gatehouse/internal/telemetry"
)

// A request is observed from outside to inside, and flushed when its answer has
// gone.
func Example() {
	settings, err := telemetry.Parse(func(string) (string, bool) { return "", false })
	if err != nil {
		fmt.Println(err)
		return
	}
	o, err := telemetry.New(settings, telemetry.Config{
		Service: "gatehouse", Project: "my-project",
		Routes: []string{"POST /invoke"}, Models: []string{"gemini-2.5-flash"}, Provider: "gcp.gemini",
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	handler := func(w http.ResponseWriter, r *http.Request) {
		ctx, request := o.StartRequest(r, true)
		_, model := o.StartModel(ctx, "gemini-2.5-flash")
		model.Usage("gemini-2.5-flash-001", 412, 133)
		model.End(ctx, "")
		if trace, ok := o.Trace(ctx); ok {
			fmt.Println("logged with", trace.Name)
		}
		request.End(ctx, "POST /invoke", http.StatusOK, "")
		o.Flush(context.WithoutCancel(ctx))
	}
	r := httptest.NewRequest(http.MethodPost, "/invoke", nil)
	r.Header.Set("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	handler(httptest.NewRecorder(), r)
	fmt.Println(o.Shutdown(context.Background()))
	// Output:
	// logged with projects/my-project/traces/0af7651916cd43dd8448eb211c80319c
	// <nil>
}
