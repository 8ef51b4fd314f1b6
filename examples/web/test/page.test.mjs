// The example as it is built, in a real browser, on another port than the service.
import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { chromium } from 'playwright-core';
import { build, preview } from 'vite';
import { freePort, startService, startShop } from './service.mjs';

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
async function openPage(t, start) {
  assert.ok(browserPath, missing);
  const root = new URL('..', import.meta.url).pathname;
  const port = await freePort();
  const origin = `http://127.0.0.1:${port}`;
  const service = await start(origin);
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
  return { service, page, enter, ask };
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
  await page.getByRole('button', { name: 'Stop' }).click();
  await page.getByRole('button', { name: 'Send' }).waitFor();

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
