package limit

import (
	"maps"
	"testing"
	"time"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const minute = 29_539_440 // noon's, since 1970

// The first lease of a minute is a twelfth of the limit; above twenty turns at most half of
// an even part; and the use of the minute before plus a fifth, up to a third of the limit.
func TestTheFirstLeaseOfAMinute(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		limit     int64
		instances int
		before    calls
		step      int64
		batch     int64
	}{
		"a twelfth":                          {600, 10, calls{}, 50, 50},
		"at least a turn":                    {10, 10, calls{}, 10, 10},
		"twenty turns where a part is less":  {3600, 100, calls{}, 200, 200},
		"half of an even part":               {60_000, 10, calls{}, 3000, 3000},
		"half of all, of one instance":       {600_000, 1, calls{}, 50_000, 50_000},
		"as used before, and a fifth":        {600, 10, calls{minute: minute - 1, used: 100}, 50, 120},
		"a fifth is rounded down":            {600, 10, calls{minute: minute - 1, used: 104}, 50, 124},
		"at most a third":                    {600, 10, calls{minute: minute - 1, used: 600}, 50, 200},
		"no less than without use":           {600, 10, calls{minute: minute - 1, used: 10}, 50, 50},
		"the use of two minutes before":      {600, 10, calls{minute: minute - 2, used: 100}, 50, 50},
		"a debt of the minute before counts": {600, 10, calls{minute: minute - 1, used: 150, leased: 50}, 50, 180},
	} {
		s := subject{calls: tt.before}
		s.roll(noon, tt.limit, tt.instances)
		if want := (calls{limit: tt.limit, minute: minute, step: tt.step, batch: tt.batch}); s.calls != want {
			t.Errorf("%s: %+v, want %+v", name, s.calls, want)
		}
	}
	now := calls{limit: 600, minute: minute, used: 70, leased: 100, all: 300, heard: noon, batch: 50, step: 50}
	s := subject{calls: now}
	if s.roll(noon.Add(59*time.Second), 600, 10); s.calls != now {
		t.Errorf("later in the minute: %+v", s.calls)
	}
	changed := now
	changed.limit, changed.heard = 700, time.Time{}
	if s.roll(noon, 700, 10); s.calls != changed {
		t.Errorf("with another limit: %+v", s.calls)
	}
}

func TestWhetherALeaseServesACall(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		calls calls
		cost  int64
		want  outcome
	}{
		"all of the lease":                         {calls{limit: 600, leased: 50, used: 40}, 10, taken},
		"more than the lease":                      {calls{limit: 600, leased: 50, used: 41}, 10, wanting},
		"more than a limit that was lowered":       {calls{limit: 60, leased: 90, used: 60, all: 90}, 1, wanting},
		"the whole limit":                          {calls{limit: 600}, 600, wanting},
		"more than the whole limit":                {calls{limit: 600}, 601, refused},
		"all that is left, as known":               {calls{limit: 600, leased: 50, used: 50, all: 590, heard: noon}, 10, wanting},
		"more than is left, as known":              {calls{limit: 600, leased: 50, used: 50, all: 591, heard: noon}, 10, refused},
		"the lease and more than is left":          {calls{limit: 600, leased: 50, used: 45, all: 595, heard: noon}, 11, refused},
		"more than was left ten seconds ago":       {calls{limit: 600, all: 600, heard: noon.Add(-10 * time.Second)}, 10, wanting},
		"more than was left less than that before": {calls{limit: 600, all: 600, heard: noon.Add(-10*time.Second + 1)}, 10, refused},
	} {
		s := subject{calls: tt.calls}
		used := tt.calls.used
		if tt.want == taken {
			used += tt.cost
		}
		if got := s.takeCalls(tt.cost, noon); got != tt.want || s.calls.used != used {
			t.Errorf("%s: outcome %d, %d used", name, got, s.calls.used)
		}
	}
	fresh, old := noon, noon.Add(-leaseLife)
	for name, tt := range map[string]struct {
		tokens  tokens
		renewed time.Time
		cost    int64
		want    outcome
	}{
		"no limit":                                 {tokens{}, time.Time{}, 1 << 40, taken},
		"all of the lease":                         {tokens{limit: 1000, ceiling: 100, spent: 20, inFlight: 30}, fresh, 50, taken},
		"more than the lease":                      {tokens{limit: 1000, ceiling: 100, spent: 20, inFlight: 30}, fresh, 51, wanting},
		"a lease that is about to expire":          {tokens{limit: 1000, ceiling: 100}, old.Add(1), 50, taken},
		"a lease that has expired":                 {tokens{limit: 1000, ceiling: 100}, old, 50, wanting},
		"more than a limit that was lowered":       {tokens{limit: 60, ceiling: 100, spent: 60}, fresh, 1, wanting},
		"the whole limit":                          {tokens{limit: 1000}, fresh, 1000, wanting},
		"more than the whole limit":                {tokens{limit: 1000}, fresh, 1001, refused},
		"all that is left, as known":               {tokens{limit: 1000, ceiling: 100, spent: 90, inFlight: 10, left: 50, heard: noon}, fresh, 50, wanting},
		"more than is left, as known":              {tokens{limit: 1000, ceiling: 100, spent: 90, inFlight: 10, left: 50, heard: noon}, fresh, 51, refused},
		"more than was left ten seconds ago":       {tokens{limit: 1000, heard: noon.Add(-10 * time.Second)}, fresh, 50, wanting},
		"more than was left less than that before": {tokens{limit: 1000, heard: noon.Add(-10*time.Second + 1)}, fresh, 50, refused},
	} {
		s := subject{tokens: tt.tokens, renewed: tt.renewed}
		inFlight := tt.tokens.inFlight
		if tt.want == taken && tt.tokens.limit > 0 {
			inFlight += tt.cost
		}
		if got := s.takeTokens(tt.cost, noon); got != tt.want || s.tokens.inFlight != inFlight {
			t.Errorf("%s: outcome %d, %d in flight", name, got, s.tokens.inFlight)
		}
	}
}

