package explore_test

import (
	"strings"
	"testing"
)

// found are orders of steps in which something was violated once. A script that is no
// longer followed to its end is to be written again, from what the test prints.
var found = []struct {
	scenario
	script string
}{
	{
		scenario{name: "a holder that does not hear of its own commit does not undo it", question: pay, keyed: true, visits: []visit{{asks, 0}, {retries, 1}}, faults: 2, waits: 1}, `
		2 retries begins
		2 retries claims the key
		2 retries hears the model
		2 retries binds the key and the record
		2 retries loads the record
		2 retries pay
		2 retries hears the model
		2 retries stores the turn and the record, but the reply is lost
		6s pass
		1 asks begins`,
	},
	{
		scenario{name: "a run whose session was deleted does not make it again", question: pay, existing: true, visits: []visit{{asks, 0}, {deletes, 1}}}, `
		1 asks begins
		1 asks loads the session
		2 deletes begins
		2 deletes loads the session
		2 deletes deletes the session
		1 asks hears the model`,
	},
	{
		scenario{name: "a run goes on after another turn came", question: send, keyed: true, visits: []visit{{asks, 0}, {writes, 0}, {denies, 1}}, waits: 1}, `
		1 asks begins
		1 asks claims the key
		1 asks hears the model
		1 asks stores the turn and the record
		3 denies begins
		2 writes begins
		2 writes loads the session
		3 denies loads the record
		3 denies loads the session
		3 denies writes the record
		6s pass
		2 writes hears the model`,
	},
	{
		scenario{name: "a holder that stood still does not take another's record for its own", question: pay, keyed: true, visits: []visit{{asks, 0}, {watches, 1}}, faults: 1}, `
		1 asks begins
		1 asks claims the key
		1 asks hears the model
		1 asks binds the key and the record
		A is frozen for 6s
		2 watches begins
		2 watches loads the record
		2 watches loads the owner's mark
		2 watches writes the record
		2 watches loads the session
		2 watches asks how it ended
		2 watches pay
		1 asks loads the record`,
	},
	{
		scenario{name: "what a dead holder has shown beyond its record is void", question: talk, streamed: true, visits: []visit{{asks, 0}, {watches, 0}, {resumes, 1}}, faults: 1, waits: 1}, `
		1 asks begins
		2 watches begins
		1.1s pass
		1 asks writes the record
		1 asks hears the model
		A dies
		3 resumes begins`,
	},
	{
		scenario{name: "a commit does not take another holder's turn for its own", question: fire, visits: []visit{{asks, 0}, {watches, 1}}, faults: 2}, `
		1 asks begins
		1 asks hears the model
		1 asks writes the record
		1 asks fire
		1 asks hears the model
		2 watches begins
		2 watches loads the record
		1 asks stores the turn and the record fails
		1 asks loads the record
		A is frozen for 6s
		mirror loads the record
		2 watches loads the record
		2 watches loads the owner's mark
		2 watches writes the record
		2 watches loads the session
		2 watches stores the turn and the record
		1 asks loads the session`,
	},
	{
		scenario{name: "what a holder that was stopped elsewhere has shown is void", question: send, visits: []visit{{asks, 0}, {stops, 1}, {resumes, 0}, {denies, 0}}, faults: 3}, `
		1 asks begins
		1 asks hears the model
		1 asks stores the turn and the record
		4 denies begins
		4 denies loads the record
		4 denies loads the session
		4 denies writes the record
		A is frozen for 6s
		4 denies loads the session
		4 denies hears the model fails
		3 resumes begins
		2 stops begins
		2 stops loads the record
		2 stops writes the record (working)
		2 stops loads the session
		2 stops writes the record (stopped)
		4 denies hears the model
		4 denies stores the turn and the record
		4 denies loads the record
		4 denies loads the record
		4 denies loads the session fails`,
	},
	{
		scenario{name: "of two deliveries, the one that fails does not end the other", question: pay, queued: true, leaves: true, visits: []visit{{asks, 0}}, faults: 6, waits: 2}, `
		1 asks begins
		1 asks lists runs
		1 asks writes the record
		1 asks adds a task (run)
		task 01 is delivered
		task 01 again is delivered
		task 01 loads the record
		task 01 again loads the record
		task 01 again loads the session
		task 01 again hears the model
		task 01 loads the session
		task 01 again writes the record
		task 01 hears the model fails
		1.1s pass
		task 01 writes the record fails
		task 01 hears the model fails
		1.1s pass
		task 01 writes the record fails
		task 01 hears the model fails
		task 01 writes the record (failed)
		task 01 loads the record
		task 01 again pay`,
	},
	{
		scenario{name: "who saw a run begin to wait comes back after its end", question: send, streamed: true, keyed: true, visits: []visit{{asks, 0}, {approves, 0}}}, `
		1 asks begins
		1 asks claims the key
		1 asks hears the model
		1 asks stores the turn and the record
		2 approves begins
		2 approves stores the turn and the record`,
	},
	{
		scenario{name: "an edit does not replace a turn that has had an effect since", question: send, keyed: true, visits: []visit{{asks, 0}, {edits, 0}, {approves, 0}}}, `
		1 asks begins
		1 asks claims the key
		1 asks hears the model
		1 asks stores the turn and the record
		2 edits begins
		2 edits loads the session
		2 edits lists runs
		2 edits hears the model
		3 approves begins
		3 approves loads the record
		3 approves loads the session
		2 edits loads the record
		3 approves writes the record
		2 edits stores the turn and denies
		3 approves stores the turn and the record
		2 edits loads the session`,
	},
	{
		scenario{name: "a key is not released because the queue was first", question: pay, keyed: true, existing: true, queued: true, leaves: true, visits: []visit{{asks, 0}, {retries, 1}}, faults: 1}, `
		1 asks begins
		1 asks loads the session
		1 asks claims the key
		1 asks lists runs
		1 asks binds the key and the record
		2 retries begins
		2 retries loads the session
		2 retries loads the record
		2 retries adds a task (run)
		A is frozen for 6s
		task 01 is delivered
		task 01 loads the record
		task 01 loads the owner's mark
		task 01 writes the record
		1 asks loads the record`,
	},
	{
		scenario{name: "who watches a run that two deliveries have begun is shown what is stored", question: talk, queued: true, leaves: true, visits: []visit{{asks, 0}, {watches, 1}}, faults: 1}, `
		1 asks begins
		1 asks lists runs
		1 asks writes the record
		1 asks adds a task (run)
		task 01 is delivered
		task 01 again is delivered
		task 01 loads the record
		task 01 again loads the record
		task 01 loads the session
		task 01 hears the model
		task 01 again loads the session
		task 01 again hears the model
		task 01 again hears the model
		2 watches begins
		task 01 hears the model
		task 01 stores the turn and the record
		task 01 again stores the turn and the record`,
	},
	{
		scenario{name: "a denial is not taken for stored because an edit has replaced what waited", question: send, queued: true, recovers: 2, visits: []visit{{asks, 0}, {denies, 1}, {edits, 0}}}, `
		1 asks begins
		1 asks hears the model
		1 asks stores the turn and the record
		3 edits begins
		3 edits loads the session
		3 edits lists runs
		2 denies begins
		2 denies loads the record
		2 denies loads the session
		2 denies writes the record
		2 denies adds a task (run)
		task 01 is delivered
		task 01 loads the record
		task 01 writes the record
		task 01 loads the session
		3 edits hears the model
		3 edits loads the record
		3 edits stores the turn
		task 01 hears the model
		task 01 stores the turn and the record
		task 01 stores the turn and the record`,
	},
	{
		scenario{name: "a turn that follows an edit is stored once", question: talk, existing: true, visits: []visit{{asks, 1}, {edits, 0}, {writes, 1}}, faults: 1}, `
		1 asks begins
		1 asks loads the session
		1 asks hears the model
		1 asks stores the turn
		2 edits begins
		2 edits loads the session
		2 edits lists runs
		3 writes begins
		3 writes loads the session
		2 edits hears the model
		2 edits stores the turn in the place of others
		3 writes hears the model
		3 writes stores the turn
		3 writes loads the session
		3 writes stores the turn, but the reply is lost
		3 writes loads the session`,
	},
	{
		scenario{name: "a run that is stopped again after its holder failed shows a call once", question: pay, keyed: true, visits: []visit{{asks, 1}, {stops, 1}, {resumes, 0}, {stops, 0}}, waits: 3, recovers: 1}, `
		1 asks begins
		1 asks claims the key
		1 asks hears the model
		1 asks binds the key and the record
		1 asks loads the record
		2 stops begins
		1 asks pay, which was given up
		6s pass
		6s pass
		3 resumes begins
		4 stops begins
		1 asks writes the record (working)
		4 stops loads the record
		4 stops writes the record (working)
		1 asks stores the turn and the record, which was given up
		4 stops loads the session
		3 resumes loads the record
		6s pass
		4 stops stores the turn and the record`,
	},
	{
		scenario{name: "a stop after a deletion does not bring the run back", question: talk, queued: true, leaves: true, visits: []visit{{asks, 0}, {clears, 1}, {stops, 0}}, waits: 1}, `
		1 asks begins
		1 asks lists runs
		1 asks writes the record
		1 asks adds a task (run)
		task 01 is delivered
		task 01 loads the record
		task 01 loads the session
		2 clears begins
		2 clears deletes all
		3 stops begins
		3 stops loads the record
		1.1s pass
		task 01 writes the record`,
	},
	{
		scenario{name: "a write that was given up does not bring a deleted run back", question: fire, streamed: true, visits: []visit{{asks, 1}, {clears, 0}, {watches, 0}}, waits: 2}, `
		1 asks begins
		1.1s pass
		1 asks hears the model
		6s pass
		1 asks writes the record
		1 asks fire
		2 clears begins
		2 clears deletes all
		1 asks writes the record, which was given up
		3 watches begins
		3 watches loads the record
		3 watches loads the session`,
	},
	{
		scenario{name: "a record that comes after everything was deleted is nobody's", question: talk, streamed: true, visits: []visit{{asks, 0}, {clears, 1}, {watches, 1}}, faults: 1, waits: 3}, `
		1 asks begins
		1.1s pass
		6s pass
		2 clears begins
		2 clears deletes all
		1 asks writes the record, which was given up
		A dies
		6s pass
		3 watches begins
		3 watches loads the record
		3 watches loads the owner's mark
		3 watches loads the session`,
	},
	{
		scenario{name: "a webhook is told of a stop whose reply was lost", question: send, queued: true, leaves: true, recovers: 2, visits: []visit{{asks, 0}, {stops, 1}}, faults: 1}, `
		1 asks begins
		1 asks lists runs
		1 asks writes the record
		1 asks adds a task (run)
		task 01 is delivered
		task 01 loads the record
		task 01 loads the session
		task 01 hears the model
		task 01 stores the turn and the record
		task 01 adds a task (webhook)
		2 stops begins
		2 stops loads the record
		2 stops writes the record (stopped), and the process dies`,
	},
	{
		scenario{name: "a watcher that found no record shows what a waiting run has come to", question: send, streamed: true, visits: []visit{{asks, 1}, {approves, 1}, {denies, 1}, {edits, 1}, {watches, 0}}, faults: 1, waits: 1}, `
		1 asks begins
		5 watches begins
		5 watches loads the record
		1 asks hears the model
		1 asks stores the turn and the record
		3 denies begins
		1.1s pass
		2 approves begins
		4 edits begins
		3 denies loads the record
		5 watches loads the session
		4 edits loads the session
		4 edits lists runs fails
		3 denies loads the session
		3 denies writes the record
		2 approves loads the record
		3 denies loads the session
		3 denies hears the model
		3 denies stores the turn and the record`,
	},
	{
		scenario{name: "a retry reads the turn that took the place of one that waits", question: send, keyed: true, streamed: true, visits: []visit{{asks, 1}, {approves, 1}, {retries, 0}}, waits: 5, recovers: 2}, `
		1.1s pass
		1.1s pass
		3 retries begins
		3 retries claims the key
		1.1s pass
		3 retries hears the model
		3 retries stores the turn and the record
		2 approves begins
		1.1s pass
		1 asks begins
		1 asks claims the key
		2 approves loads the record
		2 approves loads the session
		2 approves writes the record
		2 approves loads the session
		2 approves writes the record
		2 approves send
		2 approves hears the model
		1.1s pass
		1 asks loads the session
		2 approves stores the turn and the record
		1 asks loads the record`,
	},
	{
		scenario{name: "a retry that takes a run over meets its stop", question: talk, keyed: true, streamed: true, visits: []visit{{asks, 1}, {stops, 1}, {edits, 0}, {watches, 1}}, faults: 3, waits: 2, recovers: 2}, `
		1 asks begins
		1 asks claims the key
		6s pass
		1 asks hears the model
		6s pass
		1 asks hears the model
		1 asks binds the key and the record, which was given up
		4 watches begins
		1 asks binds the key and the record, which was given up
		1 asks binds the key and the record
		1 asks loads the record
		1 asks loads the record
		1 asks writes the record
		1 asks stores the turn and the record, and the process dies
		2 stops begins
		2 stops loads the record
		2 stops writes the record (working), but the reply is lost`,
	},
	{
		scenario{name: "a watcher with an old record follows a run that goes on after another question", question: send, keyed: true, streamed: true, visits: []visit{{asks, 0}, {watches, 0}, {denies, 1}, {writes, 1}}, waits: 5, recovers: 2}, `
		6s pass
		1 asks begins
		1 asks claims the key
		1 asks hears the model
		1 asks stores the turn and the record
		2 watches begins
		4 writes begins
		3 denies begins
		4 writes loads the session
		1.1s pass
		1.1s pass
		3 denies loads the record
		4 writes hears the model
		2 watches loads the record
		3 denies loads the session
		3 denies writes the record
		4 writes loads the record
		4 writes stores the turn
		2 watches loads the session
		1.1s pass
		3 denies loads the session
		3 denies hears the model
		1.1s pass
		3 denies stores the turn and the record`,
	},
	{
		scenario{name: "what took the place of a turn that waited is not the end of its run", question: send, keyed: true, streamed: true, queued: true, leaves: true, visits: []visit{{asks, 0}, {edits, 1}}, faults: 2}, `
		1 asks begins
		1 asks claims the key
		1 asks lists runs
		1 asks binds the key and the record
		1 asks loads the record
		1 asks adds a task (run)
		task 01 again is delivered
		task 01 is delivered
		task 01 loads the record
		task 01 again loads the record
		task 01 loads the session
		task 01 hears the model
		task 01 again loads the session
		task 01 stores the turn and the record
		task 01 adds a task (webhook)
		task 02 again is delivered
		task 02 again loads the record
		task 02 is delivered
		task 01 again hears the model
		task 02 again loads the session
		2 edits begins
		2 edits loads the session
		task 02 again tells the webhook
		task 01 adds a task (expire)
		2 edits loads the record
		task 01 again stores the turn and the record
		task 02 loads the record
		task 02 loads the session
		task 02 tells the webhook
		2 edits writes the record (stopped)
		2 edits adds a task (webhook)
		2 edits writes the record (stopped)
		2 edits loads the record
		task 04 is delivered
		2 edits loads the session
		task 04 loads the record
		2 edits reads turns
		2 edits loads the session
		2 edits hears the model
		2 edits loads the record
		task 04 loads the session
		2 edits stores the turn
		task 04 reads turns
		task 01 again loads the record
		task 01 again loads the session
		task 01 again adds a task (webhook)`,
	},
	{
		scenario{name: "of two deliveries, one does not end what the other has left", question: fire, keyed: true, queued: true, leaves: true, visits: []visit{{asks, 1}, {edits, 0}}, faults: 2, waits: 2, recovers: 1}, `
		1 asks begins
		1 asks claims the key
		1 asks lists runs
		B is frozen for 6s
		1 asks binds the key and the record
		1 asks loads the record
		1 asks adds a task (run)
		task 01 again is delivered
		task 01 again loads the record
		task 01 is delivered
		task 01 loads the record
		task 01 loads the session
		task 01 again loads the session
		task 01 again hears the model
		task 01 hears the model
		task 01 again writes the record
		task 01 again fire
		task 01 again hears the model
		6s pass
		task 01 writes the record, which was given up
		task 01 writes the record
		6s pass
		task 01 again writes the record, which was given up
		task 01 again stores the turn and the record, which was given up
		task 01 again loads the record
		task 01 writes the record (failed)
		task 01 loads the record
		task 01 again adds a task (run)`,
	},
	{
		scenario{name: "a run that was denied does not wait again", question: send, streamed: true, queued: true, leaves: true, visits: []visit{{asks, 0}, {edits, 0}}, faults: 3, waits: 1, recovers: 1}, `
		1 asks begins
		1 asks lists runs
		1.1s pass
		1 asks writes the record
		1 asks adds a task (run)
		task 01 again is delivered
		task 01 is delivered
		task 01 again loads the record
		task 01 loads the record
		task 01 loads the session
		task 01 again loads the session
		task 01 hears the model
		task 01 again hears the model
		task 01 stores the turn and the record
		task 01 again stores the turn and the record
		2 edits begins
		task 01 adds a task (webhook)
		task 02 again is delivered
		task 02 again loads the record
		task 01 adds a task (expire)
		2 edits loads the session
		2 edits lists runs
		2 edits hears the model
		2 edits loads the record
		task 02 is delivered
		2 edits stores the turn and denies
		task 02 loads the record
		task 02 again loads the session
		A dies
		task 01 again loads the record
		task 01 again loads the record
		task 01 again adds a task (webhook)`,
	},
	{
		scenario{name: "a delivery does not store a turn that another one has stored", question: send, keyed: true, streamed: true, queued: true, leaves: true, visits: []visit{{asks, 0}, {writes, 0}, {watches, 0}, {writes, 0}, {retries, 0}}, faults: 1}, `
		1 asks begins
		1 asks claims the key
		1 asks lists runs
		1 asks binds the key and the record
		4 writes begins
		4 writes loads the session
		3 watches begins
		1 asks loads the record
		1 asks adds a task (run)
		task 01 again is delivered
		task 01 again loads the record
		5 retries begins
		5 retries claims the key
		3 watches loads the record
		task 01 is delivered
		task 01 loads the record
		task 01 loads the session
		task 01 hears the model
		task 01 stores the turn and the record
		task 01 adds a task (webhook)
		task 02 is delivered
		task 02 loads the record
		task 02 loads the session
		task 02 tells the webhook
		task 01 adds a task (expire)
		2 writes begins
		2 writes loads the session
		2 writes hears the model
		2 writes loads the record
		2 writes stores the turn and denies
		2 writes loads the record
		2 writes adds a task (webhook)
		2 writes writes the record (stopped)
		task 04 is delivered
		task 04 loads the record
		task 04 loads the session
		task 04 reads turns
		task 04 tells the webhook
		task 01 again loads the session
		task 01 again hears the model
		task 01 again stores the turn and the record
		5 retries loads the session
		5 retries loads the record
		5 retries loads the session
		5 retries reads turns
		task 01 again loads the record
		task 01 again loads the session`,
	},
	{
		scenario{name: "a stop outlives two holders", question: talk, streamed: true, visits: []visit{{asks, 0}, {stops, 1}, {watches, 1}, {resumes, 1}}, faults: 2, waits: 3}, `
		1 asks begins
		1.1s pass
		1 asks writes the record
		1 asks hears the model
		2 stops begins
		2 stops loads the record
		2 stops writes the record (working)
		A dies
		6s pass
		3 watches begins
		3 watches loads the record
		3 watches loads the session
		B dies
		6s pass
		4 resumes begins
		4 resumes loads the record`,
	},
	{
		scenario{name: "a stop in the process of its run is not answered before it is stored", question: talk, streamed: true, visits: []visit{{asks, 0}, {stops, 0}, {watches, 1}}, faults: 1, waits: 2}, `
		1 asks begins
		1.1s pass
		1 asks writes the record
		1 asks hears the model
		2 stops begins
		A dies
		6s pass
		3 watches begins
		3 watches loads the record`,
	},
	{
		scenario{name: "a deletion that finds only a stop does not delete the run", question: talk, streamed: true, visits: []visit{{asks, 0}, {stops, 1}, {deletes, 0}}}, `
		1 asks begins
		2 stops begins
		2 stops loads the record
		2 stops loads the session
		2 stops writes the record (stopped)
		3 deletes begins
		3 deletes loads the session
		3 deletes deletes the session
		1 asks hears the model
		1 asks hears the model
		1 asks stores the turn`,
	},
}

func TestFoundOrders(t *testing.T) {
	for _, f := range found {
		t.Run(f.name, func(t *testing.T) {
			var lines []string
			for line := range strings.Lines(strings.TrimSpace(f.script)) {
				lines = append(lines, strings.TrimSpace(line))
			}
			g := &script{lines: lines}
			w := execute(t, f.scenario, g)
			g.follow(w)
			if len(w.wrong) > 0 || len(g.lines) > 0 {
				t.Errorf("%s\n%s\ndid not happen: %q", strings.Join(w.wrong, "\n"), strings.Join(w.trace, "\n"), g.lines)
			}
		})
	}
}
