// What an answer has beside its text: tools, thoughts, sources, searches, files,
// a typed value, and where its time went.

import { el, webAddress } from './markdown.js';

const maxShown = 20_000; // characters of a tool's result that are laid out

export function icon(name) {
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg');
  svg.setAttribute('aria-hidden', 'true');
  const use = document.createElementNS('http://www.w3.org/2000/svg', 'use');
  use.setAttribute('href', '#i-' + name);
  svg.append(use);
  return svg;
}

export const seconds = (ms) => (ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`);

const empty = (value) => value == null || (typeof value === 'object' && Object.keys(value).length === 0);

// json shows a value, of which a long one is cut.
function json(label, value) {
  const text = typeof value === 'string' ? value : JSON.stringify(value, null, 2);
  const shown = text.length > maxShown ? text.slice(0, maxShown) + '…' : text;
  return [el('p', { class: 'label' }, label), el('pre', { tabindex: '0', dir: 'ltr', role: 'region', 'aria-label': label }, shown)];
}

// A Tool is a tool call on the page: its name and state, and below them what it was
// called with, what it returned, or why it failed.
export class Tool {
  #state = el('span', { class: 'state' }, 'running');
  #more;
  #reason = el('p', { class: 'why', dir: 'auto', hidden: true });

  constructor({ name, args }) {
    this.name = name;
    this.#more = el('div', { class: 'more' });
    if (!empty(args)) this.#more.append(...json('Arguments', args));
    this.element = el('details', { class: 'tool' },
      el('summary', null, icon('tool'), el('code', null, el('bdi', null, name)), this.#state), this.#more);
    this.box = el('div', { class: 'call' }, this.element, this.#reason);
    this.#fold();
  }

  #fold() {
    const bare = !this.#more.hasChildNodes();
    this.element.classList.toggle('bare', bare);
    this.element.firstChild.tabIndex = bare ? -1 : 0;
  }

  progress(text) { this.#state.textContent = text.slice(0, 200); }

  done({ ok, duration_ms: duration, error, result }) {
    this.element.classList.add(ok ? 'ok' : 'failed');
    this.#state.textContent = `${ok ? 'done' : 'failed'}, ${seconds(duration)}`;
    if (error) {
      this.#reason.textContent = error;
      this.#reason.hidden = false;
    }
    if (result !== undefined && result !== null) this.#more.append(...json('Result', result));
    this.#fold();
  }

  unfinished() {
    this.element.classList.add('failed');
    this.#state.textContent = 'not finished';
  }

  waits() { this.#state.textContent = 'waits for you'; }
}

// approval asks a person what a run waits for. answer(approve, reason) sends the answer.
export function approval({ name, args, question, expires_at: expires }, answer) {
  const reason = el('input', { maxlength: '2000', 'aria-label': 'Reason (optional)', placeholder: 'Reason (optional)' });
  const send = (approve) => () => answer(approve, reason.value.trim());
  const more = el('details', null, el('summary', null, el('code', null, el('bdi', null, name))), el('div', { class: 'more' }, ...json('Arguments', args)));
  return el('section', { class: 'approval', 'aria-label': 'Approval' }, el('p', { class: 'question', dir: 'auto' }, question), more, reason,
    el('div', { class: 'buttons' }, el('button', { type: 'button', onclick: send(false) }, 'Deny'), el('button', { type: 'button', class: 'primary', onclick: send(true) }, 'Approve')),
    el('p', { class: 'note' }, `It waits for your answer until ${new Date(expires).toLocaleString([], { dateStyle: 'medium', timeStyle: 'short' })}.`));
}

// tools lists what the agent can use.
export function tools(list) {
  const item = ({ name, description, effect, confirm }) => el('li', null, el('code', null, el('bdi', null, name)),
    ...(effect ? [el('span', { class: 'badge' }, 'changes things')] : []), ...(confirm ? [el('span', { class: 'badge' }, 'asks first')] : []),
    el('span', { class: 'note', dir: 'auto' }, description));
  return el('ul', { class: 'tools' }, ...list.map(item));
}

// sources lists where an answer comes from. A source's title is what a page calls itself,
// so the host that its link leads to stands beside it; what is no web address is text.
export function sources(list) {
  const item = ({ title, uri }) => {
    const url = webAddress(uri);
    if (!url) return el('li', null, el('bdi', null, title || uri), title ? el('span', { class: 'host' }, uri) : '');
    return el('li', null,
      el('a', { href: url.href, title: url.href, target: '_blank', rel: 'noopener noreferrer', dir: 'auto' }, title || url.host),
      el('span', { class: 'host', dir: 'ltr' }, url.host));
  };
  return el('section', { class: 'sources' }, el('h3', null, 'Sources'), el('ol', null, ...list.map(item)));
}

// suggestions is the frame with the searches that Google's terms want shown. The HTML
// goes into a document of its own, which runs no scripts (by the frame's sandbox and by
// the document's policy) and loads nothing; its links open elsewhere.
export function suggestions(html) {
  const frame = el('iframe', { class: 'suggestions', title: 'Google Search suggestions', src: 'playground/searches.html',
    sandbox: 'allow-same-origin allow-popups allow-popups-to-escape-sandbox' });
  frame.addEventListener('load', () => {
    const inside = frame.contentDocument;
    if (!inside) return;
    const parsed = new frame.contentWindow.DOMParser().parseFromString(html, 'text/html');
    inside.body.replaceChildren(...parsed.head.querySelectorAll('style'), ...parsed.body.childNodes);
    for (const link of inside.querySelectorAll('a, area')) {
      link.target = '_blank';
      link.rel = 'noopener noreferrer';
    }
  }, { once: true });
  return frame;
}

// The images that a browser shows from a blob without running anything in them.
const images = new Set(['image/png', 'image/jpeg', 'image/gif', 'image/webp', 'image/avif', 'image/bmp']);

// file shows a file: an image, or a button that saves it. read(uri) returns its bytes as
// a Blob.
export function file({ name, type, uri, data }, read) {
  const title = name || type;
  if (!data && !uri?.startsWith('/')) return el('div', { class: 'file' }, icon('file'), el('bdi', null, title), el('span', { class: 'host' }, uri ?? 'not kept'));
  const problem = el('span', { class: 'note', role: 'status' });
  const get = async () => (data ? new Blob([Uint8Array.fromBase64?.(data) ?? Uint8Array.from(atob(data), (c) => c.charCodeAt(0))], { type }) : new Blob([await read(uri)], { type }));
  const save = el('button', { type: 'button', onclick: async () => {
    problem.textContent = '';
    try {
      const url = URL.createObjectURL(await get());
      el('a', { href: url, download: name || 'file' }).click();
      setTimeout(() => URL.revokeObjectURL(url), 60_000);
    } catch {
      problem.textContent = 'The file could not be read.';
    }
  } }, icon('file'), el('bdi', null, `Save ${title}`));
  const box = el('div', { class: 'file' }, save, problem);
  if (images.has(type)) {
    get().then((blob) => {
      const url = URL.createObjectURL(blob);
      const image = el('img', { src: url, alt: title });
      const free = () => URL.revokeObjectURL(url);
      image.addEventListener('load', free, { once: true });
      image.addEventListener('error', () => { free(); image.remove(); }, { once: true });
      box.prepend(image);
    }).catch(() => { problem.textContent = 'The image could not be read.'; });
  }
  return box;
}

// output shows the checked value of an agent with a typed answer.
export function output(value) {
  return el('details', { class: 'tool output' }, el('summary', null, icon('tool'), el('span', null, 'Typed output'), el('span', { class: 'state' })),
    el('div', { class: 'more' }, ...json('Output', value)));
}

// bar shows where the time of a turn went, as [name, milliseconds].
export function bar(phases) {
  const total = phases.reduce((sum, [, ms]) => sum + ms, 0);
  const some = phases.filter(([, ms]) => ms > 0);
  const box = el('div', { class: 'bar', 'aria-hidden': 'true' });
  for (const [name, ms] of some) {
    const piece = el('span', { 'data-phase': name, title: `${name}: ${seconds(ms)}` });
    piece.style.flexGrow = String(ms / total);
    box.append(piece);
  }
  return el('div', { class: 'time' }, box, el('p', { class: 'note' }, some.map(([name, ms]) => `${name} ${seconds(ms)}`).join(' · ')));
}