// While the counters do not answer an instance has its lease and an even part of what was
// left, of a rate in whole turns, rounded up.
func TestTheShareOfAnInstance(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		daily     bool
		calls     calls
		tokens    tokens
		instances int
		most      int64 // of tenths or tokens that are taken
	}{
		"a rate of which nothing is known":           {calls: calls{limit: 600}, instances: 7, most: 90},
		"of one instance":                            {calls: calls{limit: 600}, instances: 1, most: 600},
		"beside what is leased":                      {calls: calls{limit: 600, leased: 50, used: 30, all: 50}, instances: 7, most: 20 + 80},
		"of whole turns that are left":               {calls: calls{limit: 600, all: 581}, instances: 1, most: 10},
		"nothing is left":                            {calls: calls{limit: 600, leased: 50, used: 45, all: 600}, instances: 7, most: 5},
		"more is leased than the limit":              {calls: calls{limit: 600, all: 700}, instances: 7, most: 0},
		"no more than the limit":                     {calls: calls{limit: 600, leased: 590, used: 590}, instances: 7, most: 10},
		"a budget of which nothing is known":         {daily: true, tokens: tokens{limit: 1000}, instances: 3, most: 333},
		"of what was left":                           {daily: true, tokens: tokens{limit: 1000, left: 600, heard: noon}, instances: 3, most: 200},
		"beside the lease, less what is spent":       {daily: true, tokens: tokens{limit: 1000, ceiling: 100, spent: 20, inFlight: 30, left: 600, heard: noon}, instances: 3, most: 250},
		"of a budget that is spent, of one instance": {daily: true, tokens: tokens{limit: 1000, left: -300, heard: noon, ceiling: 10}, instances: 1, most: 10},
		"of a budget that is spent":                  {daily: true, tokens: tokens{limit: 1000, left: -300, heard: noon, ceiling: 10}, instances: 3, most: 10},
	} {
		most := int64(-1)
		for cost := range int64(1001) {
			s := subject{calls: tt.calls, tokens: tt.tokens}
			switch s.takeShare(tt.daily, cost, tt.instances) {
			case taken:
				most = cost
				if s.calls.used+s.tokens.inFlight != tt.calls.used+tt.tokens.inFlight+cost {
					t.Errorf("%s: %d is not counted", name, cost)
				}
			case refused:
				if s.calls != tt.calls || s.tokens != tt.tokens {
					t.Errorf("%s: %d is refused and counted", name, cost)
				}
			case wanting:
				t.Errorf("%s: %d waits", name, cost)
			}
		}
		if most != tt.most {
			t.Errorf("%s: %d, want %d", name, most, tt.most)
		}
	}
}

