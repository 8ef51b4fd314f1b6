package offline

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// A fact is something the user said of themselves.
type fact struct {
	whose   string // "your" or "the"
	subject string // "favourite colour", as it was said
	value   string
}

// facts are what the user told, in the order of telling; the latest of a
// subject counts.
type facts struct {
	list  []fact
	notes []string // what was to be remembered in other forms, and statements like "I live in Paris"
	told  int      // how often a fact was added
}

const (
	maxFactBytes    = 120
	maxQuotedBytes  = 160
	maxListed       = 10
	maxSubjectWords = 6
)

var (
	sentenceEnd = lazy(`[.!?;]+(?:\s+|$)|\n+`)
	questioning = lazy(`(?i)^\W*(what|which|who|whose|when|where|why|how|is|are|was|do|does|did|can|could|should|would|will|if|tell me|guess|say)\b`)
	greetings   = lazy(`(?i)^\W*((hi|hello|hey|good (morning|afternoon|evening)|well|ok|okay|so|and|please|actually|by the way|btw|no|yes|sorry)[\s,!.:-]+)+`)

	calledIs = lazy(`(?i)\b(?:my (?:full |first |real )?name(?: is|['’]s)(?: now)?|i(?:['’]m| am) called|(?:you (?:can|may) |please )?call me)[ ,:]+(\p{L}[^,.;:!?\n"()]*)`)
	iAmName  = lazy(`\b[Ii](?:['’]m| am) (\p{Lu}[\p{L}'’-]*(?: \p{Lu}[\p{L}'’-]*){0,2})(?:$|[,.!;\n]| and | but )`)
	negated  = lazy(`(?i)(don['’]?t|do not|never|not|stop|didn['’]?t)\W+(\w+\W+)?$`)
	myIs     = lazy(`(?i)\bmy (\p{L}[\p{L}\p{N} '’-]*?) (?:is|are|was) `)
	theIs    = lazy(`(?i)\bthe (\p{L}[\p{L}\p{N} '’-]*?) (?:is|are|was) `)
	restEnd  = lazy(`(?i),? (?:and|but) (?:my|the|i|also|you|call|please)\b|, |$`)
	remember = lazy(`(?i)^\W*(?:please[ ,]+)?(?:(?:can|could) you )?(?:remember|note|keep in mind|don['’]?t forget|do not forget)(?: this)?(?: that)?[ :,]+(.+)$`)
	iDo      = lazy(`(?i)(?:^|, |\band |\bbut )(i (?:really )?(like|love|hate|prefer|live|work|study|come|use|drive|play|speak|own) )`)
)

// notNames follow "I am" or "call me" without being what somebody is called.
var notNames = set(`ok okay fine good great sorry ready sure back here new german french english spanish italian american british indian chinese japanese
russian dutch polish portuguese swedish turkish korean canadian australian european african asian catholic muslim jewish christian hindu
later tomorrow when if maybe a an the at on in once again soon crazy old not trying looking using building going working just now please anytime`)

// told reads what the texts state. A question states nothing.
func told(texts []string) facts {
	var f facts
	for _, text := range texts {
		for _, s := range sentences(text) {
			f.read(s)
		}
	}
	return f
}

// sentences splits text, each with its mark.
func sentences(text string) []string {
	var out []string
	start := 0
	for _, at := range sentenceEnd().FindAllStringIndex(text, -1) {
		if s := strings.TrimSpace(text[start:at[1]]); s != "" {
			out = append(out, s)
		}
		start = at[1]
	}
	if s := strings.TrimSpace(text[start:]); s != "" {
		out = append(out, s)
	}
	return out
}

// withoutStatements is what is left of text without what it states beside, such as a name:
// the words of a statement say nothing of what is asked for. It is text itself
// when that only states.
func withoutStatements(text string) string {
	states := func(s string) bool {
		var f facts
		f.read(s)
		return f.told > 0 || len(f.notes) > 0
	}
	var rest []string
	for _, s := range sentences(text) {
		if before, after, ok := strings.Cut(s, ","); ok && states(before+".") {
			s = strings.TrimSpace(after)
		}
		if s != "" && !states(s) {
			rest = append(rest, s)
		}
	}
	if len(rest) == 0 {
		return text
	}
	return strings.Join(rest, " ")
}

