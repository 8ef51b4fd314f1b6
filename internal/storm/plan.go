// Package storm plans a storm and judges what it left behind. A [Plan] says, from
// a seed alone, which calls clients make and when they lose patience, what the
// model does each time that it is asked, and when which process is killed, its
// store cut off, or its audit refused. Whoever carries the plan out keeps a
// [Ledger]; [Plan.Check] compares it with what is stored and what the audit says.
package storm

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"time"
)

// A Size says how large a storm is.
type Size struct {
	Length    time.Duration // in which calls and faults begin
	Rate      int           // calls a second
	Processes int           // number 0 is never killed
	Owners    int
	Sessions  int // shared: many calls name them
}

// A Plan is a storm. It does not change.
type Plan struct {
	Size
	Seed uint64
	// Calls are in the order of their numbers, which count from 0. The first ones
	// open the shared sessions, one each, before the storm begins.
	Calls []Call
	// Faults are in the order in which they begin.
	Faults []Fault
}

// A Kind is what a call asks for.
type Kind int

// The kinds of calls.
const (
	Ask      Kind = iota // POST /invoke
	Read                 // GET /sessions/{id} of a shared session
	Trespass             // the same of another owner's
)

// None is the Session of a call that begins one.
const None = -1

// A Call is what one client wants.
type Call struct {
	Number  int
	At      time.Duration // after the storm's beginning
	Kind    Kind
	Owner   int
	Session int // shared, or None
	Opens   bool
	// Key says that the call has an idempotency key and is repeated until it is
	// answered. One without a key is made once.
	Key    bool
	Stream bool
	// Again says that the client repeats the call although it was answered.
	Again bool
	// Patience is how long the client waits at each of the first attempts; 0: for
	// as long as it takes.
	Patience []time.Duration
	// Processes are whom the attempts go to, taken in turn.
	Processes []int
	// Model is what the model does when it is asked, time after time; then it
	// answers.
	Model []Reply
}

// Query is the call's question, by which the model and the checker know it.
func (c Call) Query() string {
	return fmt.Sprintf("Owner %d, session %d, call %d: what now?", c.Owner, c.Session, c.Number)
}

var query = regexp.MustCompile(`^Owner \d+, session -?\d+, call (\d+): what now\?$`)

// CallOf is the number of the call with this question; false: it is none's.
func CallOf(text string) (int, bool) {
	match := query.FindStringSubmatch(text)
	if match == nil {
		return 0, false
	}
	number, err := strconv.Atoi(match[1])
	return number, err == nil
}

// A Behaviour is what the model does with a request.
type Behaviour int

// The model's behaviours.
const (
	Answers  Behaviour = iota // after the reply's delay
	Tools                     // it calls a tool
	Refuses                   // 503
	Throttle                  // 429
	Cuts                      // the connection, without a word
	Breaks                    // off, in the middle of its answer
	Stalls                    // it never says anything
	Falters                   // it says a word, and nothing more
	Babbles                   // what no client can read
)

// A Reply is what the model does once.
type Reply struct {
	Does  Behaviour
	Delay time.Duration // before each piece of an answer
}

// A Trouble is what goes wrong around the service.
type Trouble int

// The troubles. Those with a process are that process's alone.
const (
	Kill      Trouble = iota // SIGKILL, and a new process in its place
	Terminate                // SIGTERM, and a new process once it has ended
	CutStore                 // connections to Firestore are closed and refused
	HangStore                // they carry nothing any more
	SlowStore                // each piece comes later
	ModelAway                // every request is refused
	LogFails                 // the Logging API refuses
	LogHangs                 // it does not answer
	LogLoses                 // it takes entries and loses its answers
	troubles
)

// String names the trouble.
func (k Trouble) String() string {
	return [troubles]string{"kill", "terminate", "cut store", "hang store", "slow store", "model away", "log fails", "log hangs", "log loses"}[k]
}

// A Fault is a trouble at its time.
type Fault struct {
	At      time.Duration // after the storm's beginning
	Does    Trouble
	Process int
	For     time.Duration // 0 for kills
}