// What an update asks for, and what may be used while it is under way.
func TestWhatAnUpdateAsksFor(t *testing.T) {
	t.Parallel()
	// Of a million tokens a lease is 1000, and 2500 may be kept.
	const perDay = 1_000_000
	for name, tt := range map[string]struct {
		tokens              tokens
		calls               calls
		ask                 ask
		want, least         int64
		held, more, moreMin int64 // tenths
		ceiling, leased     int64 // afterwards
	}{
		"a report keeps what is held": {
			tokens: tokens{limit: perDay, ceiling: 900, spent: 100, inFlight: 300}, want: 800, least: 300, ceiling: 900},
		"a report of more than may be kept returns the excess": {
			tokens: tokens{limit: perDay, ceiling: 3001, spent: 100, inFlight: 400}, want: 1400, least: 400, ceiling: 1500},
		"as much as may be kept is kept": {
			tokens: tokens{limit: perDay, ceiling: 3000, spent: 100, inFlight: 400}, want: 2900, least: 400, ceiling: 3000},
		"of a small budget one token is kept": {
			tokens: tokens{limit: 500, ceiling: 2}, want: 1, ceiling: 1},
		"a debt holds nothing": {
			tokens: tokens{limit: perDay, ceiling: 100, spent: 150, inFlight: 30}, want: 30, least: 30, ceiling: 100},
		"a call asks for a lease beside what is held": {
			tokens: tokens{limit: perDay, ceiling: 200, spent: 100, inFlight: 50}, ask: ask{tokens: 400}, want: 50 + 50 + 1000, least: 450, ceiling: 200},
		"a call that needs more than a lease": {
			tokens: tokens{limit: perDay, ceiling: 200, spent: 100, inFlight: 50}, ask: ask{tokens: 2000}, want: 50 + 50 + 2000, least: 2050, ceiling: 200},
		"a call that needs more than may be kept": {
			tokens: tokens{limit: perDay, inFlight: 50}, ask: ask{tokens: 5000}, want: 5050, least: 5050},
		"what is held and a lease are no more than may be kept": {
			tokens: tokens{limit: perDay, ceiling: 2400}, ask: ask{tokens: 2450}, want: 2500, least: 2450, ceiling: 2400},
		"calls that wait": {
			tokens: tokens{limit: perDay, waiting: 6000}, ask: ask{tokens: 1000}, want: 6000, least: 1000},
		"calls that wait for another update": {
			tokens: tokens{limit: perDay, ceiling: 100, waiting: 6000}, want: 100, ceiling: 100},
		"a call that will reserve more than is spare": {
			tokens: tokens{limit: perDay, ceiling: 400, spent: 100, inFlight: 200}, ask: ask{calls: 10, expects: 101},
			want: 200 + 100 + 1000, least: 200, more: 50, moreMin: 30, ceiling: 400},
		"a call that will reserve what is spare": {
			tokens: tokens{limit: perDay, ceiling: 400, spent: 100, inFlight: 200}, ask: ask{calls: 10, expects: 100},
			want: 300, least: 200, more: 50, moreMin: 30, ceiling: 400},
		"a call that will reserve more than a lease": {
			tokens: tokens{limit: perDay}, ask: ask{calls: 10, expects: 2500}, want: 2500, more: 50, moreMin: 30},
		"a call that will reserve more than may be kept": {
			tokens: tokens{limit: perDay}, ask: ask{calls: 10, expects: 2501}, want: 0, more: 50, moreMin: 30},
		"the end of a holding": {
			tokens: tokens{limit: perDay, ceiling: 900, spent: 100, inFlight: 300}, calls: calls{limit: 600, leased: 50, used: 30},
			ask: ask{leave: true}, want: 300, least: 300, held: 30, ceiling: 400, leased: 30},
		"a report keeps the calls that are leased": {
			calls: calls{limit: 600, leased: 50, used: 30}, held: 50, leased: 50},
		"a report of calls beyond the lease": {
			calls: calls{limit: 600, leased: 50, used: 70}, held: 70, leased: 50},
		"a call that waits beyond the lease": {
			calls: calls{limit: 600, leased: 50, used: 45}, ask: ask{calls: 10}, held: 50, more: 50, moreMin: 30, leased: 50},
		"a call of a large limit": {
			calls: calls{limit: 2400, leased: 50, used: 50, step: 60, batch: 75}, ask: ask{calls: 10}, held: 50, more: 80, moreMin: 60, leased: 50},
		"a call of a limit that many share": {
			calls: calls{limit: 2400, step: 10, batch: 10}, ask: ask{calls: 10}, more: 10, moreMin: 10},
		"a call that needs more than a batch": {
			calls: calls{limit: 600, leased: 50, used: 50, step: 10, batch: 10}, ask: ask{calls: 91}, held: 50, more: 100, moreMin: 100, leased: 50},
	} {
		s := subject{tokens: tt.tokens, calls: tt.calls, instance: "i", seq: 7, ends: noon.Add(12 * time.Hour), usage: map[string]Spend{"m": {Tokens: 5}}}
		if s.calls.limit == 0 {
			s.calls.limit = 600
		}
		if s.calls.batch == 0 {
			s.calls.step, s.calls.batch = 50, 50
		}
		u := s.compose(noon, tt.ask)
		switch {
		case u.Want != tt.want || u.Least != tt.least:
			t.Errorf("%s: wants %d, at least %d tokens; want %d, %d", name, u.Want, u.Least, tt.want, tt.least)
		case u.Calls != tt.held || u.More != tt.more || u.MoreLeast != tt.moreMin:
			t.Errorf("%s: has %d and wants %d, at least %d tenths; want %d, %d, %d", name, u.Calls, u.More, u.MoreLeast, tt.held, tt.more, tt.moreMin)
		case s.tokens.ceiling != tt.ceiling || s.calls.leased != tt.leased:
			t.Errorf("%s: may use %d tokens and %d tenths until the answer; want %d, %d", name, s.tokens.ceiling, s.calls.leased, tt.ceiling, tt.leased)
		case u.Seq != 8 || u.Leave != tt.ask.leave || !u.Expires.Equal(noon.Add(13*time.Hour)) || u.Spent != tt.tokens.spent || u.InFlight != tt.tokens.inFlight || !maps.Equal(u.Usage, s.usage):
			t.Errorf("%s: %+v", name, u)
		}
	}
}

