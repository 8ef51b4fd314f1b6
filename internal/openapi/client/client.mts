// A frontend's way through the service, by a client that is generated from the
// document: node client.mjs URL.
import assert from "node:assert/strict";
import createClient from "openapi-fetch";
import type { components, paths } from "./api.d.ts";

type StreamEvent = components["schemas"]["StreamEvent"];

const baseUrl = process.argv[2];
assert(baseUrl, "the service's URL is missing");
const client = createClient<paths, "application/json">({ baseUrl });

// One turn, and another in its session.
const first = await client.POST("/invoke", {
  params: { header: { "Idempotency-Key": crypto.randomUUID() } },
  body: { query: "My name is Ada.", temperature: 0 },
});
// Without the header Prefer, the answer is a turn and not a run that goes on.
assert(first.data?.success && "turn" in first.data.data, `no turn: ${JSON.stringify(first.error)}`);
const { session_id: id, turn, usage } = first.data.data;
assert.equal(turn, 1);
assert(usage.total_tokens > 0);

const second = await client.POST("/invoke", { body: { query: "What is my name?", session_id: id, after_turn: turn } });
assert(second.data?.success && "turn" in second.data.data, `no turn: ${JSON.stringify(second.error)}`);
assert.match(second.data.data.response, /Ada/);

// The same as a stream, event by event.
const streamed = await client.POST("/invoke", {
  body: { query: "What is the price of an apple?", session_id: id, stream: true },
  headers: { Accept: "text/event-stream" },
  parseAs: "stream",
});
assert(streamed.data, `no stream: ${JSON.stringify(streamed.error)}`);
let text = "";
const names = new Set<StreamEvent["event"]>();
for (const event of await events(streamed.data)) {
  names.add(event.event);
  switch (event.event) {
    case "delta":
      text += event.data.text;
      break;
    case "done":
      assert.equal(event.data.data.response, text);
      break;
  }
}
assert.deepEqual([...names], ["start", "tool_call", "tool_result", "delta", "done"]);

// What is kept of it.
const opinion = await client.PUT("/sessions/{id}/turns/{turn}/feedback", {
  params: { path: { id, turn } },
  body: { score: 1, comment: "It knows my name." },
});
assert.equal(opinion.response.status, 204);
const renamed = await client.PUT("/sessions/{id}/title", { params: { path: { id } }, body: { title: "Names" } });
assert.equal(renamed.response.status, 204);
const page = await client.GET("/sessions/{id}", { params: { path: { id }, query: { limit: 2 } } });
assert.deepEqual(page.data?.data.turns.map((t) => t.turn), [1, 2]);
assert.equal(page.data?.data.session.turns, 3);
const rest = await client.GET("/sessions/{id}", {
  params: { path: { id }, query: { cursor: page.data?.data.next_cursor ?? "" } },
});
assert.deepEqual(rest.data?.data.turns.map((t) => t.turn), [3]);
const list = await client.GET("/sessions", { params: { query: { limit: 1 } } });
assert.equal(list.data?.data.sessions[0]?.session_id, id);
const spent = await client.GET("/usage");
assert.equal(spent.data?.data.limits[0]?.unit, "calls_per_minute");

// Errors are typed too.
const refused = await client.POST("/invoke", { body: { query: " " } });
assert.equal(refused.error?.error, "validation_failed");
assert.equal(refused.error?.details?.[0]?.field, "query");
assert.equal((await client.DELETE("/sessions/{id}", { params: { path: { id } } })).response.status, 204);
const gone = await client.GET("/sessions/{id}", { params: { path: { id } } });
assert.equal(gone.error?.error, "session_not_found");

assert.equal((await client.GET("/health")).data?.data.status, "healthy");
console.log("the generated client works");

// events reads a whole event stream.
async function events(body: ReadableStream<Uint8Array>): Promise<StreamEvent[]> {
  const all: StreamEvent[] = [];
  for (const block of (await new Response(body).text()).split("\n\n")) {
    const event = /^event: (.*)$/m.exec(block)?.[1];
    const data = /^data: (.*)$/m.exec(block)?.[1];
    if (event !== undefined && data !== undefined) all.push({ event, data: JSON.parse(data) } as StreamEvent);
  }
  return all;
}
