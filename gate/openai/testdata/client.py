"""What OpenAI's package and LangChain do with the door, unchanged. Prints ok."""

import os

import openai
from langchain_core.messages import AIMessage, HumanMessage
from langchain_openai import ChatOpenAI

url, key, other = os.environ["DOOR_URL"], os.environ["DOOR_KEY"], os.environ["DOOR_OTHER_KEY"]
client = openai.OpenAI(base_url=url, api_key=key, max_retries=0)


def check(condition, what):
    if not condition:
        raise AssertionError(what)


models = [m.id for m in client.models.list()]
check(models[0] == "advisor", models)

completion = client.chat.completions.create(model="advisor", messages=[{"role": "user", "content": "Say echo."}])
check(completion.choices[0].message.content == "echo", completion)
check(completion.usage.total_tokens > 0, completion)

text, usage = "", None
for chunk in client.chat.completions.create(
    model="advisor", messages=[{"role": "user", "content": "Say echo."}], stream=True, stream_options={"include_usage": True}
):
    if chunk.choices and chunk.choices[0].delta.content:
        text += chunk.choices[0].delta.content
    usage = chunk.usage or usage
check(text == "echo" and usage.total_tokens > 0, (text, usage))

with client.chat.completions.stream(model="advisor", messages=[{"role": "user", "content": "Say echo."}]) as stream:
    final = stream.get_final_completion()
check(final.choices[0].message.content == "echo", final)

first = client.responses.create(model="advisor", input="Say echo.")
check(first.output_text == "echo" and first.status == "completed", first)

with client.responses.stream(model="advisor", input="Say echo.", previous_response_id=first.id) as stream:
    deltas = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
    second = stream.get_final_response()
check(deltas == "echo" and second.output_text == "echo", second)
check(client.responses.retrieve(second.id).output_text == "echo", "retrieve")

try:
    client.responses.create(model="advisor", input="Late.", previous_response_id=first.id)
    raise AssertionError("an old response went on")
except openai.ConflictError as e:
    check(e.code == "session_conflict", e)

held = client.responses.create(model="advisor", input="Say echo.", background=True)
while held.status in ("queued", "in_progress"):
    held = client.responses.retrieve(held.id)
check(held.output_text == "echo", held)
text = ""
for event in client.responses.retrieve(held.id, stream=True):
    if event.type == "response.output_text.delta":
        text += event.delta
check(text == "echo" and event.type == "response.completed", (text, event))
try:
    client.responses.cancel(held.id)
    raise AssertionError("a response that is over was canceled")
except openai.ConflictError as e:
    check(e.code == "session_conflict", e)

picture = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
seen = client.responses.create(
    model="advisor",
    input=[{"role": "user", "content": [{"type": "input_text", "text": "Say echo."}, {"type": "input_image", "image_url": picture, "detail": "auto"}]}],
)
check(seen.output_text == "echo", seen)

stranger = openai.OpenAI(base_url=url, api_key=other, max_retries=0)
try:
    stranger.responses.retrieve(second.id)
    raise AssertionError("a stranger read a response")
except openai.NotFoundError as e:
    check(e.code == "not_found", e)

client.responses.delete(second.id)
try:
    client.responses.retrieve(second.id)
    raise AssertionError("a removed response is shown")
except openai.NotFoundError:
    pass

try:
    openai.OpenAI(base_url=url, api_key="wrong", max_retries=0).models.list()
    raise AssertionError("a wrong key was admitted")
except openai.AuthenticationError as e:
    check(e.code == "unauthenticated", e)

chat = ChatOpenAI(model="advisor", base_url=url, api_key=key, max_retries=0)
answer = chat.invoke([HumanMessage("I am Ada."), AIMessage("Hello."), HumanMessage("Say echo.")])
check(answer.content == "echo" and answer.usage_metadata["total_tokens"] > 0, answer)
check("".join(chunk.content for chunk in chat.stream("Say echo.")) == "echo", "LangChain's stream")
responses = ChatOpenAI(model="advisor", base_url=url, api_key=key, max_retries=0, use_responses_api=True)
check(responses.invoke("Say echo.").text == "echo", "LangChain's Responses")

print("ok")