// A holding that the others will soon count as spent is not reported any more: what goes
// beyond it is of another holding.
func TestAHoldingThatIsAboutToExpire(t *testing.T) {
	t.Parallel()
	last := noon.Add(-leaseLife - forgetAfter*3/4)
	for name, tt := range map[string]struct {
		renewed time.Time
		kept    bool
	}{
		"never renewed":     {time.Time{}, true},
		"renewed in time":   {last, true},
		"renewed too early": {last.Add(-1), false},
	} {
		s := subject{instance: "i", renewed: tt.renewed, tokens: tokens{limit: 1000, spent: 120, ceiling: 100}, calls: calls{limit: 600, leased: 50, used: 40},
			usage: map[string]Spend{"m": {Tokens: 110, CostUSD: 3}, "n": {Tokens: 10}}, reported: map[string]Spend{"m": {Tokens: 90, CostUSD: 2}, "n": {Tokens: 10}}}
		u := s.compose(noon, ask{})
		want := map[string]Spend{"m": {Tokens: 20, CostUSD: 1}}
		switch {
		case u.Calls != 50 || s.calls.used != 40:
			t.Errorf("%s: the calls of the minute are %+v", name, s.calls)
		case tt.kept && (u.Instance != "i" || u.Spent != 120 || u.Usage["m"].Tokens != 110):
			t.Errorf("%s: %+v", name, u)
		case !tt.kept && (u.Instance == "i" || u.Seq != 1 || u.Spent != 20 || u.Want != 0 || !maps.Equal(u.Usage, want)):
			t.Errorf("%s: %+v", name, u)
		}
	}
}

