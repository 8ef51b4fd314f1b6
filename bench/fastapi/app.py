"""The agent as a FastAPI server, as the documents of FastAPI and google-genai have it.

The client is shared, its calls are asynchronous, and a session is a chat in memory.
Nobody is identified and nothing is limited.
"""

import json
import uuid

from fastapi import FastAPI, Header
from fastapi.responses import StreamingResponse
from google import genai
from pydantic import BaseModel

MODEL = "gemini-2.5-flash"

app = FastAPI()
client = genai.Client()  # the key and the model's address come from the environment
chats = {}


class Question(BaseModel):
    query: str
    session_id: str | None = None


@app.get("/health/live")
async def live():
    return {"status": "ok"}


@app.post("/")
async def ask(question: Question, accept: str = Header("application/json")):
    session = question.session_id or str(uuid.uuid4())
    if session not in chats:
        chats[session] = client.aio.chats.create(model=MODEL)
    chat = chats[session]
    if accept == "text/event-stream":
        return StreamingResponse(events(chat, question.query), media_type="text/event-stream")
    answer = await chat.send_message(question.query)
    return {"response": answer.text, "session_id": session}


async def events(chat, query):
    async for chunk in await chat.send_message_stream(query):
        yield "data: " + json.dumps({"text": chunk.text}) + "\n\n"
