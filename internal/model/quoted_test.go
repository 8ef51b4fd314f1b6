package model

import "testing"

func TestUpstreamsDoNotRepeatRequestsInTheLog(t *testing.T) {
	t.Parallel()
	tests := map[string]struct{ message, want string }{
		"nothing quoted":                   {"API key not valid.", "API key not valid."},
		"a value":                          {`Invalid value at 'contents[0].parts[0]' (Map), "my secret"`, `Invalid value at 'contents[0].parts[0]' (Map), "…"`},
		"two values":                       {`Not "this" and not "that".`, `Not "…".`},
		"quotes in a value":                {`Invalid value: "she said "no" to me" (text)`, `Invalid value: "…" (text)`},
		"half a value":                     {`Invalid value: "my sec`, `Invalid value: "…"`},
		"empty":                            {"", ""},
		"a value of two lines and another": {"Invalid: \"my\nsecret\".", `Invalid: "…"`},
		"two complaints":                   {"Unknown name \"a\": no.\nUnknown name \"b\": no.", "Unknown name \"…\": no.\nUnknown name \"…\": no."},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := unquoted(test.message); got != test.want {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}