// An answer replaces what was known, but for what was spent since it was asked for.
func TestAnAnswerIsRecorded(t *testing.T) {
	t.Parallel()
	used := map[string]Spend{"m": {Tokens: 5}}
	answer := Account{Spent: 100, Shares: map[string]Holding{
		"i":     {Spent: 20, Held: 30, Minute: minute, Calls: 50, Until: noon.Unix() + 300},
		"other": {Spent: 200, Held: 50, Minute: minute, Calls: 70, Until: noon.Unix() + 1},
		"late":  {Spent: 1, Minute: minute - 1, Calls: 10, Until: noon.Unix()},
	}}
	type record struct {
		s subject
		u Update
	}
	next := func(change func(*record)) *record {
		r := &record{
			subject{instance: "i", unreported: true, usage: used, tokens: tokens{limit: 1000, spent: 20, inFlight: 7}, calls: calls{limit: 600, minute: minute, used: 40, step: 50, batch: 50}},
			Update{Instance: "i", Minute: minute, Spent: 20, InFlight: 7, Calls: 40, More: 10, Usage: used},
		}
		change(r)
		r.s.recordAnswer(r.u, answer, noon)
		return r
	}
	s := &next(func(*record) {}).s
	if s.tokens.ceiling != 50 || s.tokens.left != 1000-401 || !s.tokens.heard.Equal(noon) || s.others != 2 || s.unreported || !s.renewed.Equal(noon) || !maps.Equal(s.reported, used) {
		t.Errorf("%+v", s)
	}
	if c := s.calls; c.leased != 50 || c.all != 120 || !c.heard.Equal(noon) || c.step != 100 || c.batch != 100 {
		t.Errorf("%+v", c)
	}
	for name, tt := range map[string]struct {
		change                func(*record)
		unreported            bool
		leased, step, batch   int64
		ceiling, spent, calls int64
	}{
		"tokens spent since":        {func(r *record) { r.s.tokens.spent = 21 }, true, 50, 100, 100, 50, 21, 40},
		"a use without tokens":      {func(r *record) { r.s.usage = map[string]Spend{"m": {Tokens: 5, CostUSD: 1}} }, true, 50, 100, 100, 50, 20, 40},
		"calls of a minute ago":     {func(r *record) { r.u.Minute-- }, false, 0, 50, 50, 50, 20, 40},
		"a tenth more asked for":    {func(r *record) { r.u.More = 1 }, false, 50, 100, 100, 50, 20, 40},
		"a limit of one token":      {func(r *record) { r.s.tokens.limit = 1 }, false, 50, 100, 100, 50, 20, 40},
		"no limit of tokens":        {func(r *record) { r.s.tokens.limit = 0 }, false, 50, 100, 100, 0, 20, 40},
		"nothing more asked for":    {func(r *record) { r.u.More = 0 }, false, 50, 50, 50, 50, 20, 40},
		"at most a third":           {func(r *record) { r.s.calls.step, r.s.calls.batch = 150, 150 }, false, 50, 200, 200, 50, 20, 40},
		"beyond the first lease":    {func(r *record) { r.s.calls.batch = 51 }, false, 50, 50, 50, 50, 20, 40},
		"the end of the holding":    {func(r *record) { r.u.Leave = true }, false, 10, 100, 100, 0, 0, 0},
		"what was in flight before": {func(r *record) { r.u.Leave, r.s.tokens.spent = true, 29 }, true, 10, 100, 100, 0, 2, 0},
		"calls since its end":       {func(r *record) { r.u.Leave, r.s.calls.used = true, 45 }, false, 10, 100, 100, 0, 0, 5},
	} {
		s := &next(tt.change).s
		if s.unreported != tt.unreported || s.calls.leased != tt.leased || s.calls.step != tt.step || s.calls.batch != tt.batch ||
			s.tokens.ceiling != tt.ceiling || s.tokens.spent != tt.spent || s.calls.used != tt.calls {
			t.Errorf("%s: unreported %t, %+v, %+v", name, s.unreported, s.calls, s.tokens)
		}
	}

	s = &subject{instance: "i", tokens: tokens{limit: 1000, ceiling: 60}, calls: calls{limit: 600, minute: minute, leased: 50, used: 40}}
	s.recordAccount(answer, noon)
	if s.tokens.left != 1000-(401-50)-60 || s.calls.all != 70+50 || !s.calls.heard.Equal(noon) || !s.tokens.heard.Equal(noon) {
		t.Errorf("an account that is read: %+v, %+v", s.calls, s.tokens)
	}
	s.calls.minute, s.calls.used = minute-1, 55
	if s.recordAccount(answer, noon); s.calls.all != 10+55 {
		t.Errorf("of the minute before: %+v", s.calls)
	}
}

