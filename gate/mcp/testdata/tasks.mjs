// Asks an agent as a task with npm's client of the Tasks extension: tasks.mjs URL WHAT.
// The requests that the SDK's own codec does not know go out by fetch, as its docs want it.
import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import { createTaskSessionFromClient } from "@modelcontextprotocol/ext-tasks/client";

const [url, what] = process.argv.slice(2);
const headers = { "X-API-Key": "key-of-ada-0123456789" };
const clientInfo = { name: "host", version: "1" };
const protocolVersion = "2026-07-28";
const clientCapabilities = { elicitation: { form: {} } };

const client = new Client(clientInfo, { capabilities: clientCapabilities, versionNegotiation: { mode: { pin: protocolVersion } } });
await client.connect(new StreamableHTTPClientTransport(new URL(url), { requestInit: { headers } }));

let id = 0;
async function rawDispatch(request, options) {
  const name = request.params.taskId ?? request.params.name;
  const answer = await fetch(url, {
    method: "POST", signal: options?.signal,
    headers: {
      ...headers, "Content-Type": "application/json", Accept: "application/json, text/event-stream",
      "Mcp-Protocol-Version": protocolVersion, "Mcp-Method": request.method, "Mcp-Name": name,
    },
    body: JSON.stringify({ jsonrpc: "2.0", id: ++id, ...request }),
  });
  const body = await answer.text();
  const data = body.startsWith("{") ? body : body.split("\n").findLast((line) => line.startsWith("data: ")).slice("data: ".length);
  const message = JSON.parse(data);
  return message.error ? { kind: "error", error: message.error } : { kind: "result", result: message.result };
}

const asked = [];
const session = createTaskSessionFromClient(client, {
  endpointId: "gatehouse", rawDispatch, v2RequestFraming: { protocolVersion, clientInfo, clientCapabilities },
  onInputRequest: async (request) => {
    asked.push(request.params.message);
    return { action: what === "decline" ? "decline" : "accept", content: {} };
  },
});
const execution = await session.callTool("ask", { query: "Pay." });
if (what === "cancel") {
  await execution.cancel();
}
const { outcome, lastTask } = await execution.settle();
console.log(JSON.stringify({
  kind: execution.kind, status: outcome.status, asked, response: outcome.result?.structuredContent?.response, failed: outcome.result?.isError ?? false,
  error: outcome.error?.message, retention: lastTask?.retentionMs ?? null,
}));
await session.close();
await client.close();
