package main

import (
	"fmt"
	"strings"
	"testing"
)

// TestDoors builds and starts the programs once each.
func TestDoors(t *testing.T) {
	if testing.Short() {
		t.Skip("builds the service five times")
	}
	var out strings.Builder
	if err := writeDoors(t.TempDir(), 1, &out); err != nil {
		t.Fatal(err)
	}
	rows := strings.Split(strings.TrimSpace(out.String()), "\n")[2:]
	if len(rows) != 5 {
		t.Fatalf("%d rows:\n%s", len(rows), &out)
	}
	figures := make([][4]float64, len(rows))
	for i, row := range rows {
		f := &figures[i]
		if _, err := fmt.Sscanf(row[strings.Index(row, " | "):], " | %f | %f | %f | %f |", &f[0], &f[1], &f[2], &f[3]); err != nil || f[1] == 0 || f[2] == 0 || f[3] == 0 {
			t.Errorf("not measured: %s: %v", row, err)
		}
	}
	none, all := figures[0], figures[4]
	if !strings.HasPrefix(rows[0], "| none |") || none[0] != 0 || !strings.HasPrefix(rows[4], "| all |") || all[0] != figures[1][0]+figures[2][0]+figures[3][0] || all[1] <= none[1] {
		t.Errorf("not the doors' weights:\n%s", &out)
	}
}