// A subject is forgotten only if it holds and owes nothing.
func TestWhatMayBeForgotten(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		change func(*subject)
		want   bool
	}{
		"nothing":                           {func(*subject) {}, true},
		"an update under way":               {func(s *subject) { s.updating = make(chan struct{}) }, false},
		"tokens in flight":                  {func(s *subject) { s.tokens.inFlight = 1 }, false},
		"a call that waits":                 {func(s *subject) { s.tokens.waiting = 1 }, false},
		"something unreported":              {func(s *subject) { s.unreported = true }, false},
		"tokens held":                       {func(s *subject) { s.tokens.ceiling = 1 }, false},
		"tokens held, and spent":            {func(s *subject) { s.tokens.ceiling, s.tokens.spent = 1, 1 }, true},
		"tokens held until the day ended":   {func(s *subject) { s.tokens.ceiling, s.ends = 1, noon }, true},
		"a ceiling of what is only counted": {func(s *subject) { s.tokens.ceiling, s.tokens.limit = 1, 0 }, true},
		"calls held":                        {func(s *subject) { s.calls.leased = 1 }, false},
		"calls held, and used":              {func(s *subject) { s.calls.leased, s.calls.used = 1, 1 }, true},
		"calls owed":                        {func(s *subject) { s.calls.used = 1 }, false},
		"calls of the minute before":        {func(s *subject) { s.calls.used, s.calls.minute = 1, minute-1 }, true},
	} {
		s := subject{ends: noon.Add(time.Hour), tokens: tokens{limit: 1000}, calls: calls{limit: 600, minute: minute}}
		tt.change(&s)
		if got := s.clean(noon); got != tt.want {
			t.Errorf("%s: %t", name, got)
		}
	}
}

// What is left, as its owner sees it, lies between nothing and the limit.
func TestTheStateOfALimit(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		daily  bool
		calls  calls
		tokens tokens
		left   int64
	}{
		"a rate that is not used":               {calls: calls{limit: 600}, left: 60},
		"a part of a turn is none":              {calls: calls{limit: 600, leased: 50, used: 41, all: 50}, left: 55},
		"a part of a turn, and no more is left": {calls: calls{limit: 600, leased: 50, used: 41, all: 600}, left: 0},
		"what others have leased":               {calls: calls{limit: 600, leased: 50, used: 40, all: 100}, left: 51},
		"a debt":                                {calls: calls{limit: 600, leased: 50, used: 70, all: 600}, left: 0},
		"more leased than the limit":            {calls: calls{limit: 600, leased: 650, used: 40, all: 700}, left: 56},
		"a budget that is not used":             {daily: true, tokens: tokens{limit: 1000}, left: 1000},
		"what is spent and in flight":           {daily: true, tokens: tokens{limit: 1000, ceiling: 100, spent: 20, inFlight: 30, left: 700, heard: noon}, left: 750},
		"a budget in debt":                      {daily: true, tokens: tokens{limit: 1000, spent: 20, left: -5, heard: noon}, left: 0},
		"a budget that was lowered, unheard of": {daily: true, tokens: tokens{limit: 100, ceiling: 300, spent: 20}, left: 100},
	} {
		s := subject{key: key{name: "n"}, ends: noon.Add(12 * time.Hour), calls: tt.calls, tokens: tt.tokens}
		s.calls.minute = minute
		want := State{Name: "n", Limit: 60, Left: tt.left, ResetsAt: noon.Add(time.Minute)}
		if tt.daily {
			want = State{Name: "n", Daily: true, Limit: tt.tokens.limit, Left: tt.left, ResetsAt: s.ends}
		}
		if got := s.state(tt.daily); got != want {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
	}
}

func TestSpendAdds(t *testing.T) {
	t.Parallel()
	if got, want := (Spend{Tokens: 1, CostUSD: 0.5}).plus(Spend{Tokens: 2, CostUSD: 0.25}), (Spend{Tokens: 3, CostUSD: 0.75}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}
