"""Calls a tool that asks a person first, with PyPI's mcp: approve.py URL MODE ACTION."""

import asyncio
import json
import sys

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.types import ElicitResult

url, mode, action = sys.argv[1:]
asked: list[str] = []


async def ask(context, params) -> ElicitResult:
    asked.append(params.message)
    return ElicitResult(action=action, content={"reason": "no money"} if action == "accept" else None)


async def main() -> None:
    async with httpx2.AsyncClient(headers={"X-API-Key": "key-of-ada-0123456789", "Idempotency-Key": "k"}, timeout=30) as http:
        async with Client(streamable_http_client(url, http_client=http), mode=mode, elicitation_callback=ask) as client:
            results = [await client.call_tool("pay_asking", {"euros": 7}) for _ in range(2)]
    print(json.dumps({
        "asked": asked, "texts": [r.content[0].text for r in results], "failed": [r.is_error for r in results],
        "replayed": [(r.meta or {}).get("gatehouse/idempotency-replayed", False) for r in results],
    }))


asyncio.run(main())
