// What OpenAI's package does with the door, unchanged. Prints ok.
import assert from "node:assert";
import OpenAI from "openai";

const { DOOR_URL: baseURL, DOOR_KEY: apiKey, DOOR_OTHER_KEY: other } = process.env;
const client = new OpenAI({ baseURL, apiKey, maxRetries: 0 });
const messages = [{ role: "user", content: "Say echo." }];

const models = [];
for await (const model of client.models.list()) models.push(model.id);
assert.equal(models[0], "advisor");

const completion = await client.chat.completions.create({ model: "advisor", messages });
assert.equal(completion.choices[0].message.content, "echo");

let text = "";
for await (const chunk of await client.chat.completions.create({ model: "advisor", messages, stream: true })) {
  text += chunk.choices[0]?.delta?.content ?? "";
}
assert.equal(text, "echo");

const runner = client.chat.completions.stream({ model: "advisor", messages });
assert.equal(await runner.finalContent(), "echo");

const first = await client.responses.create({ model: "advisor", input: "Say echo." });
assert.equal(first.output_text, "echo");

const stream = client.responses.stream({ model: "advisor", input: "Say echo.", previous_response_id: first.id });
let deltas = "";
stream.on("response.output_text.delta", (event) => (deltas += event.delta));
const second = await stream.finalResponse();
assert.equal(deltas, "echo");
assert.equal(second.output_text, "echo");
assert.equal((await client.responses.retrieve(second.id)).output_text, "echo");

let held = await client.responses.create({ model: "advisor", input: "Say echo.", background: true });
while (held.status === "in_progress" || held.status === "queued") held = await client.responses.retrieve(held.id);
assert.equal(held.output_text ?? held.output[0].content[0].text, "echo");
await assert.rejects(client.responses.cancel(held.id), { status: 409, code: "session_conflict" });

await assert.rejects(client.responses.create({ model: "advisor", input: "Late.", previous_response_id: first.id }), { status: 409, code: "session_conflict" });
await assert.rejects(new OpenAI({ baseURL, apiKey: other, maxRetries: 0 }).responses.retrieve(second.id), { status: 404 });
await client.responses.delete(second.id);
await assert.rejects(client.responses.retrieve(second.id), { status: 404 });

console.log("ok");
