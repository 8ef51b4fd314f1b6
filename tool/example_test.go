package tool_test

import (
	"context"
	"errors"
	"fmt"

	"example.com/gatehouse/tool"
)

func ExampleNew() {
	type in struct {
		Celsius float64 `json:"celsius" jsonschema:"the temperature to convert"`
		Unit    string  `json:"unit,omitempty" jsonschema:"the unit to convert to, fahrenheit when left out"`
	}
	type out struct {
		Degrees float64 `json:"degrees"`
	}
	convert := tool.New("convert_temperature", "Converts a temperature from degrees Celsius.",
		func(_ context.Context, in in) (out, error) {
			if in.Unit == "kelvin" {
				return out{in.Celsius + 273.15}, nil
			}
			return out{in.Celsius*9/5 + 32}, nil
		}, tool.Enum("unit", "fahrenheit", "kelvin"))

	ctx := context.Background()
	fmt.Println(convert.Call(ctx, map[string]any{"celsius": 20}))
	fmt.Println(convert.Call(ctx, map[string]any{"celsius": 20, "unit": "kelvin"}))
	_, err := convert.Call(ctx, map[string]any{"celsius": "warm"})
	fmt.Println(errors.Is(err, tool.ErrArguments))
	// Output:
	// map[degrees:68] <nil>
	// map[degrees:293.15] <nil>
	// true
}