func (f *facts) read(sentence string) {
	if strings.HasSuffix(sentence, "?") {
		return
	}
	before := f.told
	body := strings.TrimRight(greetings().ReplaceAllString(sentence, ""), " .!;\n")
	noted := false
	if m := remember().FindStringSubmatch(body); m != nil {
		body, noted = m[1], true
		f.readIs(theIs(), "the", body)
	}
	if !noted && questioning().MatchString(body) {
		return
	}
	if name := nameIn(body); name != "" {
		f.add(fact{"your", "name", name})
	}
	f.readIs(myIs(), "your", body)
	if at := iDo().FindStringSubmatchIndex(body); at != nil {
		f.notes = append(f.notes, excerpt(body[at[2]:], maxFactBytes))
	} else if noted && f.told == before {
		f.notes = append(f.notes, excerpt(body, maxFactBytes))
	}
}

func (f *facts) readIs(re *regexp.Regexp, whose, body string) {
	for _, at := range re.FindAllStringSubmatchIndex(body, -1) {
		subject, rest := body[at[2]:at[3]], body[at[1]:]
		value := strings.TrimSpace(rest[:restEnd().FindStringIndex(rest)[0]])
		if value == "" || len(strings.Fields(subject)) > maxSubjectWords || isName(subject) || strings.HasPrefix(value, "not ") {
			continue
		}
		f.add(fact{whose, subject, excerpt(value, maxFactBytes)})
	}
}

func isName(subject string) bool {
	switch strings.ToLower(subject) {
	case "name", "full name", "first name", "real name":
		return true
	}
	return false
}

func (f *facts) add(told fact) {
	f.list = slices.DeleteFunc(f.list, func(old fact) bool { return maps.Equal(stems(old.subject), stems(told.subject)) })
	f.list = append(f.list, told)
	f.told++
}

// nameIn is what the sentence says the user is called.
func nameIn(sentence string) string {
	at := calledIs().FindStringSubmatchIndex(sentence)
	if at == nil {
		at = iAmName().FindStringSubmatchIndex(sentence)
	}
	if at == nil || negated().MatchString(sentence[:at[0]]) {
		return ""
	}
	words := strings.Fields(sentence[at[2]:at[3]])
	if len(words) == 0 || notNames[strings.ToLower(words[0])] {
		return ""
	}
	// A name goes on as long as its words are capitalised.
	n := 1
	for n < len(words) && n < 4 && words[n] != strings.ToLower(words[n]) {
		n++
	}
	return excerpt(strings.Join(words[:n], " "), maxFactBytes/2)
}

// about finds what was told of a subject, exactly or in more words than asked.
func (f facts) about(subject string) (fact, bool) {
	wanted := stems(subject)
	if isName(subject) {
		wanted = stems("name")
	}
	if len(wanted) == 0 {
		return fact{}, false
	}
	var near []fact
	for _, told := range f.list {
		have := stems(told.subject)
		if maps.Equal(have, wanted) {
			return told, true
		}
		if covers(have, wanted) {
			near = append(near, told)
		}
	}
	if len(near) == 1 {
		return near[0], true
	}
	return fact{}, false
}

func covers(all, some map[string]bool) bool {
	for s := range some {
		if !all[s] {
			return false
		}
	}
	return true
}

var (
	whoAmI   = lazy(`(?i)\b(who (am i|i am)\b|what am i called|what(['’]?s| is) my name\b|(know|remember|recall|tell me|say|what) my (first |full |real )?name\b|what my name is)`)
	whatIsMy = lazy(`(?i)\b(?:what(?:['’]?s| is| are| was)|which is|who(?:['’]?s| is)|where(?:['’]?s| is)|when(?:['’]?s| is)|remember|know|recall|tell you|told you(?: about)?|tell me|what|of|^(?:and|what about|how about|or)) my (\p{L}[\p{L}\p{N} '’-]*?)(?: (?:is|are|was|again|now|please|called))*\W*$`)
	whatThe  = lazy(`(?i)^\W*(?:what|when|where|who)(?:['’]?s| is| are| was) the (\p{L}[\p{L}\p{N} '’-]*?)\W*$`)
	whatTold = lazy(`(?i)\b(what (did|have) i (just )?(tell|told|say|said)|what do you (know|remember) about me|what (did|have) i (ask(ed)?|told?|tell) you to remember|what should you remember|what do you remember|what (have i|did i) (shared?|mention(ed)?))`)
	whatDoI  = lazy(`(?i)\b(?:what|which|where|who)\b[\p{L} ]*? (?:do|did) i (like|love|hate|prefer|live|work|study|come|use|drive|play|speak|own)\b`)
	earlierQ = lazy(`(?i)\b(what (did|have) i (just )?(ask|asked|say|said|write|written|wrote)\b|what (was|were|is) (my|the) (very )?(first|last|previous|earlier|prior) (question|message|thing i)|(my|the) (first|last|previous) (question|message)\W*$|how many (questions|messages) (have i|did i)|have i (already )?asked)`)
	firstOne = lazy(`(?i)\bfirst\b`)
	allOfIt  = lazy(`(?i)\b(so far|all|everything|list|questions|messages|today)\b`)
	lastOne  = lazy(`(?i)\b(last|just|previous|before|prior|earlier)\b`)
	howMany  = lazy(`(?i)\bhow many\b`)
)

