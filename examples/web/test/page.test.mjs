// The example as it is built, in a real browser, on another port than the service.
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { chromium } from 'playwright-core';
import { build, preview } from 'vite';
import { freePort, startService } from './service.mjs';

const browserPath = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome', process.env.CHROMIUM].find(p => p && existsSync(p));
const missing = !browserPath && 'the page was not tested: install chromium, or name one in CHROMIUM';

test('the page', { skip: missing && !process.env.CI ? missing : false }, async t => {
  assert.ok(browserPath, missing);
  const root = new URL('..', import.meta.url).pathname;
  const port = await freePort();
  const origin = `http://127.0.0.1:${port}`;
  const service = await startService(origin);
  t.after(() => service.stop());
  process.env.VITE_SERVICE = service.url;
  process.env.VITE_ISSUER = service.issuer;
  const outDir = mkdtempSync(join(tmpdir(), 'gatehouse-page-'));
  t.after(() => rmSync(outDir, { recursive: true }));
  await build({ root, build: { outDir }, logLevel: 'warn' });
  const server = await preview({ root, build: { outDir }, preview: { port, strictPort: true } });
  t.after(() => server.close());
  const browser = await chromium.launch({ executablePath: browserPath, args: ['--no-sandbox'] });
  t.after(() => browser.close());
  const page = await browser.newPage();
  page.setDefaultTimeout(10_000);
  const sent = [];
  page.on('request', r => { if (r.method() === 'POST' && r.url().endsWith('/chat')) sent.push(r.postDataJSON()); });

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
  await enter();
  await ask('hello <img src=x onerror=alert(1)>');
  await page.getByText('turn 1, 12 tokens').waitFor();
  assert.equal(await page.locator('article img').count(), 0);
  await ask('use a tool');
  await page.getByText('list_stock ✓').waitFor();
  await page.getByText('turn 2,').waitFor();

  await page.getByRole('button', { name: 'Answer again' }).click();
  await page.getByText('turn 2,').waitFor();
  assert.equal(await page.locator('article').count(), 4);

  await ask('block this');
  await page.getByRole('alert').waitFor();
  assert.equal(await page.getByRole('alert').textContent(), 'The model refused to answer. Rephrase the question.');
  await ask('cut the line');
  await page.getByText('Half of').waitFor();
  await page.getByRole('alert').waitFor();
  assert.doesNotMatch(await page.getByRole('alert').textContent(), /[{}]/);

  await ask('slow please');
  await page.getByText('One moment').waitFor();
  await page.getByRole('button', { name: 'Stop' }).click();
  await page.getByRole('button', { name: 'Send' }).waitFor();

  await page.reload(); // what the service has: two turns and the one that was stopped, without what failed
  await enter();
  await page.getByText('turn 3,').waitFor();
  await page.getByText('One moment').waitFor();
  assert.equal(await page.locator('article').count(), 6);
  await ask('and now?');
  await page.getByText('turn 4,').waitFor();
  assert.ok(sent.length >= 6 && sent.every(body => body.messages.length === 1), 'only the last message is sent');
});
