"""Asks the agent and prints its answer while it comes, with only Python's own library.

    python3 examples/python/ask.py "What can you do?"
    GATEHOUSE_API_KEY=… python3 examples/python/ask.py "…" --url https://invoke-….run.app
"""

import argparse
import json
import os
import sys
import urllib.error
import urllib.request


def events(response):
    """Yields the events of a stream as (name, data)."""
    name = None
    for line in response:
        field, _, value = line.decode().rstrip("\n").partition(": ")
        if field == "event":
            name = value
        elif field == "data":
            yield name, json.loads(value)


def ask(url, query, session=None):
    """Yields the pieces of the answer; returns the envelope that ends it."""
    headers = {"Content-Type": "application/json", "Accept": "text/event-stream"}
    if key := os.environ.get("GATEHOUSE_API_KEY"):
        headers["X-API-Key"] = key
    body = {"query": query} | ({"session_id": session} if session else {})
    request = urllib.request.Request(url + "/invoke", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=60) as response:
        for name, data in events(response):
            if name == "delta":
                yield data["text"]
            elif name == "error":
                raise RuntimeError(data["message"])
            elif name == "done":
                return data
    raise RuntimeError("the answer was cut off")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("query")
    parser.add_argument("--url", default="http://127.0.0.1:8080")
    parser.add_argument("--session")
    args = parser.parse_args()
    pieces = ask(args.url, args.query, args.session)
    try:
        while True:
            print(next(pieces), end="", flush=True)
    except StopIteration as end:
        data = end.value["data"]
        print(f"\n\n(session {data['session_id']}, turn {data['turn']})")
    except urllib.error.HTTPError as error:
        sys.exit(json.load(error)["message"])
    except RuntimeError as error:
        sys.exit(f"\n{error}")


main()
