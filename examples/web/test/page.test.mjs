// The example as it is built, in a real browser, on another port than the service.
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { chromium } from 'playwright-core';
import { build, preview } from 'vite';
import { freePort, startService, startShop, until } from './service.mjs';

const browserPath = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome', process.env.CHROMIUM].find(p => p && existsSync(p));
const missing = !browserPath && 'the page was not tested: install chromium, or name one in CHROMIUM';

const skip = missing && !process.env.CI ? missing : false;
const pixel = Buffer.from('iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==', 'base64');

const axe = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');

/** Fails for what axe finds on the page, light and dark, at a desk and on a phone, where the field to ask in is in view. */
async function look(page, when) {
  const before = page.viewportSize();
  for (const size of [{ width: 900, height: 500 }, { width: 375, height: 640 }]) {
    await page.setViewportSize(size);
    for (const colorScheme of ['light', 'dark']) {
      await page.emulateMedia({ colorScheme });
      await page.evaluate(axe);
      const found = await page.evaluate(() => globalThis.axe.run().then(r => r.violations.map(v => [v.id, ...v.nodes.map(n => n.html)])));
      assert.deepEqual(found, [], `${when}, ${colorScheme}, ${size.width} wide`);
    }
    const shown = await page.evaluate(() => ({ width: document.documentElement.scrollWidth, field: document.querySelector('form').lastElementChild.getBoundingClientRect().bottom }));
    assert.ok(shown.width <= size.width && shown.field <= size.height, `${when} it is ${shown.width} wide, and its form ends at ${shown.field} of ${size.height}`);
  }
  await page.setViewportSize(before);
}

/** The page as it is built for a service that `start` starts, in a browser. */
async function openPage(t, start, more) {
  assert.ok(browserPath, missing);
  const root = new URL('..', import.meta.url).pathname;
  const port = await freePort();
  const origin = `http://127.0.0.1:${port}`;
  const service = await start(origin, more);
  t.after(() => service.stop());
  process.env.VITE_SERVICE = service.url;
  process.env.VITE_ISSUER = service.issuer;
  const outDir = mkdtempSync(join(tmpdir(), 'gatehouse-page-'));
  t.after(() => rmSync(outDir, { recursive: true }));
  await build({ root, build: { outDir }, logLevel: 'error' });
  const server = await preview({ root, build: { outDir }, preview: { port, strictPort: true } });
  t.after(() => server.close());
  const browser = await chromium.launch({ executablePath: browserPath, args: ['--no-sandbox'] });
  t.after(() => browser.close());
  const page = await browser.newPage({ viewport: { width: 900, height: 500 } });
  page.setDefaultTimeout(30_000);
  const enter = async () => {
    await page.getByLabel('Your name').fill('Ada');
    await page.getByRole('button', { name: 'Sign in' }).click();
    await page.getByLabel('Ask').waitFor();
  };
  const ask = async text => {
    await page.getByLabel('Ask').fill(text);
    await page.getByRole('button', { name: 'Send' }).click();
  };
  await page.goto(origin);
  await look(page, 'before the sign-in');
  await enter();
  return { service, origin, page, enter, ask };
}

