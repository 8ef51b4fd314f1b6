// Asks three questions, and has titles made, as LibreChat's AgentClient does for a custom
// endpoint: node librechat.mjs URL KEY MODEL
import { createContentAggregator, GraphEvents, ChatModelStreamHandler, Providers, Run } from "@librechat/agents";
import { AIMessage, HumanMessage } from "@librechat/agents/langchain/messages";

const [url, apiKey, model] = process.argv.slice(2);
const conversation = "c3f0a1de-7f7d-4f55-93c3-1f8a6f0b2c44";
const picture = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg==";

// What LibreChat's getOpenAIConfig makes of the endpoint, with the headers' placeholders filled in.
const endpoint = () => ({
  model,
  user: "68b1d6a0c0ffee0012345678",
  apiKey,
  configuration: { baseURL: url + "/v1", defaultHeaders: { "X-Conversation-Id": conversation } },
});

async function ask(messages, titled) {
  const { contentParts, aggregateContent } = createContentAggregator();
  const aggregate = { handle: (event, data) => aggregateContent({ event, data }) };
  const run = await Run.create({
    runId: crypto.randomUUID(),
    graphConfig: {
      type: "standard",
      agents: [{
        agentId: "ephemeral", provider: Providers.OPENAI, useLegacyContent: true,
        clientOptions: { provider: Providers.OPENAI, streaming: true, streamUsage: false, usage: true, ...endpoint() },
      }],
    },
    returnContent: true,
    customHandlers: {
      [GraphEvents.CHAT_MODEL_STREAM]: new ChatModelStreamHandler(),
      [GraphEvents.ON_RUN_STEP]: aggregate, [GraphEvents.ON_RUN_STEP_DELTA]: aggregate, [GraphEvents.ON_MESSAGE_DELTA]: aggregate,
    },
  });
  const config = { configurable: { thread_id: conversation, user_id: "68b1d6a0c0ffee0012345678" }, recursionLimit: 50, streamMode: "values", version: "v2" };
  const title = (contentParts) => run.generateTitle({
    provider: Providers.OPENAI, clientOptions: endpoint(), inputText: titled, contentParts,
    titleMethod: "completion", chainOptions: { runName: "TitleRun", callbacks: [], configurable: config.configurable },
  });
  const answered = run.processStream({ messages }, config);
  const immediate = titled && title([]);
  await answered;
  if (titled) console.log("titles:", await immediate, await title(contentParts)); // titleTiming: immediate, final
  const text = contentParts.map((part) => part?.text ?? "").join("");
  console.log("answer:", text);
  return text;
}

const messages = [];
for (const [i, question] of ["I am Ada.", "Who am I?", [{ type: "text", text: "What is this?" }, { type: "image_url", image_url: { url: picture, detail: "auto" } }]].entries()) {
  messages.push(new HumanMessage({ content: question }));
  messages.push(new AIMessage({ content: await ask([...messages], i === 0 && question) }));
}
