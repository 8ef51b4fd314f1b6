"""What a caller knows and random data does not."""

import itertools
import re

import schemathesis

PRINTABLE = re.compile(r"[!-~]([ -~]{0,100}[!-~])?")
calls = itertools.count(1)


@schemathesis.hook
def before_load_schema(context, raw_schema):
    # The document has events as clients want them, with their data parsed. Here they are
    # compared as they are sent, with data that is text.
    for name, schema in raw_schema["components"]["schemas"].items():
        data = schema.get("properties", {}).get("data")
        if name.endswith("Event") and data:
            schema["properties"]["data"] = {"type": "string", "contentMediaType": "application/json", "contentSchema": data}
    chat = raw_schema["components"]["responses"]["Chat"]["content"]["text/event-stream"]
    chat["schema"] = {"type": "object", "required": ["data"], "properties": {"data": {"type": "string"}}}


@schemathesis.hook
def before_call(context, case, kwargs):
    headers = case.headers or {}
    # Sessions belong to who made them: one end user, or nothing that is made
    # would ever be found again. Names that are not well formed stay.
    user = headers.get("X-End-User")
    if user is None or PRINTABLE.fullmatch(user):
        headers["X-End-User"] = "schemathesis"
    # A key names one call. The same one with another body is refused (422),
    # though each alone is well formed.
    key = headers.get("Idempotency-Key")
    if key is not None and PRINTABLE.fullmatch(key):
        headers["Idempotency-Key"] = f"{key}-{next(calls)}"
    # Only a JSON answer gives the session's id to what is asked next: let most
    # answers be one.
    body = case.body
    if isinstance(body, dict) and body.get("stream") is True and next(calls) % 4:
        case.body = {**body, "stream": False}
    case.headers = headers
