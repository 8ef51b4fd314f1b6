package agenttest

import "net/http"

// A Decision is a person's on the calls that an answer waits for. The zero Decision
// approves them.
type Decision struct {
	Deny   bool
	Reason string
	Header http.Header // such as X-End-User
}

// Approve decides on all calls that an answer waits for, and returns the rest of the
// run's answer, whose Events have only what is new. The test fails if it does not wait.
func (s *Service) Approve(waiting Answer, d Decision) Answer {
	s.t.Helper()
	run, _ := waiting.Data["run_id"].(string)
	pending, _ := waiting.Data["pending"].([]any)
	if len(pending) == 0 {
		s.t.Fatal("agenttest: the answer waits for nothing")
	}
	var rest Answer
	for _, each := range pending {
		call, _ := each.(map[string]any)
		id, _ := call["call_id"].(string)
		got, err := s.trial.Approve(s.t.Context(), run, id, !d.Deny, d.Reason, d.Header)
		if err != nil {
			s.t.Fatalf("agenttest: %v", err)
		}
		rest = newAnswer(got)
	}
	return rest
}
