// DefaultChatTransport of each major version that is in use, without a page.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import * as ai5 from 'ai5';
import * as ai6 from 'ai6';
import * as ai7 from 'ai';
import { startService, until } from './service.mjs';

let service;
before(async () => { service = await startService(); });
after(() => service.stop());

for (const [version, ai] of Object.entries({ ai5, ai6, ai7 })) {
  describe(version, () => {
    const transport = () => new ai.DefaultChatTransport({
      api: `${service.url}/chat`,
      headers: async () => ({ Authorization: `Bearer ${await service.token(version)}`, 'X-AI-SDK': version.slice(2) }),
    });
    const message = text => ({ id: ai.generateId(), role: 'user', parts: [{ type: 'text', text }] });
    const send = async (chatId, messages, more = {}) => {
      const stream = await transport().sendMessages({ chatId, messages, trigger: 'submit-message', messageId: undefined, abortSignal: undefined, ...more });
      const parts = [];
      for await (const part of stream) parts.push(part);
      return parts;
    };

    test('text, in the parts of the protocol', async () => {
      const id = ai.generateId();
      const parts = await send(id, [message('hello')]);
      assert.deepEqual(parts.map(p => p.type), ['start', 'text-start', 'text-delta', 'text-delta', 'text-end', 'finish']);
      const { turn, usage, request_id } = parts.at(-1).messageMetadata;
      assert.equal(turn, 1);
      assert.equal(usage.total_tokens, 12);
      assert.match(request_id, /^[A-Za-z0-9._-]+$/);
      assert.equal((await service.turns(id, version)).length, 1);
    });

    test('a conversation, as the SDK makes its message', async () => {
      const id = ai.generateId();
      const stream = await transport().sendMessages({ chatId: id, messages: [message('use a tool')], trigger: 'submit-message' });
      let last;
      for await (const state of ai.readUIMessageStream({ stream })) last = state;
      assert.deepEqual(last.parts.map(p => p.type), ['text', 'tool-list_stock', 'text']);
      assert.equal(last.parts[1].state, 'output-available');
      assert.equal(last.parts[1].output.ok, true);
      assert.equal(last.metadata.turn, 1);
      const parts = await send(id, [message('use a tool'), last, message('thanks')]);
      assert.equal(parts.at(-1).messageMetadata.turn, 2);
    });

    test('an error before the stream is the service\'s own', async () => {
      await assert.rejects(send('short', [message('hello')]), error => {
        assert.equal(error.responseBody ?? error.message, 'Part of what was sent is missing or not valid. Check it and try again.');
        return true;
      });
      const parts = await send(ai.generateId(), [message('block this')]);
      assert.equal(parts.at(-1).errorText, 'The model refused to answer. Rephrase the question.');
      await assert.rejects(send('short', [message('hello')], { headers: { Authorization: `Bearer ${await service.token(version)}`, Accept: 'application/json' } }), error => {
        assert.equal(JSON.parse(error.responseBody ?? error.message).details[0].field, 'id');
        return true;
      });
    });

    test('no credential', async () => {
      const bare = new ai.DefaultChatTransport({ api: `${service.url}/chat` });
      await assert.rejects(bare.sendMessages({ chatId: ai.generateId(), messages: [message('hello')], trigger: 'submit-message' }), error => {
        assert.equal(error.responseBody ?? error.message, 'You are not signed in, or your sign-in has expired. Sign in and try again.');
        return true;
      });
    });

    test('an error within the stream ends it', async () => {
      const parts = await send(ai.generateId(), [message('cut the line')]);
      const again = parts.findLastIndex(p => p.type === 'reset-step') + 1; // 7 is shown that further attempts begin
      assert.equal(again > 0, version === 'ai7');
      assert.deepEqual(parts.slice(again).map(p => p.type), [...again ? [] : ['start'], 'text-start', 'text-delta', 'text-end', 'error']);
      assert.match(parts.at(-1).errorText, /^[A-Z].*\.$/);
    });

    test('a stop ends the model\'s call, and the turn has what was shown', async () => {
      const id = ai.generateId();
      const abort = new AbortController();
      const stream = await transport().sendMessages({ chatId: id, messages: [message('slow please')], trigger: 'submit-message', abortSignal: abort.signal });
      const reader = stream.getReader();
      while ((await reader.read()).value?.type !== 'text-delta'); // the model has been asked
      const call = service.gemini.calls.at(-1);
      assert.equal(call.question, 'slow please');
      abort.abort(); // only leaves
      const stopped = Date.now();
      assert.equal(await service.stopChat(id, version), 202);
      await until(() => call.cancelled, 'the model\'s call to end');
      assert.ok(call.cancelled >= stopped && call.cancelled - stopped < 1500, `${call.cancelled - stopped} ms`);
      const [turn] = await until(async () => { const all = await service.turns(id, version); return all.length && all; }, 'the turn');
      assert.deepEqual([turn.query, turn.response, turn.finish_reason], ['slow please', 'One moment', 'STOPPED']);
    });

    test('to regenerate replaces the last turn', async () => {
      const id = ai.generateId();
      await send(id, [message('one')]);
      await send(id, [message('two')], { body: { after_turn: 1 } });
      const before = await service.turns(id, version);
      const parts = await send(id, [message('two')], { trigger: 'regenerate-message', body: { after_turn: 2 } });
      assert.equal(parts.at(-1).messageMetadata.turn, 2);
      const after = await service.turns(id, version);
      assert.deepEqual(after.map(t => t.query), ['one', 'two']);
      assert.equal(after[0].response, before[0].response);
      assert.notEqual(after[1].response, before[1].response);
    });

    test('there is no stream to resume', async () => {
      assert.equal(await transport().reconnectToStream({ chatId: ai.generateId() }), null);
    });

    test('another caller\'s id is another session', async () => {
      const id = ai.generateId();
      await send(id, [message('mine')]);
      const other = await fetch(`${service.url}/sessions/${id}`, { headers: { Authorization: `Bearer ${await service.token('somebody')}` } });
      assert.equal(other.status, 404);
      const headers = { Authorization: `Bearer ${await service.token('somebody')}` };
      const parts = await send(id, [message('theirs')], { headers });
      assert.equal(parts.at(-1).messageMetadata.turn, 1);
      assert.deepEqual((await service.turns(id, version)).map(t => t.query), ['mine']);
    });
  });
}