// recall answers a question about the session from what the user said in it.
// certain is false when the question may as well be one for a function.
func recall(c conversation, whole string) (text string, certain bool) {
	sentences := sentences(c.question)
	if len(sentences) == 0 {
		return "", false
	}
	question := sentences[len(sentences)-1]
	for _, s := range sentences {
		if strings.HasSuffix(s, "?") {
			question = s
		}
	}
	if len(question) > maxQuestionBytes/100 {
		return "", false
	}
	f := told(append(slices.Clone(c.earlier), whole)) // what the message itself states counts
	switch {
	case earlierQ().MatchString(question) && !strings.Contains(strings.ToLower(question), "remember"):
		return asked(question, c.earlier), true
	case whatTold().MatchString(question):
		return f.all(), true
	case whoAmI().MatchString(question):
		if name, ok := f.about("name"); ok {
			return fmt.Sprintf("Your name is **%s**, as you told me in this session.", name.value), true
		}
		return "You have not told me your name in this session.", true
	}
	if m := whatDoI().FindStringSubmatch(question); m != nil {
		verb := stem(strings.ToLower(m[1]))
		for _, note := range slices.Backward(f.notes) {
			if said := iDo().FindStringSubmatch(note); said != nil && stem(strings.ToLower(said[2])) == verb {
				return fmt.Sprintf("You told me in this session: “%s”.", note), true
			}
		}
		return "You have not told me that in this session.", false
	}
	if m := whatIsMy().FindStringSubmatch(question); m != nil {
		if told, ok := f.about(m[1]); ok {
			return fmt.Sprintf("%s %s is **%s**, as you told me in this session.", capital(told.whose), told.subject, told.value), true
		}
		return fmt.Sprintf("You have not told me your %s in this session.", excerpt(m[1], maxFactBytes/2)), false
	}
	if m := whatThe().FindStringSubmatch(question); m != nil {
		if told, ok := f.about(m[1]); ok {
			return fmt.Sprintf("%s %s is **%s**, as you told me in this session.", capital(told.whose), told.subject, told.value), true
		}
	}
	return "", false
}

func (f facts) all() string {
	var b strings.Builder
	for _, told := range f.list {
		fmt.Fprintf(&b, "\n- **%s:** %s", capital(told.subject), told.value)
	}
	for _, note := range f.notes {
		fmt.Fprintf(&b, "\n- “%s”", note)
	}
	if b.Len() == 0 {
		return "You have not told me anything about yourself in this session."
	}
	return "This is what you told me in this session:\n" + b.String()
}

// asked tells of the user's earlier messages, which are those the request holds.
func asked(question string, earlier []string) string {
	earlier = slices.DeleteFunc(slices.Clone(earlier), func(s string) bool { return strings.TrimSpace(s) == "" })
	n := len(earlier)
	switch {
	case n == 0:
		return "This is the first message of yours that I see in this session."
	case howMany().MatchString(question):
		return fmt.Sprintf("Before this one I see %d of your messages in this session.", n)
	case firstOne().MatchString(question):
		return fmt.Sprintf("The first message of yours that I see in this session is: “%s”", excerpt(earlier[0], maxQuotedBytes))
	case lastOne().MatchString(question) && !allOfIt().MatchString(question) || n == 1:
		return fmt.Sprintf("Your message before this one was: “%s”", excerpt(earlier[n-1], maxQuotedBytes))
	}
	var b strings.Builder
	b.WriteString("These are your latest messages before this one:\n")
	for _, s := range earlier[max(0, n-maxListed):] {
		fmt.Fprintf(&b, "\n- “%s”", excerpt(s, maxQuotedBytes))
	}
	return b.String()
}

// acknowledge answers a message that only states something.
func acknowledge(question string) (string, bool) {
	f := told([]string{question})
	if len(f.list)+len(f.notes) == 0 {
		return "", false
	}
	if name, ok := f.about("name"); ok && len(f.list) == 1 && len(f.notes) == 0 {
		return fmt.Sprintf("Nice to meet you, %s. I can tell you your name again in this session.", name.value), true
	}
	var parts []string
	for _, told := range f.list {
		parts = append(parts, fmt.Sprintf("%s %s is **%s**", told.whose, told.subject, told.value))
	}
	for _, note := range f.notes {
		parts = append(parts, "“"+note+"”")
	}
	return "Noted for this session: " + strings.Join(parts[:min(len(parts), maxListed)], ", ") + ".", true
}
