// useChat of each major version goes back in a conversation: what it shows is what the service has.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import * as ai5 from 'ai5';
import * as ai6 from 'ai6';
import * as ai7 from 'ai';
import { startService, until } from './service.mjs';

let service;
before(async () => { service = await startService(); });
after(() => service.stop());

const text = message => message.parts.filter(p => p.type === 'text').map(p => p.text).join('');

for (const [version, ai] of Object.entries({ 5: ai5, 6: ai6, 7: ai7 })) {
  describe(`ai ${version}`, () => {
    /** A chat as useChat holds it: useChat of React, Vue and Svelte are this class with a state that renders. */
    class Chat extends ai.AbstractChat {
      constructor({ messages = [], body, ...init } = {}) {
        super({
          ...init,
          transport: new ai.DefaultChatTransport({
            api: `${service.url}/chat`, body,
            headers: async () => ({ Authorization: `Bearer ${await service.token(version)}`, 'X-AI-SDK': version }),
          }),
          state: {
            status: 'ready', error: undefined, messages,
            pushMessage(m) { this.messages = [...this.messages, m]; },
            popMessage() { this.messages = this.messages.slice(0, -1); },
            replaceMessage(i, m) { this.messages = this.messages.map((old, j) => (i === j ? m : old)); },
            snapshot: structuredClone,
          },
        });
      }
    }
    const restored = id => service.messages(id, version);
    const refused = chat => {
      assert.equal(chat.error?.responseBody ?? chat.error?.message, 'This conversation went on elsewhere. Reload to see it.');
    };
    const queries = async id => (await service.turns(id, version)).map(t => t.query);
    /** A chat of three turns. */
    const talked = async () => {
      const chat = new Chat({ id: ai.generateId() });
      for (const question of ['one', 'two', 'three']) await chat.sendMessage({ text: question });
      assert.equal(chat.error, undefined);
      return chat;
    };
    const same = async chat => {
      const messages = await restored(chat.id);
      assert.deepEqual(messages.map(m => [m.id, m.role, text(m)]), chat.messages.map(m => [m.id, m.role, text(m)]));
    };

    test('ids stay the same across a reload', async () => {
      const chat = await talked();
      await same(chat);
      const again = new Chat({ id: chat.id, messages: await restored(chat.id) });
      await again.sendMessage({ text: 'four' });
      assert.equal(again.error, undefined);
      await same(again);
    });

    test('an earlier question is edited: what came after it is gone', async () => {
      const chat = await talked();
      const calls = service.gemini.calls.length;
      await chat.sendMessage({ text: 'another two', messageId: chat.messages[2].id });
      assert.equal(chat.error, undefined);
      assert.deepEqual(await queries(chat.id), ['one', 'another two']);
      assert.equal(service.gemini.calls[calls].contents, 3); // the model never saw what was replaced
      assert.equal(chat.lastMessage.metadata.turn, 2);
      await same(chat);
      await chat.sendMessage({ text: 'four' });
      assert.deepEqual(await queries(chat.id), ['one', 'another two', 'four']);
    });

    test('the first question is edited after a reload', async () => {
      const chat = await talked();
      const again = new Chat({ id: chat.id, messages: await restored(chat.id) });
      await again.sendMessage({ text: 'another one', messageId: again.messages[0].id });
      assert.equal(again.error, undefined);
      assert.deepEqual(await queries(chat.id), ['another one']);
      await same(again);
    });

    test('an earlier answer is made again', async () => {
      const chat = await talked();
      const before = text(chat.messages[3]);
      await chat.regenerate({ messageId: chat.messages[3].id });
      assert.equal(chat.error, undefined);
      assert.notEqual(text(chat.messages[3]), before);
      assert.deepEqual(await queries(chat.id), ['one', 'two']);
      await chat.regenerate();
      assert.deepEqual(await queries(chat.id), ['one', 'two']);
      await same(chat);
    });

    test('two tabs: the one that fell behind is told so, and nothing is lost', async () => {
      const one = await talked();
      const two = new Chat({ id: one.id, messages: structuredClone(one.messages) });
      const empty = new Chat({ id: one.id });
      await one.sendMessage({ text: 'four' });
      await two.sendMessage({ text: 'five' });
      refused(two);
      await empty.sendMessage({ text: 'hello' });
      refused(empty);
      assert.deepEqual(await queries(one.id), ['one', 'two', 'three', 'four']);
      const reloaded = new Chat({ id: one.id, messages: await restored(one.id) });
      await reloaded.sendMessage({ text: 'five' });
      assert.deepEqual(await queries(one.id), ['one', 'two', 'three', 'four', 'five']);
      await one.regenerate(); // of the fourth, which is an earlier answer by now
      assert.deepEqual(await queries(one.id), ['one', 'two', 'three', 'four']);
    });

    test('an edit with after_turn is refused where another tab went on', async () => {
      const one = await talked();
      const two = new Chat({ id: one.id, messages: structuredClone(one.messages), body: { after_turn: 3 } });
      await one.sendMessage({ text: 'four' });
      await two.sendMessage({ text: 'another one', messageId: two.messages[0].id });
      refused(two);
      assert.deepEqual(await queries(one.id), ['one', 'two', 'three', 'four']);
    });

    test('to regenerate stops the answer that goes on', async () => {
      const chat = new Chat({ id: ai.generateId() });
      const slow = chat.sendMessage({ text: `slow once in ${version}` });
      await until(() => chat.lastMessage?.role === 'assistant' && text(chat.lastMessage), 'the first word');
      const call = service.gemini.calls.at(-1);
      await chat.stop(); // only leaves
      await slow;
      await chat.regenerate();
      assert.equal(chat.error, undefined);
      assert.ok(call.cancelled, 'the model\'s call goes on');
      assert.match(text(chat.lastMessage), /^Answer/);
      assert.deepEqual((await service.turns(chat.id, version)).map(t => [t.query, t.finish_reason]), [[`slow once in ${version}`, 'STOP']]);
      await same(chat);
    });

    test('a question after an answer that was left stops it and follows it', async () => {
      const chat = new Chat({ id: ai.generateId() });
      const slow = chat.sendMessage({ text: 'slow again' });
      await until(() => chat.lastMessage?.role === 'assistant' && text(chat.lastMessage), 'the first word');
      await chat.stop();
      await slow;
      await chat.sendMessage({ text: 'never mind' });
      assert.equal(chat.error, undefined);
      assert.deepEqual((await service.turns(chat.id, version)).map(t => [t.query, t.finish_reason]), [['slow again', 'STOPPED'], ['never mind', 'STOP']]);
    });

    test('an answer that breaks off is begun again', async () => {
      const chat = new Chat({ id: ai.generateId() });
      await chat.sendMessage({ text: `cut once in ${version}` });
      if (version < 7) { // nothing shown can be taken back
        assert.match(chat.error.message, /^[A-Z].*\.$/);
        return;
      }
      assert.equal(chat.error, undefined);
      assert.match(text(chat.lastMessage), /^Answer \d+ to: cut once in 7$/);
      await same(chat);
    });

    test('parts that only a page knows are passed over, and the body of the transport counts', async () => {
      const chat = new Chat({ id: ai.generateId(), body: { temperature: 0.1, max_tokens: 7, unknown: [{}] } });
      await chat.sendMessage({ parts: [{ type: 'data-place', data: { x: 1 } }, { type: 'text', text: 'hello' }] });
      assert.equal(chat.error, undefined);
      assert.equal(service.gemini.calls.at(-1).maxTokens, 7);
      assert.deepEqual(chat.lastMessage.metadata.warnings, ['parameter_ignored']); // the model takes no temperature
      const wrong = new Chat({ id: ai.generateId(), body: { temperature: 3 } });
      await wrong.sendMessage({ text: 'hello' });
      assert.match(wrong.error.responseBody ?? wrong.error.message, /^Part of what was sent/);
    });
  });
}
