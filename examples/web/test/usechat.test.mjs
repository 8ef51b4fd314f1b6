// useChat itself, rendered into jsdom.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { JSDOM } from 'jsdom';
import { startService, until } from './service.mjs';

let service, React, createRoot, useChat, DefaultChatTransport, generateId;
before(async () => {
  service = await startService();
  const { window } = new JSDOM('<div id="root"></div>');
  Object.assign(globalThis, { window, document: window.document });
  globalThis.navigator ??= window.navigator; // newer versions of Node have their own
  React = await import('react');
  ({ createRoot } = await import('react-dom/client'));
  ({ useChat } = await import('@ai-sdk/react'));
  ({ DefaultChatTransport, generateId } = await import('ai'));
});
after(() => service.stop());

/** A component with useChat; `chat()` is what its last rendering got. */
function render(options = {}) {
  let last;
  const transport = new DefaultChatTransport({
    api: `${service.url}/chat`,
    headers: async () => ({ Authorization: `Bearer ${await service.token('user')}` }),
  });
  const Chat = () => { last = useChat({ transport, ...options }); return null; };
  const root = createRoot(document.createElement('div'));
  root.render(React.createElement(Chat));
  return { chat: () => last, settled: () => until(() => last && ['ready', 'error'].includes(last.status) && last, 'the chat to settle'), unmount: () => root.unmount() };
}

const text = message => message.parts.filter(p => p.type === 'text').map(p => p.text).join('');

test('a conversation, regenerated and resumed elsewhere', async () => {
  const page = render({ resume: true });
  let chat = await page.settled();
  await chat.sendMessage({ text: 'hello' });
  await (await page.settled()).sendMessage({ text: 'use a tool' });
  chat = await page.settled();
  assert.deepEqual(chat.messages.map(m => m.role), ['user', 'assistant', 'user', 'assistant']);
  assert.equal(chat.messages[3].metadata.turn, 2);
  assert.ok(chat.messages[3].parts.some(p => p.type === 'tool-list_stock' && p.state === 'output-available'));
  const before = text(chat.messages[3]);
  await chat.regenerate();
  chat = await page.settled();
  assert.equal(chat.messages.length, 4);
  assert.equal(chat.messages[3].metadata.turn, 2);
  assert.notEqual(text(chat.messages[3]), before);
  page.unmount();

  const second = render({ id: chat.id, messages: await service.messages(chat.id, 'user') });
  await (await second.settled()).sendMessage({ text: 'still there?' });
  chat = await second.settled();
  assert.equal(chat.messages.at(-1).metadata.turn, 3);
  assert.deepEqual((await service.turns(chat.id, 'user')).map(t => t.query), ['hello', 'use a tool', 'still there?']);
  second.unmount();
});

test('a first question that fails is tried again by regenerate', async () => {
  const page = render();
  await (await page.settled()).sendMessage({ text: 'cut once' });
  let chat = await page.settled();
  assert.equal(chat.status, 'error');
  assert.match(chat.error.message, /^[A-Z].*\.$/);
  await chat.regenerate();
  chat = await page.settled();
  assert.equal(chat.error, undefined);
  assert.equal(chat.messages.at(-1).metadata.turn, 1);
  await chat.sendMessage({ text: 'block this' });
  chat = await page.settled();
  assert.equal(chat.error.responseBody ?? chat.error.message, 'The model refused to answer. Rephrase the question.');
  await chat.regenerate(); // it is blocked again, and takes nobody's place
  assert.equal((await page.settled()).status, 'error');
  assert.deepEqual((await service.turns(chat.id, 'user')).map(t => t.query), ['cut once']);
  page.unmount();
});

test('stop', async () => {
  const page = render({ id: generateId() });
  const chat = await page.settled();
  const sending = chat.sendMessage({ text: 'slow please' });
  await until(() => page.chat().messages.at(-1)?.role === 'assistant' && text(page.chat().messages.at(-1)), 'the first word');
  const call = service.gemini.calls.at(-1);
  await page.chat().stop(); // only leaves
  assert.equal(await service.stopChat(chat.id, 'user'), 202);
  await sending;
  assert.equal((await page.settled()).status, 'ready');
  await until(() => call.cancelled, 'the model\'s call to end');
  await until(async () => (await service.turns(chat.id, 'user')).length, 'the turn');
  await page.chat().sendMessage({ text: 'hello' });
  assert.deepEqual((await service.turns(chat.id, 'user')).map(t => [t.query, t.finish_reason]), [['slow please', 'STOPPED'], ['hello', 'STOP']]);
  page.unmount();
});