// New plans a storm. The same seed and size give the same plan.
func New(seed uint64, size Size) Plan {
	p := Plan{Size: size, Seed: seed}
	p.planCalls(rand.New(rand.NewPCG(seed, 1)))
	p.planFaults(rand.New(rand.NewPCG(seed, 2)))
	return p
}

// attempts is how many processes a call names, before it begins anew with them.
const attempts = 6

func (p *Plan) planCalls(random *rand.Rand) {
	oneIn := func(n int) bool { return random.IntN(n) == 0 }
	upTo := func(d time.Duration) time.Duration { return time.Duration(random.Int64N(int64(d))) }
	for session := range p.Sessions {
		p.Calls = append(p.Calls, Call{Number: session, Owner: session % p.Owners, Session: session, Opens: true, Key: true})
	}
	var begin []time.Duration
	for range int(p.Length.Seconds() * float64(p.Rate)) {
		begin = append(begin, upTo(p.Length))
	}
	slices.Sort(begin)
	for _, at := range begin {
		c := Call{
			Number: len(p.Calls), At: at, Session: None, Owner: random.IntN(p.Owners),
			Key: !oneIn(4), Stream: oneIn(3), Again: oneIn(4),
		}
		if !oneIn(3) {
			c.Session = random.IntN(p.Sessions)
			c.Owner = c.Session % p.Owners
		}
		switch random.IntN(16) {
		case 0, 1:
			c.Kind, c.Key, c.Stream, c.Again = Read, false, false, false
			c.Session = random.IntN(p.Sessions)
			c.Owner = c.Session % p.Owners
		case 2:
			c.Kind, c.Key, c.Stream, c.Again = Trespass, false, false, false
			c.Session = random.IntN(p.Sessions)
			c.Owner = (c.Session + 1 + random.IntN(p.Owners-1)) % p.Owners
		}
		for range attempts {
			c.Processes = append(c.Processes, random.IntN(p.Processes))
		}
		if c.Kind == Ask {
			for range 2 {
				patience := time.Duration(0)
				if oneIn(10) {
					patience = time.Millisecond + upTo(300*time.Millisecond)
				}
				c.Patience = append(c.Patience, patience)
			}
			for range 3 {
				c.Model = append(c.Model, Reply{behaviour(random), upTo(40 * time.Millisecond)})
			}
		}
		p.Calls = append(p.Calls, c)
	}
}

// behaviour draws what the model does: mostly its work.
func behaviour(random *rand.Rand) Behaviour {
	switch n := random.IntN(100); {
	case n < 66:
		return Answers
	case n < 74:
		return Tools
	case n < 80:
		return Refuses
	case n < 84:
		return Throttle
	case n < 88:
		return Cuts
	case n < 93:
		return Breaks
	case n < 95:
		return Stalls
	case n < 97:
		return Falters
	default:
		return Babbles
	}
}

// calm is the time after a fault before the next may begin.
const calm = 500 * time.Millisecond

func (p *Plan) planFaults(random *rand.Rand) {
	for at := calm; at < p.Length; at += calm + time.Duration(random.Int64N(int64(calm))) {
		f := Fault{At: at, Process: random.IntN(p.Processes), For: 200*time.Millisecond + time.Duration(random.Int64N(int64(1500*time.Millisecond)))}
		switch n := random.IntN(100); {
		case n < 25:
			f.Does = Kill
		case n < 45:
			f.Does = Terminate
		case n < 58:
			f.Does = CutStore
		case n < 66:
			f.Does = HangStore
		case n < 75:
			f.Does = SlowStore
		case n < 83:
			f.Does = ModelAway
		case n < 89:
			f.Does = LogFails
		case n < 94:
			f.Does = LogHangs
		default:
			f.Does = LogLoses
		}
		if f.Does == Kill || f.Does == Terminate {
			f.Process, f.For = 1+random.IntN(p.Processes-1), 0
		}
		p.Faults = append(p.Faults, f)
	}
}
