package advisor

import (
	"context"
	"errors"
	"time"
	"unicode/utf8"

	"example.com/gatehouse/tool"
)

// A choice is what somebody has decided on, kept for the user who did, in all sessions.
type choice struct {
	Choice string `json:"choice,omitempty"`
	Date   string `json:"date,omitempty"`
}

var chosen = tool.UserState[choice]("choice")

// maxChoice bounds a choice, in characters.
const maxChoice = 200

// myChoiceIn are the arguments of remember_my_choice.
type myChoiceIn struct {
	Choice string `json:"choice,omitempty" jsonschema:"what was decided on just now, in a few words; leave it out to recall the last one"`
}

// myChoiceOut is the output of remember_my_choice.
type myChoiceOut struct {
	choice
	Note string `json:"note,omitempty"`
}

func myChoiceTool() tool.Tool {
	return tool.New("remember_my_choice",
		"Remembers what the user says to have chosen or decided, and recalls it later, in other conversations too. Call it also when advice depends on what was chosen earlier.",
		rememberMyChoice, tool.Show())
}

func rememberMyChoice(ctx context.Context, in myChoiceIn) (myChoiceOut, error) {
	if in.Choice == "" {
		c, err := chosen.Get(ctx)
		if err == nil && c.Choice == "" {
			return myChoiceOut{Note: "Nothing was chosen yet."}, nil
		}
		return myChoiceOut{choice: c}, err
	}
	if utf8.RuneCountInString(in.Choice) > maxChoice {
		return myChoiceOut{}, errors.New("say it in at most 200 characters")
	}
	now := choice{in.Choice, time.Now().UTC().Format(time.DateOnly)}
	err := chosen.Update(ctx, func(c *choice) error {
		*c = now
		return nil
	})
	return myChoiceOut{choice: now}, err
}
