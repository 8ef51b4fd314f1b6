package cloud

import (
	"testing"
	"time"
)

func TestThePriceListIsComplete(t *testing.T) {
	t.Parallel()
	l := Prices()
	if _, err := time.Parse(time.DateOnly, l.Date); err != nil || l.Source == "" || l.Unit == "" {
		t.Errorf("date %q (%v), source %q, unit %q", l.Date, err, l.Source, l.Unit)
	}
	if len(l.Prices) == 0 {
		t.Fatal("no prices")
	}
	for name, item := range l.Prices {
		if item.USD <= 0 || item.Free < 0 || item.Of == "" {
			t.Errorf("%s: %+v", name, item)
		}
	}
}
