package offline

import "strings"

const maxOffered = 12 // functions

// politeness may surround small talk; the patterns take a whole message, so
// that a question with a greeting before it is not taken for one.
var (
	politeness = `(?:\W*\b(?:there|all|everyone|everybody|team|again|friend|buddy|mate|please|bot|so|very|much|a lot|lots|for (?:that|this|your help|the help|everything)|then|now|and|really|guys|world)\b)*\W*$`

	greeting = lazy(`(?i)^\W*(?:hi|hello|hey|hiya|howdy|yo|greetings|good (?:morning|afternoon|evening|day)|hola|bonjour|salut|hallo|guten (?:tag|morgen|abend)|ciao|ol[aá]|namaste|hi hello|hey hi)\b` + politeness)
	howAreIt = lazy(`(?i)^\W*(?:(?:hi|hello|hey)\b(?: there)?\W*)?(?:how(?:['’]s it going|['’]s everything(?: going)?| are things(?: going)?| are you| do you do| are you doing| is it going|['’]s life)|what['’]?s up|wassup|sup|how have you been|are you (?:ok|okay|well|there))\b(?:\W*(?:today|doing|now|there|with you))*\W*$`)
	thanking = lazy(`(?i)^\W*(?:(?:ok|okay|great|perfect|cool|nice|awesome|good|wonderful)\W+)*(?:thanks|thank you|thank u|thx|ty|many thanks|cheers|merci|danke|gracias|grazie|obrigad[oa]|much appreciated)\b([^?]*)$`)
	leaving  = lazy(`(?i)^\W*(?:bye|goodbye|good bye|bye bye|see you|see ya|cya|good night|farewell|ciao|that['’]?s all)\b(?:\W*(?:later|soon|tomorrow|for now|then))*` + politeness)
	nodding  = lazy(`(?i)^\W*(?:ok|okay|yes|yeah|yep|no|nope|sure|cool|great|nice|perfect|awesome|good|fine|got it|i see|alright|all right|right|wow|lol|haha+|hm+|understood|makes sense)` + politeness)
	whoIsIt  = lazy(`(?i)^\W*(?:(?:hi|hello|hey|and|so|but)\b\W*)*(?:who (?:are|r) you|who['’]?s (?:this|there)|what are you|what(?:['’]?s| is) your name|are you (?:an? |the )?(?:\w+ )?(?:ai|bot|robot|human|person|real|gemini|chatgpt|gpt|llm|model|machine|alive|sentient|assistant|offline)|(?:what|which) (?:\w+ )?(?:model|llm|ai) (?:are you|is this|do you use|am i talking to|powers you)|who (?:made|built|created|wrote) you|am i (?:talking|speaking|chatting) (?:to|with) .{1,30}|introduce yourself|tell me about yourself)\b` + politeness)
	helping  = lazy(`(?i)^\W*(?:(?:hi|hello|hey|and|so|ok|okay|but)\b\W*)*(?:help(?: me)?|/help|what (?:can|could|do) you do(?: for me)?|what (?:can|could|should) i (?:ask|do|say)(?: you| here)*|how (?:can|could|do) you help(?: me)?|can you help(?: me)?|i need (?:some )?help|what (?:are your|are you) (?:capabilities|capable of|skills|features|good at)|(?:what|which) (?:tools|functions|skills) (?:do|can) you (?:have|use|call)|what (?:tools|functions) (?:are there|are available)|what do you know|what are you (?:for|able to do)|what is this(?: for)?|how does this work|how do you work|menu|commands|what now|get started|start)\b(?:\W*(?:with|about|here|for me))*` + politeness)
)

// smallTalk answers a message that is nothing else, by name where that is known.
func smallTalk(c conversation) (string, bool) {
	if len(c.question) > 200 {
		return "", false
	}
	comma := func() string {
		if name, ok := told(c.earlier).about("name"); ok {
			return ", " + name.value
		}
		return ""
	}
	switch {
	case greeting().MatchString(c.question):
		return "Hello" + comma() + "! " + offer(c.functions), true
	case howAreIt().MatchString(c.question):
		return "I am up and running" + comma() + ". " + offer(c.functions), true
	case isThanks(c.question):
		return "You are welcome" + comma() + "!", true
	case leaving().MatchString(c.question):
		return "Goodbye" + comma() + "!", true
	case nodding().MatchString(c.question):
		return "All right" + comma() + ". " + offer(c.functions), true
	case whoIsIt().MatchString(c.question):
		return "I stand in for the model while none is set up: I choose a tool that fits the question and show what it returns. " + offer(c.functions), true
	case helping().MatchString(c.question):
		return offer(c.functions), true
	}
	return "", false
}

// isThanks says whether the message thanks and neither asks nor tells anything
// after it.
func isThanks(question string) bool {
	rest := thanking().FindStringSubmatch(question)
	if rest == nil || isQuestion(rest[1]) {
		return false
	}
	_, tells := acknowledge(rest[1])
	return !tells
}

// decline is the answer to everything that needs a mind.
func decline(functions []function) string {
	return "I cannot answer that: it needs a model, and I only match questions in English to tools. " + offer(functions) +
		"\n\nWith `GEMINI_API_KEY` set, Gemini answers instead of me."
}

// offer lists what the functions are for, in their own words.
func offer(functions []function) string {
	if len(functions) == 0 {
		return "No tool is declared in this request, so I can only tell what was said in this session."
	}
	var b strings.Builder
	b.WriteString("This is what I can look up:\n")
	for i, f := range functions {
		if i == maxOffered {
			b.WriteString("\n- and more")
			break
		}
		b.WriteString("\n- **" + capital(topic(f.name)) + "**")
		if s := firstSentence(f.description); s != "" {
			b.WriteString(": " + s)
		}
	}
	return b.String()
}

func firstSentence(text string) string {
	if s := sentences(text); len(s) > 0 {
		return excerpt(s[0], maxQuotedBytes)
	}
	return ""
}

// askFor names what a function still needs.
func askFor(m match) string {
	var names []string
	for _, p := range m.filled.missing {
		names = append(names, "“"+humanize(p.name)+"”")
	}
	return "The tool “" + humanize(m.function.name) + "” may help, but the question does not tell me its " +
		strings.Join(names, " and ") + ". Please ask again with it."
}
