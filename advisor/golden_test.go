package advisor

import (
	"flag"
	"testing"

	"example.com/gatehouse/agenttest"
)

var update = flag.Bool("update", false, "write the golden conversations")

func TestConversations(t *testing.T) {
	agenttest.Golden(t, New, "testdata/*.yaml", *update)
}
