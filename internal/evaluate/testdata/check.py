"""Reads a dataset by Google's own type, and prints what it has, or fails."""

import sys

from vertexai import types

dataset = types.EvaluationDataset.model_validate_json(open(sys.argv[1]).read())
for case in dataset.eval_cases:
    assert not case.model_extra, case.model_extra
    parts = [event.content.parts[0] for event in case.intermediate_events]
    print(
        dataset.candidate_name,
        case.prompt.parts[0].text,
        case.conversation_history[1].content.parts[0].text,
        parts[0].function_call.args,
        parts[1].function_response.response,
        case.responses[0].response.parts[0].text,
        case.reference.response.parts[0].text,
        sep="|",
    )
