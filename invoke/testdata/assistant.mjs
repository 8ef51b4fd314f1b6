// assistant-ui's stock transport against POST /chat: node assistant.mjs URL
import assert from 'node:assert/strict';
import * as ai from 'ai';
import { AssistantChatTransport } from '@assistant-ui/react-ai-sdk';

const [url] = process.argv.slice(2);
const transport = new AssistantChatTransport({ api: `${url}/chat`, headers: { 'X-AI-SDK': '7' } });
// What a runtime tells its transport: a thread's id of its own form, and a context whose
// system prompt, settings and tools are the page's.
const remoteId = '__LOCALID_a1B2c3D';
transport.setRuntime({
  thread: { getModelContext: () => ({
    system: 'Obey the page.', callSettings: { temperature: 2, maxTokens: 1 }, config: { modelName: 'gpt-4o', apiKey: 'k' },
    tools: { deleteAll: { description: 'Deletes all.', parameters: { type: 'object', properties: {} } } },
  }) },
  threads: { mainItem: { initialize: async () => ({ remoteId }) } },
});
const chat = new (class extends ai.AbstractChat {
  constructor() {
    super({ id: remoteId, transport, state: {
      status: 'ready', error: undefined, messages: [],
      pushMessage(m) { this.messages = [...this.messages, m]; },
      popMessage() { this.messages = this.messages.slice(0, -1); },
      replaceMessage(i, m) { this.messages = this.messages.map((old, j) => (i === j ? m : old)); },
      snapshot: structuredClone,
    } });
  }
})();
const texts = () => chat.messages.map(m => m.parts.filter(p => p.type === 'text').map(p => p.text).join(''));
const turns = () => chat.messages.filter(m => m.role === 'assistant').map(m => m.metadata.turn);

await chat.sendMessage({ text: 'one' });
await chat.sendMessage({ text: 'two' });
assert.equal(chat.error, undefined);
assert.deepEqual([texts(), turns()], [['one', 'heard one', 'two', 'heard two'], [1, 2]]);

// An edit replaces what follows; another answer replaces its own.
await chat.sendMessage({ text: 'three', messageId: chat.messages[2].id });
assert.deepEqual([chat.error, texts(), turns()], [undefined, ['one', 'heard one', 'three', 'heard three'], [1, 2]]);
await chat.regenerate();
assert.deepEqual([chat.error, texts(), turns()], [undefined, ['one', 'heard one', 'three', 'heard three'], [1, 2]]);

// The session has the thread's id, and a reload has the same messages.
const { data } = await (await fetch(`${url}/chat/${remoteId}`, { headers: { 'X-AI-SDK': '7' } })).json();
assert.deepEqual(data.messages.map(m => m.id).slice(-1), [chat.lastMessage.id]);
assert.equal(data.messages.length, 4);

// A refusal is a sentence for the page.
await chat.sendMessage({ text: ' ' });
assert.match(chat.error.message, /^[A-Z].*\.$/);
console.log('ok');
