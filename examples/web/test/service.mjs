// The real service for a test: the local program of the service's own tests, the example's issuer, and a stand-in for Gemini that does what a question says.
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:http';
import { createServer as createPort } from 'node:net';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';

const root = new URL('../../..', import.meta.url).pathname;

export async function freePort() {
  const server = createPort().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  await new Promise(closed => server.close(closed));
  return port;
}

/** A process that has said `ready`: the address it serves at, and its end. */
async function start(command, args, env) {
  const child = spawn(command, args, { env: { ...process.env, ...env }, stdio: ['ignore', 'pipe', 'inherit'] });
  let said = '';
  const address = await new Promise((found, failed) => {
    child.stdout.on('data', data => {
      said += data;
      const match = /(?:ready|anybody) at (http:\/\/127\.0\.0\.1:\d+)/.exec(said);
      if (match) found(match[1]);
    });
    child.once('exit', code => failed(new Error(`${command} ended with ${code}: ${said}`)));
  });
  return {
    address,
    async stop() {
      if (child.exitCode !== null) return;
      child.kill('SIGTERM');
      await once(child, 'exit');
    },
  };
}

/** Gemini's API, as far as an agent needs it. What it is asked decides what it does. */
async function startGemini() {
  const calls = []; // the prompts, and when a client went away before the answer
  const server = createServer(async (request, response) => {
    let body = '';
    for await (const data of request) body += data;
    if (!request.url.includes('GenerateContent')) return response.writeHead(200).end('{}');
    const { contents, generationConfig } = JSON.parse(body);
    const question = contents.findLast(c => c.role === 'user' && c.parts.some(p => p.text))?.parts.map(p => p.text).join('');
    const call = { question, contents: contents.length, maxTokens: generationConfig?.maxOutputTokens };
    calls.push(call);
    response.on('close', () => {
      if (!response.writableEnded) call.cancelled = Date.now();
    });
    response.writeHead(200, { 'Content-Type': 'text/event-stream' });
    const chunk = (parts, more = {}) =>
      response.write(`data: ${JSON.stringify({ candidates: [{ content: { role: 'model', parts }, ...more }], usageMetadata: { promptTokenCount: 7, candidatesTokenCount: 5, totalTokenCount: 12 } })}\r\n\r\n`);
    const answered = contents.at(-1).parts.some(p => p.functionResponse);
    switch (true) {
      case question.includes('block'):
        response.write(`data: ${JSON.stringify({ promptFeedback: { blockReason: 'SAFETY' } })}\r\n\r\n`);
        break;
      case question.includes('cut') && !(question.includes('once') && calls.some(c => c !== call && c.question === question)):
        chunk([{ text: 'Half of ' }]);
        setTimeout(() => response.destroy(), 100);
        return;
      case question.includes('slow') && !(question.includes('once') && calls.some(c => c !== call && c.question === question && c.cancelled)):
        chunk([{ text: 'One moment' }]);
        return; // and nothing more, until the client goes
      case question.includes('sources'):
        chunk([{ text: 'As **they** say.' }], { finishReason: 'STOP', groundingMetadata: { groundingChunks: [{ web: { uri: 'https://example.com/page', title: 'A page' } }] } });
        break;
      case question.includes('cancel') && !answered:
        chunk([{ functionCall: { name: 'cancel_my_order', args: { number: '7' } } }], { finishReason: 'STOP' });
        break;
      case question.includes('tool') && !answered:
        chunk([{ text: 'Let me see. ' }, { functionCall: { name: 'list_stock', args: {} } }], { finishReason: 'STOP' });
        break;
      default:
        chunk([{ text: `Answer ${calls.length} ` }]);
        chunk([{ text: `to: ${question}` }], { finishReason: 'STOP' });
    }
    response.end();
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    calls,
    url: `http://127.0.0.1:${server.address().port}`,
    stop() {
      server.closeAllConnections();
      return new Promise(closed => server.close(closed));
    },
  };
}

/** Starts all of it. `origin` is the page's; `env` is more of the environment of the `agent`, a program. */
export async function startService(origin = 'http://127.0.0.1:5173', env = {}, agent = { cwd: root, path: './internal/testagent/program' }) {
  const bin = mkdtempSync(join(tmpdir(), 'gatehouse-web-'));
  for (const [cwd, path] of [[agent.cwd, agent.path], [join(root, 'examples'), './issuer']]) {
    const built = spawnSync('go', ['build', '-o', bin + '/', path], { cwd, stdio: 'inherit' });
    if (built.status !== 0) throw new Error('the service could not be built');
  }
  const gemini = await startGemini();
  const issuer = await start(join(bin, 'issuer'), ['-port', '0'], {});
  const local = await start(join(bin, basename(agent.path)), [], {
    ...env,
    PORT: '0', ENVIRONMENT: 'development', AUTH: 'oidc', OIDC_ISSUERS: `${issuer.address}|example`, ALLOWED_ORIGINS: origin,
    GEMINI_API_KEY: 'stand-in', GOOGLE_GEMINI_BASE_URL: gemini.url,
  });
  const token = async name => (await (await fetch(`${issuer.address}/token?name=${name}`, { method: 'POST' })).json()).token;
  return {
    url: local.address, issuer: issuer.address, gemini, token,
    async turns(id, name) {
      const response = await fetch(`${local.address}/sessions/${id}`, { headers: { Authorization: `Bearer ${await token(name)}` } });
      return response.status === 404 ? [] : (await response.json()).data.turns;
    },
    async messages(id, name) {
      return (await (await fetch(`${local.address}/chat/${id}`, { headers: { Authorization: `Bearer ${await token(name)}` } })).json()).data.messages;
    },
    async stopChat(id, name) {
      return (await fetch(`${local.address}/chat/${id}/stop`, { method: 'POST', headers: { Authorization: `Bearer ${await token(name)}` } })).status;
    },
    async stop() {
      await local.stop();
      await issuer.stop();
      await gemini.stop();
      rmSync(bin, { recursive: true });
    },
  };
}

/** The agent of examples/orders, whose customers approve what it cancels, and its shop. */
export async function startShop(origin) {
  const canceled = [];
  const shop = createServer((request, response) => {
    if (request.method === 'DELETE') canceled.push(request.url);
    response.end(JSON.stringify(request.method === 'DELETE' ? { number: '7', status: 'canceled' } : []));
  }).listen(0, '127.0.0.1');
  await once(shop, 'listening');
  const env = { SHOP_URL: `http://127.0.0.1:${shop.address().port}`, SHOP_KEY: 'none' };
  const service = await startService(origin, env, { cwd: join(root, 'examples'), path: './orders/local' });
  return { ...service, canceled, stop: async () => { await service.stop(); shop.closeAllConnections(); shop.close(); } };
}

/** Waits until `holds` gives something, and fails after ten seconds. */
export async function until(holds, what) {
  const end = Date.now() + 10_000;
  for (;;) {
    const got = await holds();
    if (got) return got;
    if (Date.now() > end) throw new Error(`waited in vain for ${what}`);
    await new Promise(next => setTimeout(next, 20));
  }
}
