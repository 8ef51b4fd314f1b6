// Command main is a caller's way through the service, by a client that is generated from the
// document.
package main

import (
	"context"
	"fmt"
	"log"
	"os"
)

func main() {
	if err := call(context.Background(), os.Args[1]); err != nil {
		log.Fatal(err)
	}
}

func call(ctx context.Context, url string) error {
	client, err := NewClientWithResponses(url)
	if err != nil {
		return err
	}
	first, err := client.InvokeWithResponse(ctx, &InvokeParams{}, Request{Query: "My name is Ada."})
	if err != nil {
		return err
	}
	if first.JSON200 == nil {
		return fmt.Errorf("no turn: %s %s", first.Status(), first.Body)
	}
	turn := first.JSON200.Data
	second, err := client.InvokeWithResponse(ctx, &InvokeParams{}, Request{Query: "What is my name?", SessionId: &turn.SessionId, AfterTurn: &turn.Turn})
	if err != nil {
		return err
	}
	if second.JSON200 == nil || second.JSON200.Data.Turn != 2 {
		return fmt.Errorf("no second turn: %s %s", second.Status(), second.Body)
	}
	history, err := client.GetSessionWithResponse(ctx, turn.SessionId, &GetSessionParams{})
	if err != nil {
		return err
	}
	if history.JSON200 == nil || len(history.JSON200.Data.Turns) != 2 {
		return fmt.Errorf("no history: %s %s", history.Status(), history.Body)
	}

	// Errors of all operations are of one type.
	refused, err := client.InvokeWithResponse(ctx, &InvokeParams{}, Request{Query: " "})
	if err != nil {
		return err
	}
	missing, err := client.GetRunWithResponse(ctx, "uCkrQTfRvAJsMuKKzijcpQ.none", &GetRunParams{})
	if err != nil {
		return err
	}
	for want, failed := range map[Code]*Error{ValidationFailed: refused.JSONDefault, NotFound: missing.JSONDefault} {
		if failed == nil || failed.Error != want || failed.Message == "" {
			return fmt.Errorf("%s is %+v", want, failed)
		}
	}
	return nil
}
