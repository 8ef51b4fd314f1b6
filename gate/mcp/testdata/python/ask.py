"""Asks an agent through its MCP door with PyPI's mcp: ask.py URL MODE."""

import asyncio
import json
import sys

import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

url, mode = sys.argv[1:]
messages: list[str | None] = []


async def progress(done: float, total: float | None, message: str | None) -> None:
    messages.append(message)


async def main() -> None:
    async with httpx2.AsyncClient(headers={"X-API-Key": "key-of-ada-0123456789"}, timeout=30) as http:
        async with Client(streamable_http_client(url, http_client=http), mode=mode) as client:
            tools = [tool.name for tool in (await client.list_tools()).tools]
            first = await client.call_tool("ask", {"query": "I am Ada."}, progress_callback=progress)
            session = first.structured_content["session_id"]
            second = await client.call_tool("ask", {"query": "Who am I?", "session_id": session})
            wrong = await client.call_tool("ask", {"query": "x", "session_id": "0123456789abcdef"})
    print(json.dumps({
        "tools": tools, "first": first.structured_content["response"], "text": first.content[0].text,
        "turn": second.structured_content["turn"], "wrong": wrong.is_error, "progress": messages,
    }))


asyncio.run(main())
