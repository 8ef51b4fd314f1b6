package offline

import "sync"

// The tables that let a question be put in words other than a function's own.
// They hold English, not functions: each entry applies to whatever is declared.

// valueSynonyms are other words for what an enum's value may mean: a value
// whose own words include all those of means is meant by any of the phrases.
var valueSynonyms = []struct {
	means   string
	phrases []string
}{
	{"gke", []string{"kubernetes", "k8s"}},
	{"kubernetes", []string{"gke", "k8s"}},
	{"local", []string{"laptop", "locally", "local", "localhost", "my machine", "my own machine", "my computer", "my own computer", "my pc"}},
	{"cloud run", []string{"serverless"}},
	{"agent engine", []string{"vertex", "vertex ai"}},
	{"security", []string{
		"safe", "safely", "safety", "secret", "auth", "authentication", "authenticate", "authorization", "authorize", "oauth", "iam",
		"credential", "password", "permission", "encrypt", "encryption", "api key", "attack", "attacker", "vulnerability", "vulnerable",
		"leak", "protect", "harden", "hacker", "hacked",
	}},
	{"monitoring", []string{
		"log", "logging", "metric", "trace", "tracing", "observe", "observability", "observable", "alert", "alerting", "dashboard", "telemetry",
	}},
	{"scalability", []string{
		"scale", "load", "traffic", "autoscaling", "autoscale", "many users", "many more users", "more users", "lots of users", "million users",
		"millions of users", "thousand users", "thousands of users", "concurrency", "concurrent", "throughput", "spike", "growth", "grow",
	}},
	{"reliability", []string{
		"uptime", "outage", "fail", "failure", "failover", "retry", "backup", "restore", "disaster", "redundancy", "redundant", "resilient",
		"resilience", "robust", "downtime", "crash", "availability", "highly available", "survive", "zone", "goes down", "go down", "error handling",
	}},
}

// A synonym is an entry of valueSynonyms in words.
type synonym struct {
	means   []word
	phrases [][]word
}

var synonyms = sync.OnceValue(func() []synonym {
	var out []synonym
	for _, v := range valueSynonyms {
		s := synonym{means: wordsOf(v.means)}
		for _, phrase := range v.phrases {
			s.phrases = append(s.phrases, wordsOf(phrase))
		}
		out = append(out, s)
	}
	return out
})

// A concept is a word that functions are named or described by, and how much
// another word speaks for it.
type concept struct {
	name   string
	weight float64
}

// concepts are keyed by the word exactly as it is written: to deploy asks for a
// way to do it, while the deployment may also be one that is there.
var concepts = conceptTable(map[concept]string{
	{"option", 2}:   "way ways choice choices alternative alternatives possibilities choose choosing pick host hosting run launch ship install deploy deploying",
	{"option", 1}:   "deployment deployments deployed",
	{"practice", 2}: "tip tips advice advise recommend recommended recommendation recommendations guideline guidelines guidance improve improving harden protect protecting practise practises",
	{"status", 3.5}: "uptime",
	{"status", 2}:   "healthy health unhealthy doing alive up online running working ok okay state version revision environment",
})

func conceptTable(words map[concept]string) map[string][]concept {
	out := map[string][]concept{}
	for c, list := range words {
		for w := range set(list) {
			out[w] = append(out[w], c)
		}
	}
	return out
}

// verbs begin a function's name without telling it from the others.
var verbs = set("get list show check fetch read find lookup look describe retrieve query search")

// weakWords are part of a function's name, and of too much else.
var weakWords = set("best good new all info information data detail details current")