test('the page', { skip }, async t => {
  const { page, enter, ask } = await openPage(t, startService);
  const sent = [];
  page.on('request', r => { if (r.method() === 'POST' && r.url().endsWith('/chat')) sent.push(r.postDataJSON()); });
  await ask('hello <img src=x onerror=alert(1)>');
  await page.getByText('turn 1, 12 tokens').waitFor();
  assert.equal(await page.locator('article img').count(), 0);
  await ask('use a tool');
  await page.getByText('list_stock ✓').waitFor();
  await page.getByText('turn 2,').waitFor();

  await page.getByRole('button', { name: 'Answer again' }).click();
  await page.getByText('turn 2,').waitFor();
  assert.equal(await page.locator('article').count(), 4);

  await ask('**bold** sources');
  await page.locator('article strong', { hasText: 'they' }).waitFor();
  await page.getByRole('link', { name: 'A page' }).waitFor();
  await page.waitForFunction(() => { // it follows the answer, in a soft movement
    const e = document.querySelector('[role=log]');
    return e.scrollHeight > e.clientHeight && e.scrollHeight - e.scrollTop - e.clientHeight < 40;
  });
  await page.getByRole('button', { name: 'Bad answer' }).last().click();
  await page.locator('[aria-label="Bad answer"][aria-pressed=true]').waitFor();

  await look(page, 'with answers');

  await page.getByLabel('Files').setInputFiles({ name: 'dot.png', mimeType: 'image/png', buffer: pixel });
  await ask('what is it?');
  await page.getByText('turn 4,').waitFor();
  assert.equal(await page.locator('article.user img').evaluate(e => e.naturalWidth), 1);

  await ask('block this');
  await page.getByRole('alert').waitFor();
  assert.equal(await page.getByRole('alert').textContent(), 'The model refused to answer. Rephrase the question.');
  await look(page, 'with an error');
  await ask('cut the line');
  await page.getByText('Half of').waitFor();
  await page.getByRole('alert').waitFor();
  assert.doesNotMatch(await page.getByRole('alert').textContent(), /[{}]/);

  await ask('slow please');
  await page.getByText('One moment').waitFor();
  await look(page, 'with an answer that is written');
  await page.getByLabel('Ask').fill('not yet');
  const before = sent.length;
  await page.getByRole('button', { name: 'Stop' }).click();
  await page.getByRole('button', { name: 'Send' }).waitFor();
  assert.deepEqual([await page.getByLabel('Ask').inputValue(), sent.length], ['not yet', before], 'to stop sends nothing');

  await page.reload(); // what the service has: the turns and the one that was stopped, without what failed
  await enter();
  await page.getByText('turn 5,').waitFor();
  await page.getByText('One moment').waitFor();
  await page.locator('[aria-label="Bad answer"][aria-pressed=true]').waitFor();
  assert.equal(await page.locator('article').count(), 10);
  await ask('and now?');
  await page.getByText('turn 6,').waitFor();

  await ask('slow again'); // an answer that goes on is there after a reload, with its question
  await page.getByText('One moment').nth(1).waitFor();
  await page.reload();
  await enter();
  await page.getByText('slow again').waitFor();
  await page.getByText('One moment').nth(1).waitFor();
  await page.getByRole('button', { name: 'Stop' }).click();
  await page.getByRole('button', { name: 'Send' }).waitFor();
  await page.reload();
  await enter();
  await page.getByText('turn 7,').waitFor();
  assert.equal(await page.locator('article').count(), 14);
  assert.ok(sent.length >= 8 && sent.every(body => body.messages.length === 1), 'only the last message is sent');

  const sessions = page.getByRole('navigation');
  page.once('dialog', dialog => dialog.accept('Hello there'));
  await sessions.getByRole('button', { name: 'Rename' }).click();
  await sessions.getByRole('button', { name: 'Hello there', exact: true }).waitFor();
  await page.getByRole('button', { name: 'New chat' }).click();
  await ask('another');
  await page.getByText('turn 1,').waitFor();
  await sessions.getByRole('button', { name: 'another', exact: true }).waitFor();
  await sessions.getByRole('button', { name: 'Hello there', exact: true }).click();
  await page.getByText('turn 7,').waitFor();
  page.once('dialog', dialog => dialog.accept());
  await sessions.getByRole('button', { name: 'Delete Hello there' }).click();
  await sessions.getByRole('button', { name: 'Hello there', exact: true }).waitFor({ state: 'detached' });
  assert.equal(await page.locator('article').count(), 0);
});

