package adk_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"example.com/gatehouse/internal/gcp/emulator"
	"example.com/gatehouse/internal/slowtest"
)

func TestMain(m *testing.M) { os.Exit(emulator.Main(m)) }

// bars are the tests of the gate that hold for the example as they are: of sessions, limits,
// keys, model calls and tool rounds.
var bars = []string{
	"Sessions", "UnknownSessions", "Paging", "EndUsers", "AfterTurn", "TwoCallsAtOnce", "DeletedWhileATurnRuns", "History", "HistoryIsCut",
	"SessionsOutliveTheProcess", "OwnersAreApart", "Credentials",
	"RateLimits", "RateLimitAcrossInstances", "DailyBudget", "PermitsAreSpentByModelCalls", "BudgetsAreChargedWhatWasSpent",
	"RetriesReplay", "ReplaysKeepWarnings", "KeyInProgress", "OneKeyAtOnce", "FailedCallsReleaseTheirKey", "ClientGoneReleasesItsKey",
	"RetriesWhileAKeyIsGivenBack", "RefusedCallsDoNotTakeTheKey", "KeyValues", "KeyScope", "KeysInASession", "KeysAndAfterTurnAtTheCommit",
	"OldTurnsReplay", "DeletedSessionsOfKeys", "ClaimsAreNoSessions", "KilledCallsAreTakenOver", "StoppedCallsAreTakenOver",
	"Endings", "UpstreamErrors", "StreamsThatBreakOff", "Stream", "ToolRound", "ToolRoundsEnd", "ToolDeclarations", "SettingsTravelWithTheRequest",
	"OutputLimit", "Usage", "Timeout", "ClientGoes", "Breaker", "FallbackModel", "OneLineARequest",
}

func TestTheGatesBars(t *testing.T) {
	slowtest.Skip(t, "the gate's own tests on the example")
	program := filepath.Join(t.TempDir(), "local")
	if output, err := exec.CommandContext(t.Context(), "go", "build", "-o", program, "./example/local").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, output)
	}
	test := exec.CommandContext(t.Context(), "go", "test", "-count=1", "-v", "-timeout", "12m", "-run", "^Test("+strings.Join(bars, "|")+")$", "./internal/e2e")
	test.Dir = ".."
	test.Env = append(os.Environ(), "LOCAL_PROGRAM="+program)
	output, err := test.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, output[max(0, len(output)-64<<10):])
	}
	for _, bar := range bars {
		if !bytes.Contains(output, []byte("\n--- PASS: Test"+bar+" ")) {
			t.Errorf("Test%s has not passed: is it there?", bar)
		}
	}
}
