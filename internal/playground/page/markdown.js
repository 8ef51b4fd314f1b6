// Markdown as models write it, made into nodes. What is not understood stays
// text; nothing is ever parsed as HTML, and nothing is loaded. Every step takes
// time in proportion to its text, and all steps of an answer together do too.

import { coloured } from './code.js';

const maxRich = 50_000; // characters of an answer that are laid out; the rest is plain text
const maxPlain = 4_000; // characters of a part of it, so that a browser lays out only what is seen
const maxDepth = 6; // of quotes and lists in one another
const maxOpen = 20; // of emphasis in one another
const small = 2_000; // characters of a block that is made again for each piece of it
const maxStep = 1_000; // characters that are laid out at once
const maxElements = 1_000; // of a block
const maxPlainStep = 60_000; // of plain text
const long = 10_000; // characters of an answer from which on only the blocks in view are laid out
const grouped = 16; // small blocks that the browser lays out, or leaves out, together
const large = 200; // elements of a block that stands by itself
const pause = 250; // milliseconds without a piece, after which a long block is made again

// el makes an element. Names that begin with "on" are listeners, a class is
// given as class; null, undefined and false leave an attribute out.
export function el(name, attributes, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes ?? {})) {
    if (key.startsWith('on')) element.addEventListener(key.slice(2), value);
    else if (value === true) element.setAttribute(key, '');
    else if (value != null && value !== false) element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

// A Writer shows Markdown that comes piece by piece. Blocks that are complete
// are left alone; only the last one is made again. A long one is so only once it has
// grown by an eighth, or nothing has come for a while: otherwise a table of n rows
// would take n² steps.
//
// Much at once is laid out in steps, between which the page serves its user. Each step runs
// in around, so that the page can follow it.
export class Writer {
  #root;
  #around;
  #queue = ''; // what no step has taken yet
  #next = 0; // the timer of the next step
  #ending = false;
  #pending = ''; // from the last block on
  #drawn = 0; // characters of it that are on the page
  #later = 0; // the timer that draws the rest
  #kept = 0; // children of #root that stay: blocks, and groups of them
  #folded = 0; // of those, how many are no blocks to group
  #length = 0;
  #outline = []; // levels of the headings that the last block stands below
  #plain = null;

  constructor(root, around = (step) => step()) {
    this.#root = root;
    this.#around = around;
  }

  write(text) {
    this.#queue += text.replaceAll('\r', '');
    this.#ending = false;
    if (!this.#next) this.#step();
  }

  #step() {
    const rich = maxRich - this.#length;
    const text = this.#queue.slice(0, rich > 0 ? Math.min(maxStep, rich) : maxPlainStep);
    this.#queue = this.#queue.slice(text.length);
    this.#length += text.length;
    this.#root.classList.toggle('long', this.#length > long);
    if (rich > 0) {
      this.#rich(text);
    } else {
      this.#finish();
      this.#more(text);
    }
    this.#next = this.#queue === '' ? 0 : setTimeout(() => this.#around(() => this.#step()));
    if (!this.#next && this.#ending) this.#finish();
  }

  // more appends plain text. Only the last part grows, and ends where a line
  // or a word does, if it can.
  #more(text) {
    text = (this.#plain?.data ?? '') + text;
    const parts = [];
    for (let from = 0; from < text.length;) {
      let to = from + maxPlain;
      if (to < text.length) {
        const line = text.lastIndexOf('\n', to - 1);
        const word = text.lastIndexOf(' ', to - 1);
        if (line >= from) to = line + 1;
        else if (word >= from) to = word + 1;
        else if (/[\uDC00-\uDFFF]/.test(text[to])) to--; // not within a character
      }
      parts.push(document.createTextNode(text.slice(from, to)));
      from = to;
    }
    this.#plain?.parentNode.remove();
    this.#root.append(...parts.map((part) => el('p', { class: 'plain' }, part)));
    this.#plain = parts.at(-1);
  }

  #rich(text) {
    this.#pending += text;
    clearTimeout(this.#later);
    if (this.#pending.length > small && this.#pending.length - this.#drawn < this.#pending.length / 8) {
      this.#later = setTimeout(() => this.#finish(), pause);
      return;
    }
    this.#draw();
  }

  // end draws what is left, as soon as the steps before it are done. More may follow.
  end() {
    this.#ending = true;
    if (!this.#next) this.#finish();
  }

  #finish() {
    clearTimeout(this.#later);
    if (this.#drawn < this.#pending.length) this.#draw();
  }

  #draw() {
    const lines = this.#pending.split('\n');
    const found = blocks(lines, 0, [...this.#outline]);
    while (this.#root.childNodes.length > this.#kept) this.#root.lastChild.remove();
    this.#root.append(...found.map((block) => block.node));
    // A block is complete once another has begun in a line that is complete.
    let complete = 0;
    while (complete + 1 < found.length && found[complete + 1].line < lines.length - 1) complete++;
    if (complete > 0) {
      this.#kept += complete;
      this.#outline = found[complete - 1].outline;
      this.#pending = lines.slice(found[complete].line).join('\n');
      this.#fold();
    }
    this.#drawn = this.#pending.length;
    const last = found[complete];
    if (complete === found.length - 1 && last.node.getElementsByTagName('*').length > maxElements) this.#cut(lines.slice(last.line), last.node, found[complete - 1]?.outline ?? this.#outline);
  }

  // fold groups blocks that stay: with each frame the browser looks at every child of #root.
  #fold() {
    const isSmall = (block) => block.getElementsByTagName('*').length <= large;
    while (this.#kept - this.#folded >= grouped) {
      const blocks = [...this.#root.children].slice(this.#folded, this.#folded + grouped);
      const end = blocks.findIndex((block) => !isSmall(block));
      const few = end < 0 ? blocks : blocks.slice(0, end);
      if (few.length > 1) {
        const group = el('div', { class: 'blocks' });
        few[0].before(group);
        group.append(...few);
        this.#kept -= few.length - 1;
      }
      this.#folded++;
    }
  }

  // cut ends a block that goes on for long. What follows is another: the rest of a list, a
  // table with the same head. Code cannot be cut.
  #cut(lines, node, outline) {
    if (node.classList.contains('code')) return;
    const isTable = node.classList.contains('table');
    // The last line may not be whole, and whether a table goes on shows in the row before it.
    let end = lines.length - (isTable ? 2 : 1);
    if (isTable && (end < 3 || lines[0].length + lines[1].length > small)) return;
    if (end < 1) { // a line without an end
      const at = lines[0].lastIndexOf(' ') + 1 || lines[0].length;
      lines = [lines[0].slice(0, at), lines[0].slice(at)];
      end = 1;
    }
    const whole = blocks(lines.slice(0, end), 0, [...outline]);
    this.#root.lastChild.remove();
    this.#root.append(...whole.map((block) => block.node));
    this.#kept = this.#root.childNodes.length;
    this.#outline = whole.at(-1)?.outline ?? outline;
    this.#pending = [...(isTable ? lines.slice(0, 2) : []), ...lines.slice(end)].join('\n');
    this.#draw();
  }
}

const bullet = /^(\s*)([-*+]|\d{1,9}[.)])(?:\s+(.*))?$/s;
const fence = /^ {0,3}(`{3,}|~{3,})/;
const heading = /^ {0,3}(#{1,6})\s/;
const rule = /^ {0,3}([-*_])(?:\s*\1){2,}\s*$/;
const quote = /^ {0,3}> ?/;
const task = /^\[([ xX])\] /;

const blank = (line) => line.trim() === '';
const indent = (line) => line.length - line.trimStart().length;

// fenceOf is the fence that opens a block of code in line, or ''.
function fenceOf(line) {
  const marks = fence.exec(line)?.[1] ?? '';
  return marks[0] === '`' && line.trim().slice(marks.length).includes('`') ? '' : marks;
}

// table reports whether a table's head and the line below it are at i.
function table(lines, i) {
  const below = lines[i + 1];
  return below !== undefined && below.length < 2000 && lines[i].includes('|') && below.includes('-') &&
    /^[\s|:-]+$/.test(below) && cells(below).every((cell) => /^:?-+:?$/.test(cell));
}

// begins reports whether line i cannot go on with a paragraph.
function begins(lines, i) {
  const line = lines[i];
  const item = bullet.exec(line);
  return fenceOf(line) !== '' || heading.test(line) || rule.test(line) || quote.test(line) || table(lines, i) ||
    (item !== null && item[3] !== undefined && (!/\d/.test(item[2]) || parseInt(item[2], 10) === 1));
}

// blocks returns the nodes of lines, each with the line that it begins in.
// Outline has the levels of the headings above, which it goes on with.
function blocks(lines, depth, outline) {
  const found = [];
  let i = 0;
  const add = (line, node) => found.push({ line, node, outline: [...outline] });
  while (i < lines.length) {
    const line = lines[i];
    const start = i;
    if (blank(line)) {
      i++;
      continue;
    }
    const marks = fenceOf(line);
    if (marks) {
      const code = [];
      const language = line.trim().slice(marks.length).trim().split(/\s/, 1)[0].slice(0, 40);
      const inset = indent(line);
      for (i++; i < lines.length && !closes(lines[i], marks); i++) code.push(lines[i].slice(Math.min(inset, indent(lines[i]))));
      i++;
      add(start, codeBlock(code.join('\n'), language));
    } else if (heading.test(line)) {
      const level = heading.exec(line)[1].length;
      i++;
      // If the model leaves levels out, none is skipped below the page's own.
      while (outline.at(-1) >= level) outline.pop();
      outline.push(level);
      add(start, el('h' + Math.min(6, outline.length + 2), null, ...inline(line.trim().slice(level).trim().replace(/ #+$/, ''))));
    } else if (rule.test(line)) {
      i++;
      add(start, el('hr'));
    } else if (depth < maxDepth && quote.test(line)) {
      const inner = [];
      for (; i < lines.length && quote.test(lines[i]); i++) inner.push(lines[i].replace(quote, ''));
      add(start, el('blockquote', null, ...blocks(inner, depth + 1, outline).map((block) => block.node)));
    } else if (depth < maxDepth && bullet.test(line)) {
      const list = listAt(lines, i, depth, outline);
      i = list.next;
      add(start, list.node);
    } else if (table(lines, i)) {
      const rows = [];
      for (i += 2; i < lines.length && !blank(lines[i]) && lines[i].includes('|'); i++) rows.push(lines[i]);
      add(start, tableOf(line, lines[start + 1], rows));
    } else {
      const text = [line.trim()];
      for (i++; i < lines.length && !blank(lines[i]) && !begins(lines, i); i++) text.push(lines[i].trim());
      add(start, el('p', null, ...inline(text.join('\n'))));
    }
  }
  return found;
}

function closes(line, marks) {
  const text = line.trim();
  return text.length >= marks.length && text === marks[0].repeat(text.length) && indent(line) < 4;
}

function codeBlock(text, language) {
  return el('div', { class: 'code' },
    el('div', { class: 'code-head' }, el('span', null, language || 'text'), el('button', { type: 'button', class: 'quiet', 'data-copy': '' }, 'Copy')),
    el('pre', { tabindex: '0', dir: 'ltr' }, el('code', null, ...coloured(text, language))));
}

function listAt(lines, i, depth, outline) {
  const first = bullet.exec(lines[i]);
  const inset = first[1].length;
  const ordered = /\d/.test(first[2]);
  const items = [];
  let item = [];
  let gap = false; // an empty line came before
  while (i < lines.length) {
    const line = lines[i];
    if (blank(line)) {
      do i++; while (i < lines.length && blank(lines[i]));
      item.push('');
      gap = true;
      continue;
    }
    const mark = rule.test(line) ? null : bullet.exec(line);
    if (mark && mark[1].length < inset + 2 && /\d/.test(mark[2]) === ordered) {
      item = [mark[3] ?? ''];
      items.push({ lines: item, width: mark[1].length + mark[2].length + 1 });
    } else if (indent(line) >= inset + 2) {
      item.push(line.slice(Math.min(items.at(-1).width, indent(line))));
    } else if (!gap && !mark && !begins(lines, i)) {
      item.push(line.trim());
    } else {
      break;
    }
    gap = false;
    i++;
  }
  const number = ordered ? parseInt(first[2], 10) : 1;
  const node = el(ordered ? 'ol' : 'ul', { start: number !== 1 ? number : null },
    ...items.map(({ lines: own }) => {
      const done = task.exec(own[0])?.[1];
      if (done !== undefined) own[0] = own[0].slice(4);
      const li = el('li', { class: done !== undefined && 'task' }, ...blocks(own, depth + 1, outline).map((block) => block.node));
      if (done !== undefined) {
        const box = el('input', { type: 'checkbox', disabled: true, checked: done !== ' ', 'aria-label': done === ' ' ? 'To do' : 'Done' });
        (li.firstElementChild?.tagName === 'P' ? li.firstElementChild : li).prepend(box, ' ');
      }
      return li;
    }));
  return { node, next: i };
}

function cells(line) {
  const text = line.trim();
  return text.slice(text.startsWith('|') ? 1 : 0, text.endsWith('|') ? -1 : undefined).split('|', 100).map((cell) => cell.trim());
}

function tableOf(head, below, rows) {
  const sides = cells(below).map((cell) => (cell.endsWith(':') ? (cell.startsWith(':') ? 'middle' : 'right') : null));
  const row = (name, line) => el('tr', null, ...cells(line).slice(0, sides.length).map((cell, n) => el(name, { class: sides[n] }, ...inline(cell))));
  return el('div', { class: 'table', tabindex: '0', role: 'region', 'aria-label': 'Table' },
    el('table', null, el('thead', null, row('th', head)), el('tbody', null, ...rows.map((line) => row('td', line)))));
}

// What may stand in a line: an escaped character, code, a link or picture, an
// address, emphasis.
const marks = new RegExp([
  /\\([!-/:-@[-`{-~])/,
  /(`+)/,
  /!?\[([^[\]]{1,1000})\]\(<?((?:[^\s()<>[\]]|\([^\s()<>[\]]*\)){1,2000})>?(?: "[^"\n]{0,500}")?\)/,
  /(https?:\/\/[^\s<>"`[\]]{1,2000})/,
  /(\*{1,3}|_{1,3}|~~)/,
].map((part) => part.source).join('|'), 'g');

// inline returns the nodes of a paragraph's text. A picture becomes a link to it.
function inline(text, inLink = false) {
  const out = [];
  const open = []; // emphasis: its mark, and where in out it stands
  const missing = new Set(); // lengths of runs of backticks that do not close
  let from = 0;
  const plain = (to) => { if (to > from) out.push(text.slice(from, to)); };
  const pattern = new RegExp(marks); // with a position of its own: this calls itself
  for (let match; (match = pattern.exec(text)) !== null;) {
    const [all, escaped, ticks, label, target, address, emphasis] = match;
    let node;
    let end = match.index + all.length;
    if (escaped) {
      node = escaped;
    } else if (ticks) {
      const close = missing.has(ticks.length) ? -1 : closing(text, ticks, end);
      if (close < 0) {
        missing.add(ticks.length);
        continue;
      }
      const code = text.slice(end, close);
      node = el('code', { dir: 'ltr' }, code.length > 2 && code.startsWith(' ') && code.endsWith(' ') ? code.slice(1, -1) : code);
      end = close + ticks.length;
    } else if (label) {
      const url = inLink ? null : webAddress(target);
      if (!url) {
        pattern.lastIndex = match.index + 1; // what is inside may be something
        continue;
      }
      node = link(url, inline(label, true));
    } else if (address) {
      const trimmed = trimAddress(address);
      const url = inLink ? null : webAddress(trimmed);
      if (!url) continue;
      node = link(url, [trimmed]);
      end = match.index + trimmed.length;
    } else {
      plain(match.index);
      from = end;
      mark(out, open, emphasis, text[match.index - 1] ?? ' ', text[end] ?? ' ');
      continue;
    }
    plain(match.index);
    out.push(node);
    from = pattern.lastIndex = end;
  }
  plain(text.length);
  return out;
}

// closing finds the run of backticks that is as long as ticks, at from or later.
function closing(text, ticks, from) {
  for (let at = from; (at = text.indexOf('`', at)) >= 0;) {
    let end = at;
    while (text[end] === '`') end++;
    if (end - at === ticks.length) return at;
    at = end;
  }
  return -1;
}

const emphasisElements = { '*': ['em'], _: ['em'], '**': ['strong'], __: ['strong'], '***': ['strong', 'em'], ___: ['strong', 'em'], '~~': ['del'] };

// mark closes the emphasis that run ends, opens one that it begins, or keeps it
// as text.
function mark(out, open, run, before, after) {
  const inWord = run[0] === '_' && /[\p{L}\p{N}]/u.test(before) && /[\p{L}\p{N}]/u.test(after);
  if (/\S/.test(before) && !inWord) {
    const at = open.findLastIndex((entry) => entry.run === run);
    if (at >= 0) {
      let children = out.splice(open[at].index);
      children.shift();
      for (const name of emphasisElements[run].toReversed()) children = [el(name, null, ...children)];
      out.push(children[0]);
      open.length = at;
      return;
    }
  }
  if (/\S/.test(after) && !inWord && open.length < maxOpen) open.push({ run, index: out.length });
  out.push(run);
}

// trimAddress leaves out what ends the sentence rather than the address.
function trimAddress(text) {
  let end = text.length;
  while (end > 0 && ('.,;:!?\'*_~'.includes(text[end - 1]) || (text[end - 1] === ')' && !text.slice(0, end).includes('(')))) end--;
  return text.slice(0, end);
}

// webAddress is the URL of text if it may become a link: http or https, and no
// name before the host that could be taken for it.
export function webAddress(text) {
  if (!/^https?:\/\//i.test(text) || !URL.canParse(text)) return null;
  const url = new URL(text);
  return (url.protocol === 'https:' || url.protocol === 'http:') && url.username === '' && url.password === '' ? url : null;
}

// link is a link that shows the host that it leads to: what the model calls it may be
// another's address. inline returns the address itself as its only text where it has no
// other.
function link(url, children) {
  const named = children.length === 1 && typeof children[0] === 'string' && webAddress(children[0])?.host === url.host;
  return el('a', { href: url.href, title: url.href, target: '_blank', rel: 'noopener noreferrer', 'data-host': named ? null : url.host }, ...children);
}