test('back, forward and links', { skip }, async t => {
  const { origin, page, enter, ask } = await openPage(t, startService);
  const entries = () => page.evaluate(() => history.length);
  const shown = async text => {
    await page.locator('article.user', { hasText: text }).waitFor();
    assert.equal(await page.locator('article.user').count(), 1);
  };
  const before = await entries();
  await ask('first question');
  await page.getByText('turn 1,').waitFor();
  const first = page.url();
  assert.equal(await entries(), before, 'a new chat\'s address is no entry of its own');
  await page.getByRole('button', { name: 'New chat' }).click();
  await page.locator('article').first().waitFor({ state: 'detached' });
  await ask('slow second question');
  await page.getByText('One moment').waitFor();
  const second = page.url();

  await page.goBack(); // the answer goes on without the page
  await shown('first question');
  assert.equal(page.url(), first);
  await page.locator('nav [aria-current=true]', { hasText: 'first question' }).waitFor();
  await page.goForward();
  await shown('slow second question');
  await page.getByText('One moment').waitFor();
  await page.getByRole('button', { name: 'Stop' }).click();
  await page.getByRole('button', { name: 'Send' }).waitFor();
  await page.goto(first); // in the same tab: only what is behind # is another
  await shown('first question');
  await page.goBack();
  await shown('slow second question');
  assert.equal(page.url(), second);
  await page.goto('about:blank');
  await page.goto(first);
  await enter();
  await shown('first question');
  await page.goto(`${origin}/#no-session`); // leads to a new one
  await page.locator('article').first().waitFor({ state: 'detached' });
  assert.match(page.url(), /#[\w-]{16,64}$/);

  await page.context().setOffline(true);
  await page.goBack();
  await page.getByRole('alert').waitFor();
  assert.equal(await page.getByRole('alert').textContent(), 'The service could not be reached. Is this device online?');
  assert.equal(await page.getByLabel('Ask').count(), 0);
  await page.context().setOffline(false);
  await page.getByRole('navigation').getByRole('button', { name: 'first question', exact: true }).click();
  await shown('first question');
  assert.equal(await page.getByRole('alert').count(), 0);
});

test('the seconds of a refusal count down', { skip }, async t => {
  const { service, page, enter, ask } = await openPage(t, startService, { RATE_LIMIT_PER_MINUTE: '6' });
  await page.clock.install(); // which goes on as clocks do, until it is put forward
  // What the page reads costs a tenth of a turn each, so that the limit comes with room for the last reload.
  const gone = Date.now() % 60_000;
  if (gone > 40_000) await new Promise(next => setTimeout(next, 60_000 - gone)); // with the minute the limit ends
  await page.reload();
  await enter();
  const headers = { Authorization: `Bearer ${await service.token('Ada')}`, 'Content-Type': 'application/json' };
  const call = () => fetch(`${service.url}/invoke`, { method: 'POST', headers, body: '{"query": "hello"}' });
  await until(async () => (await call()).status === 429, 'the limit');
  await ask('one too many');
  const refusal = page.getByRole('alert');
  const seconds = async () => Number(/^Too many questions at once\. Try again in (\d+) seconds?\.$/.exec(await refusal.textContent())?.[1]);
  const stated = await seconds();
  assert.ok(stated > 0, await refusal.textContent());
  await until(async () => await seconds() < stated, 'fewer seconds');
  await look(page, 'with a refusal that counts down');
  await page.clock.fastForward('01:00');
  await refusal.getByText('now.').waitFor();
  assert.equal(await refusal.textContent(), 'Too many questions at once. Try again now.');
  assert.equal(await page.getByRole('button', { name: 'Try again' }).count(), 1);
  await page.reload(); // the question is not lost
  await enter();
  await page.locator('article.user', { hasText: 'one too many' }).waitFor();
});

test('approvals', { skip }, async t => {
  const { service, page, ask } = await openPage(t, startShop);
  for (const [answer, end, count] of [['Deny', 'cancel_my_order ✗ denied', 0], ['Approve', 'cancel_my_order ✓', 1]]) {
    await ask('cancel it');
    await page.getByRole('group', { name: 'Cancel order 7?' }).waitFor();
    await look(page, 'with an approval');
    await page.getByRole('button', { name: answer }).click();
    await page.getByText(end).waitFor();
    await page.getByRole('button', { name: 'Send' }).waitFor();
    assert.equal(service.canceled.length, count);
  }
});
