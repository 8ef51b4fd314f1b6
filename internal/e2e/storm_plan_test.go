package e2e_test

// A stormPlan is derived from a seed: the clients' calls and when they leave, the
// model's replies, and when a process is killed, its store disconnected, or its audit
// refused. The stormRun that executes it keeps a stormLedger; stormPlan.Check compares
// it with what was stored and audited.

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"time"
)

// A stormSize is how large a storm is.
type stormSize struct {
	Length    time.Duration // in which calls and faults begin
	Rate      int           // calls a second
	Processes int           // number 0 is never killed
	Owners    int
	Sessions  int // shared: many calls name them
}

// A stormPlan is immutable.
type stormPlan struct {
	stormSize
	Seed uint64
	// Calls are in the order of their numbers, which count from 0. The first ones
	// open the shared sessions, one each, before the storm begins.
	Calls []stormCall
	// Faults are in the order in which they begin.
	Faults []stormFault
}

// A callKind is what a call asks for.
type callKind int

// The kinds of calls.
const (
	callAsk      callKind = iota // POST /invoke
	callRead                     // GET /sessions/{id} of a shared session
	callTrespass                 // the same of another owner's
)

// noSharedSession is the Session of a call that begins one.
const noSharedSession = -1

// A stormCall is what one client wants.
type stormCall struct {
	Number  int
	At      time.Duration // after the storm's beginning
	Kind    callKind
	Door    stormDoor // calls by another than POST /invoke have a key
	Owner   int
	Session int // shared, or None
	Opens   bool
	// Key is set if the call has an idempotency key and is repeated until it is
	// answered. A call without a key is made once.
	Key    bool
	Stream bool
	// Again is set if the client repeats the call although it was answered.
	Again bool
	// Patience is how long the client waits at each of the first attempts; 0: for
	// as long as it takes.
	Patience []time.Duration
	// Processes are whom the attempts go to, taken in turn.
	Processes []int
	// Model is what the model does when it is asked, time after time; then it
	// answers.
	Model []plannedReply
}

// Query is the call's question, by which the model and the checker know it.
func (c stormCall) Query() string {
	return fmt.Sprintf("Owner %d, session %d, call %d: what now?", c.Owner, c.Session, c.Number)
}

// Long is set for a long answer. All of the first sessions have long answers, so that
// their documents overflow into the archive.
func (c stormCall) Long() bool { return c.Session >= 0 && c.Session < longSessions }

const (
	longSessions = 3
	longAnswer   = 56 << 10 // at least
)

// longAnswer is the size of a long answer: a short storm has fewer of them, and its
// documents spill too.
func (p *stormPlan) longAnswer() int {
	const whole = 25 * time.Second
	return min(max(longAnswer, int(longAnswer*whole/p.Length)), 4*longAnswer)
}

// budget returns the tokens of an end user's day.
func (p *stormPlan) budget() int64 {
	return stormBudgetLimit * (1 + int64(p.Length/time.Minute))
}

var stormQuery = regexp.MustCompile(`^Owner \d+, session -?\d+, call (\d+): what now\?$`)

// stormCallOf returns the number of the call that asks text, and whether there is one.
func stormCallOf(text string) (int, bool) {
	match := stormQuery.FindStringSubmatch(text)
	if match == nil {
		return 0, false
	}
	number, err := strconv.Atoi(match[1])
	return number, err == nil
}

// A modelBehavior is what the model does with a request.
type modelBehavior int

// What the model does.
const (
	modelAnswers        modelBehavior = iota // after the reply's delay
	modelCallsTool                           // it calls a tool
	modelRefuses                             // 503
	modelThrottles                           // 429
	modelCutsConnection                      // the connection, without a word
	modelBreaksOff                           // off, in the middle of its answer
	modelStalls                              // sends nothing
	modelFalters                             // sends one word, and nothing more
	modelBabbles                             // what no client can read
	modelIsEmpty                             // a whole answer that holds nothing
)

// A plannedReply is what the model does once.
type plannedReply struct {
	Does  modelBehavior
	Delay time.Duration // before each piece of an answer
}

// A faultKind is a kind of fault around the service.
type faultKind int

// The kinds of faults. Those with a process concern only that process.
const (
	faultKill        faultKind = iota // SIGKILL, and a new process in its place
	faultTerminate                    // SIGTERM, and a new process once it has ended
	faultCutStore                     // connections to Firestore are closed and refused
	faultHangStore                    // they carry nothing any more
	faultSlowStore                    // each piece comes later
	faultLoseReplies                  // what is written is, and no answer comes
	faultModelAway                    // every request is refused
	faultLogFails                     // the Logging API refuses
	faultLogHangs                     // it does not answer
	faultLogLoses                     // it takes entries and loses its answers
	faultSilentModel                  // open connections carry nothing any more, and stay open
	faultSilentStore
	faultSilentLog
	faultSilentSecrets
	faultSlowBodies // clients send requests byte by byte, more than can be served at once
	faultLostSpill  // the reply to a write that archives turns is lost
	faultKinds
)

// String names the fault.
func (k faultKind) String() string {
	return [faultKinds]string{"kill", "terminate", "cut store", "hang store", "slow store", "lose replies", "model away", "log fails", "log hangs", "log loses",
		"silent model", "silent store", "silent log", "silent secrets", "slow bodies", "lost spill"}[k]
}

// A stormFault is a fault with its time.
type stormFault struct {
	At      time.Duration // after the storm's beginning
	Does    faultKind
	Process int
	For     time.Duration // 0 for kills
}

