package audit_test

import (
	"context"
	"fmt"
	"os"
	"time"

	"example.com/gatehouse/internal/gcp/audit"
)

func ExampleLog_Write() {
	ctx := context.Background()
	// Without a project the entries are printed, as they are when the API fails.
	log, err := audit.New(ctx, "", "agent-audit", "", os.Stdout)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer log.Close()
	log.Write(ctx, audit.Entry{
		ID: "e-1", Time: time.Date(2026, 11, 3, 10, 20, 30, 0, time.UTC),
		Action: "session.delete", Outcome: audit.OK, Principal: "9f86d081", Status: 204,
	})
	// Output:
	// {"action":"session.delete","audit":true,"logging.googleapis.com/insertId":"e-1","logging.googleapis.com/labels":{"action":"session.delete","outcome":"ok"},"message":"session.delete ok","outcome":"ok","principal":"9f86d081","severity":"NOTICE","status":204,"time":"2026-11-03T10:20:30Z"}
}
