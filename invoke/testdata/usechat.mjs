// useChat of @ai-sdk/react, rendered into jsdom: node usechat.mjs URL MAJOR GO_ON_URL
import assert from 'node:assert/strict';
import { JSDOM } from 'jsdom';

const [url, major, goOn] = process.argv.slice(2);
const { window } = new JSDOM('');
Object.assign(globalThis, { window, document: window.document });
globalThis.navigator ??= window.navigator; // newer versions of Node have their own
const React = await import('react');
const { createRoot } = await import('react-dom/client');
const { useChat } = await import(`react${major}`);
const ai = await import(`ai${major}`);

async function until(holds, what) {
  for (const end = Date.now() + 20_000; ;) {
    const found = await holds();
    if (found) return found;
    assert.ok(Date.now() < end, `${what} did not come`);
    await new Promise(next => setTimeout(next, 5));
  }
}

/** A component with useChat and the stock transport; `chat()` is what its last rendering got. */
function render(options = {}) {
  let last;
  const transport = new ai.DefaultChatTransport({ api: `${url}/chat`, headers: { 'X-AI-SDK': major } });
  const Chat = () => { last = useChat({ transport, ...options }); return null; };
  const root = createRoot(document.createElement('div'));
  root.render(React.createElement(Chat));
  return {
    chat: () => last,
    /** Waits for a rendering in which the chat is ready and something holds. */
    ready: (holds, what) => until(() => {
      assert.equal(last?.error, undefined);
      return last?.status === 'ready' && holds(last) && last;
    }, what),
    unmount: () => root.unmount(),
  };
}

const turn = n => chat => chat.messages.at(-1)?.metadata?.turn === n;
const text = message => message?.parts.filter(p => p.type === 'text').map(p => p.text).join('') ?? '';
const toolStates = message => message.parts.filter(p => p.type.startsWith('tool-')).map(p => p.state);
async function stored(id) {
  return (await (await fetch(`${url}/chat/${id}`, { headers: { 'X-AI-SDK': major } })).json()).data.messages;
}

// A conversation with a tool, whose last answer is made again.
let page = render();
let chat = await page.ready(() => true, 'the page');
await chat.sendMessage({ text: 'hello' });
await (await page.ready(turn(1), 'the first answer')).sendMessage({ text: 'look' });
chat = await page.ready(turn(2), 'the second answer');
assert.deepEqual(chat.messages.map(m => m.role), ['user', 'assistant', 'user', 'assistant']);
assert.deepEqual(toolStates(chat.messages[3]), ['output-available']);
assert.equal(text(chat.messages[3]), 'Seen 1.');
await chat.regenerate();
chat = await page.ready(c => turn(2)(c) && text(c.messages.at(-1)) === 'Seen 2.', 'the answer that is made again');
assert.equal(chat.messages.length, 4);
page.unmount();

// Another page shows what is stored, and goes on with it.
const { id } = chat;
const restored = await stored(id);
assert.deepEqual(restored.map(m => [m.role, text(m)]), chat.messages.map(m => [m.role, text(m)]));
page = render({ id, messages: restored });
await (await page.ready(() => true, 'the restored page')).sendMessage({ text: 'still there?' });
chat = await page.ready(turn(3), 'the answer after the restore');

// A page that comes while an answer is written sees it from its beginning, to its end.
const sending = chat.sendMessage({ text: 'wait' });
await until(() => text(page.chat().messages.at(-1)) === 'One', 'the first word');
const late = render({ id, messages: await stored(id), resume: true });
await until(() => text(late.chat()?.messages.at(-1)) === 'One', 'the first word on the other page');
await fetch(goOn, { method: 'POST' });
await sending;
for (const p of [page, late]) {
  chat = await p.ready(turn(4), 'the end of the answer');
  assert.equal(text(chat.messages.at(-1)), 'One two.');
}
assert.equal(page.chat().messages.at(-1).id, late.chat().messages.at(-1).id);
late.unmount();

// A stop ends the answer for good. The SDK's own only leaves, so the page posts one.
chat = page.chat();
const stopped = chat.sendMessage({ text: 'wait' });
await until(() => text(page.chat().messages.at(-1)) === 'One', 'the first word');
await page.chat().stop();
assert.equal((await fetch(`${url}/chat/${id}/stop`, { method: 'POST' })).status, 202);
await stopped;
const last = await until(async () => {
  const message = (await stored(id)).at(-1);
  return message.metadata?.finish_reason === 'STOPPED' && message;
}, 'the turn that was stopped');
assert.deepEqual([text(last), last.metadata.turn], ['One', 5]);
await (await page.ready(() => true, 'the page that has stopped')).sendMessage({ text: 'hello' });
await page.ready(turn(6), 'the answer after the stop');
page.unmount();

// A tool call that a person must agree to.
page = render({ id: ai.generateId(), sendAutomaticallyWhen: ai.lastAssistantMessageIsCompleteWithApprovalResponses });
await (await page.ready(() => true, 'the page')).sendMessage({ text: 'pay 50' });
chat = await page.ready(turn(1), 'the question to a person');
if (major === '5') { // which has no approvals
  assert.deepEqual(toolStates(chat.messages.at(-1)), ['input-available']);
  assert.match(text(chat.messages.at(-1)), /Pay 50 to Ann\?.*answer where/);
} else {
  const [part] = chat.messages.at(-1).parts.filter(p => p.type === 'tool-pay');
  assert.equal(part.state, 'approval-requested');
  await chat.addToolApprovalResponse({ id: part.approval.id, approved: true });
  chat = await page.ready(c => text(c.messages.at(-1)) === 'Seen 3.', 'the answer after the approval');
  assert.equal(chat.messages.length, 2);
  assert.deepEqual(toolStates(chat.messages.at(-1)), ['output-available']);
}
page.unmount();
console.log('ok');
process.exit(0);