// newStormPlan returns the plan of a storm. It is a function of seed and size.
func newStormPlan(seed uint64, size stormSize) stormPlan {
	p := stormPlan{stormSize: size, Seed: seed}
	p.planCalls(rand.New(rand.NewPCG(seed, 1)))
	p.planFaults(rand.New(rand.NewPCG(seed, 2)))
	return p
}

// attempts is the number of processes that a call names before it starts again with
// the first.
const maxStormAttempts = 6

func (p *stormPlan) planCalls(random *rand.Rand) {
	oneIn := func(n int) bool { return random.IntN(n) == 0 }
	upTo := func(d time.Duration) time.Duration { return time.Duration(random.Int64N(int64(d))) }
	for session := range p.Sessions {
		p.Calls = append(p.Calls, stormCall{Number: session, Owner: session % p.Owners, Session: session, Opens: true, Key: true})
	}
	var begin []time.Duration
	for range int(p.Length.Seconds() * float64(p.Rate)) {
		begin = append(begin, upTo(p.Length))
	}
	slices.Sort(begin)
	for _, at := range begin {
		c := stormCall{
			Number: len(p.Calls), At: at, Session: noSharedSession, Owner: random.IntN(p.Owners),
			Key: !oneIn(4), Stream: oneIn(3), Again: oneIn(4),
		}
		if !oneIn(3) {
			c.Session = random.IntN(p.Sessions)
			c.Owner = c.Session % p.Owners
		}
		switch random.IntN(16) {
		case 0, 1:
			c.Kind, c.Key, c.Stream, c.Again = callRead, false, false, false
			c.Session = random.IntN(p.Sessions)
			c.Owner = c.Session % p.Owners
		case 2:
			c.Kind, c.Key, c.Stream, c.Again = callTrespass, false, false, false
			c.Session = random.IntN(p.Sessions)
			c.Owner = (c.Session + 1 + random.IntN(p.Owners-1)) % p.Owners
		}
		if c.Kind == callAsk && oneIn(3) {
			c.Door, c.Key, c.Stream = 1+stormDoor(random.IntN(int(stormDoors)-1)), true, false
			if !c.Door.names() {
				c.Session = noSharedSession
			}
		}
		for range maxStormAttempts {
			c.Processes = append(c.Processes, random.IntN(p.Processes))
		}
		if c.Kind == callAsk {
			for range 2 {
				patience := time.Duration(0)
				if oneIn(10) {
					patience = time.Millisecond + upTo(300*time.Millisecond)
				}
				c.Patience = append(c.Patience, patience)
			}
			for range 3 {
				c.Model = append(c.Model, plannedReply{planBehavior(random), upTo(40 * time.Millisecond)})
			}
		}
		p.Calls = append(p.Calls, c)
	}
}

// behaviour draws what the model does: mostly its work.
func planBehavior(random *rand.Rand) modelBehavior {
	switch n := random.IntN(100); {
	case n < 66:
		return modelAnswers
	case n < 74:
		return modelCallsTool
	case n < 80:
		return modelRefuses
	case n < 84:
		return modelThrottles
	case n < 88:
		return modelCutsConnection
	case n < 93:
		return modelBreaksOff
	case n < 95:
		return modelStalls
	case n < 96:
		return modelFalters
	case n < 98:
		return modelBabbles
	default:
		return modelIsEmpty
	}
}

// quietPeriod is the time after a fault before the next may begin.
const quietPeriod = 500 * time.Millisecond

func (p *stormPlan) planFaults(random *rand.Rand) {
	// However short, a storm has each kind, first a process ended and one killed, and then
	// what waits for a spill. What is silent for long comes once.
	kinds := []faultKind{faultTerminate, faultKill, faultLostSpill}
	for kind := range faultKinds {
		if !slices.Contains(kinds, kind) {
			kinds = append(kinds, kind)
		}
	}
	rest := kinds[3:]
	random.Shuffle(len(rest), func(i, j int) { rest[i], rest[j] = rest[j], rest[i] })
	for at := quietPeriod; at < p.Length; at += quietPeriod + time.Duration(random.Int64N(int64(quietPeriod))) {
		f := stormFault{At: at, Process: random.IntN(p.Processes), For: 200*time.Millisecond + time.Duration(random.Int64N(int64(1500*time.Millisecond)))}
		switch n := random.IntN(100); {
		case len(kinds) > 0:
			f.Does, kinds = kinds[0], kinds[1:]
			if f.Does.silence() {
				f.Process = 0 // which lives to see it come back
			}
		case n < 22:
			f.Does = faultKill
		case n < 38:
			f.Does = faultTerminate
		case n < 46:
			f.Does = faultCutStore
		case n < 51:
			f.Does = faultHangStore
		case n < 56:
			f.Does = faultSlowStore
		case n < 66:
			f.Does = faultLoseReplies
		case n < 71:
			f.Does = faultModelAway
		default:
			f.Does = []faultKind{faultLogFails, faultLogHangs, faultLogLoses, faultSilentModel, faultSlowBodies}[random.IntN(5)]
		}
		if f.Does == faultKill || f.Does == faultTerminate {
			f.Process, f.For = 1+random.IntN(p.Processes-1), 0
		}
		p.Faults = append(p.Faults, f)
	}
}

// silence reports whether the fault silences the connections to something.
func (k faultKind) silence() bool { return k >= faultSilentModel && k <= faultSilentSecrets }
