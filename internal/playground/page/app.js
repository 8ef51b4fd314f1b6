// The page itself: what is asked, what comes back, the sessions, the settings.

import { Failure, curl, data, events, random, script, send } from './service.js';
import { Writer, el } from './markdown.js';
import { Tool, approval, bar, file, icon, output, seconds, sources, suggestions, tools } from './parts.js';

const $ = (id) => document.getElementById(id);
let agent = { tools: [], file_types: [], max_query: 10_000 }; // what the service says of it
const maxWaits = 5; // for a call with the same key that is still worked on
const maxStop = 10_000; // milliseconds until a stopped answer must have ended
const stopped = 'Stopped. The session has what was shown.';
const maxTurns = 500; // of a session, shown at once
const quiet = 1500; // milliseconds without anything new, after which the page says what it waits for

const warnings = {
  session_not_saved: 'The answer could not be stored: the session will not remember it.',
  fallback_model: 'Another model answered, because the first could not be reached.',
  history_truncated: 'Early turns were left out of the prompt: the session has grown too long for it.',
  response_truncated: 'The answer was cut off.',
  tool_rounds_exhausted: 'The agent used its tools as often as it may for one answer.',
  model_substituted: 'The model that was asked for has been replaced by another.',
  parameter_ignored: 'The model takes not all of the settings, and was asked without some.',
};

// ---- Settings, kept in the tab

const settings = { kind: 'none', secret: '', temperature: '', max_tokens: '', stream: true };
try {
  Object.assign(settings, JSON.parse(sessionStorage.getItem('gatehouse') ?? '{}'));
} catch { /* storage is off, or holds something else: the defaults do */ }

const credential = () => ({ kind: settings.kind, secret: settings.secret });

function openSettings(kind) {
  const form = $('settings').querySelector('form');
  for (const [name, value] of Object.entries(settings)) {
    if (name === 'stream') form.elements.stream.checked = value;
    else form.elements[name].value = value;
  }
  if (kind && settings.kind === 'none') form.elements.kind.value = kind;
  $('secret-problem').hidden = true;
  showSecret();
  $('settings').showModal();
  (form.elements.kind.value === 'none' ? form.querySelector('[name=kind]:checked') : form.elements.secret).focus();
}

function showSecret() {
  const form = $('settings').querySelector('form');
  form.elements.secret.disabled = form.elements.kind.value === 'none';
}

$('settings').addEventListener('change', showSecret);
$('settings').querySelector('form').addEventListener('submit', async (event) => {
  event.preventDefault();
  const form = event.target;
  const kind = form.elements.kind.value;
  const secret = form.elements.secret.value.trim().replace(/^Bearer\s+/i, '');
  const before = JSON.stringify(credential());
  const next = { kind, secret: kind === 'none' ? '' : secret };
  if (JSON.stringify(next) !== before) {
    const refused = await check(next);
    if (refused) {
      $('secret-problem').textContent = refused;
      $('secret-problem').hidden = false;
      form.elements.secret.focus();
      return;
    }
  }
  saveSettings({
    ...next, stream: form.elements.stream.checked,
    temperature: form.elements.temperature.value, max_tokens: form.elements.max_tokens.value,
  });
  $('settings').close();
  if (JSON.stringify(credential()) !== before) await credentialChanged();
});

function saveSettings(next) {
  Object.assign(settings, next);
  try {
    sessionStorage.setItem('gatehouse', JSON.stringify(settings));
  } catch { /* then it lasts until the page is loaded again */ }
}

// check asks the service whether it takes a credential. It returns why not, or ''.
async function check({ kind, secret }) {
  if (kind !== 'none' && !/^[!-~]+$/.test(secret)) {
    return secret === '' ? 'Enter the key or token, or choose “None”.' : 'A key or token has only printable ASCII characters, and no spaces.';
  }
  try {
    await data('GET', 'usage', { credential: { kind, secret } });
  } catch (error) {
    if (error.status !== 401) return ''; // it is known, or the service cannot tell now
    return kind === 'none' ? 'The service asks for a credential.' : `The service does not take this ${kind === 'key' ? 'key' : 'token'}.`;
  }
  return '';
}

// credentialChanged goes on as somebody else. A session that is open is another owner's
// now, unless it can still be read; a question that is not answered yet stays.
async function credentialChanged() {
  listSessions();
  readAgent();
  if (!session) return;
  try {
    await data('GET', `sessions/${encodeURIComponent(session)}?limit=1`, { credential: credential() });
  } catch (error) {
    if (error.code === 'session_not_found') startOver();
  }
}

// credentialForm asks for a credential where it is missed, and calls then once the service
// takes it.
function credentialForm(failure, then) {
  const kind = el('select', { 'aria-label': 'Kind of credential' }, el('option', { value: 'key' }, 'API key'), el('option', { value: 'token' }, 'Bearer token'));
  kind.value = settings.kind === 'none' ? wanted(failure) : settings.kind;
  const secret = el('input', { type: 'password', autocomplete: 'off', spellcheck: 'false', maxlength: '16384', 'aria-label': 'Key or token', placeholder: 'Key or token' });
  const note = el('p', { class: 'note', role: 'alert' });
  return el('form', { class: 'credential', onsubmit: async (event) => {
    event.preventDefault();
    const next = { kind: kind.value, secret: secret.value.trim().replace(/^Bearer\s+/i, '') };
    note.textContent = 'Checking.';
    note.textContent = await check(next);
    if (note.textContent) {
      secret.focus();
      return;
    }
    saveSettings(next);
    await credentialChanged();
    then();
  } }, el('div', { class: 'row' }, kind, secret, el('button', { type: 'submit', class: 'primary' }, 'Continue')),
  el('p', { class: 'note' }, 'Kept in this tab only, and sent to this service only.'), note);
}

for (const button of document.querySelectorAll('[data-close]')) button.addEventListener('click', () => button.closest('dialog').close());

// ---- Small parts

const button = (label, onclick, attributes) => el('button', { type: 'button', class: 'quiet', onclick, ...attributes }, label);

// say tells those who listen to the page rather than look at it.
function say(text) { $('status').textContent = text; }

// confirmed asks a question that is answered by its verb or by going away.
function confirmed(question, verb) {
  $('confirm-text').textContent = question;
  $('confirm-yes').textContent = verb;
  const dialog = $('confirm');
  dialog.returnValue = '';
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener('close', () => resolve(dialog.returnValue === 'yes'), { once: true }));
}
$('confirm').querySelector('form').addEventListener('submit', (event) => {
  event.preventDefault();
  $('confirm').close('yes');
});
$('copy').querySelector('form').addEventListener('submit', (event) => {
  event.preventDefault();
  $('copy').close();
});

async function copy(text, from) {
  try {
    await navigator.clipboard.writeText(text);
  } catch { // no clipboard without HTTPS, or it is not allowed
    $('copy-text').value = text;
    $('copy').showModal();
    $('copy-text').select();
    return;
  }
  say('Copied.');
  const label = from.textContent;
  if (label === 'Copied') return;
  from.textContent = 'Copied';
  setTimeout(() => { from.textContent = label; }, 1500);
}

document.addEventListener('click', (event) => {
  const from = event.target.closest?.('[data-copy]');
  if (from) copy(from.closest('.code').querySelector('pre').textContent, from);
});

const count = (n, one, many = one + 's') => `${n.toLocaleString('en')} ${n === 1 ? one : many}`;
const dollars = (usd) => (usd == null ? 'no price known' : usd === 0 ? '$0' : '$' + (usd < 0.01 ? usd.toFixed(6).replace(/0+$/, '') : usd.toFixed(2)));

function when(iso) {
  const date = new Date(iso);
  const today = new Date().toDateString() === date.toDateString();
  return date.toLocaleString([], today ? { hour: '2-digit', minute: '2-digit' } : { day: 'numeric', month: 'short', year: 'numeric' });
}

function facts(list) {
  return el('dl', null, ...Object.entries(list).filter(([, value]) => value != null && value !== '').flatMap(([name, value]) =>
    [el('dt', null, name), el('dd', null, el('bdi', null, String(value)))]));
}

// problem shows a failure as a person who uses the service meets it. again tries once
// more; it is what a credential that is missing is asked for.
function problem(failure, again, ...actions) {
  const about = el('p', { class: 'note' });
  if (failure.code) about.append(el('code', null, failure.code), ' ');
  if (failure.status) about.append(`status ${failure.status} `);
  if (failure.requestID) about.append('request ', el('code', null, failure.requestID));
  const box = el('div', { class: 'problem' }, el('p', { dir: 'auto' }, ...sentences(failure)));
  if (failure.details?.length) box.append(el('ul', null, ...failure.details.map((d) => el('li', null, el('code', null, d.field), ' ', el('bdi', null, d.issue)))));
  if (about.hasChildNodes()) box.append(about);
  if (failure.status === 401) box.append(credentialForm(failure, again ?? (() => box.remove())));
  else if (again) actions.unshift(button('Try again', again));
  if (actions.length) box.append(el('div', { class: 'buttons' }, ...actions));
  return box;
}

// sentences are the service's own about a failure. How long to wait is counted down.
const sentences = (failure) => (failure.until ? [failure.message.replace(/ Try again in [\w ]+\.$/, ''), ' ', countdown(failure.until)] : [failure.message]);

// countdown is when to try again, counted down while it is on the page.
function countdown(until) {
  const line = el('span', { class: 'wait' });
  const show = () => {
    const left = Math.ceil((until - performance.now()) / 1000);
    line.textContent = left > 90 ? `Try again at ${new Date(Date.now() + left * 1000).toLocaleTimeString([], { hour: '2-digit', minute: '2-digit' })}.`
      : left > 0 ? `Try again in ${count(left, 'second')}.` : 'Try again now.';
    if (left <= 0) clearInterval(timer);
  };
  const timer = setInterval(() => { if (line.isConnected) show(); else clearInterval(timer); }, 1000);
  show();
  return line;
}

// wanted is the kind of credential that the service's challenge asks for.
const wanted = (failure) => (/^ApiKey/i.test(failure.challenge) ? 'key' : 'token');

function asFailure(error) {
  return error instanceof Failure ? error : new Failure('The service’s answer could not be read.');
}

// ---- The conversation

let session = null; // its id; null before the first answer of a new one
let turnCount = 0; // as far as the page knows
let turns = []; // those on the page, in order
let running = null; // the AbortController of the answer being written
let opened = 0; // counts what was opened, so that what comes late is dropped

// follow keeps the end in view while it is in view.
function follow(change) {
  const box = $('scroll');
  const follows = atEnd();
  change();
  if (follows) box.scrollTop = box.scrollHeight;
}

// A button leads to the end of a conversation, where that is out of view.
function atEnd() {
  const box = $('scroll');
  return box.scrollHeight - box.scrollTop - box.clientHeight < 80;
}
const showJump = () => { $('jump').hidden = turns.length === 0 || atEnd(); };
$('scroll').addEventListener('scroll', showJump, { passive: true });
// The end stays in view when the room gets smaller, as by a phone's keyboard.
const sizes = new ResizeObserver((changes) => {
  const box = $('scroll');
  if ($('jump').hidden && turns.length && changes.some(({ target }) => target === box)) box.scrollTop = box.scrollHeight;
  showJump();
});
for (const part of [$('scroll'), $('turns')]) sizes.observe(part);
$('jump').addEventListener('click', () => {
  $('scroll').scrollTop = $('scroll').scrollHeight;
  $('query').focus();
});

// setSession has the page's address name the session, in a new entry of the tab's history
// where the person went there.
function setSession(id, went = false) {
  session = id;
  const hash = id ? '#session=' + id : '';
  history[went && hash !== location.hash ? 'pushState' : 'replaceState'](null, '', hash || location.pathname + location.search);
  for (const item of $('sessions').querySelectorAll('[data-id]')) {
    if (item.dataset.id === id) item.setAttribute('aria-current', 'true');
    else item.removeAttribute('aria-current');
  }
}

function startOver(next = null, went = false) {
  opened++;
  running?.abort();
  setSession(next, went);
  turnCount = 0;
  turns = [];
  editing = null;
  $('turns').replaceChildren();
  $('welcome').hidden = false;
  $('later').hidden = true;
  if ($('side').matches(':popover-open')) $('side').hidePopover();
}

// What lies below the sessions of a narrow page is out of reach until they are left.
const cover = (covered) => { for (const part of document.querySelectorAll('.skip, .column')) part.inert = covered; };
$('side').addEventListener('beforetoggle', ({ newState }) => { if (newState === 'closed') cover(false); });
$('side').addEventListener('toggle', ({ newState }) => {
  if (newState === 'closed') return;
  cover(true);
  $('side').focus();
});
matchMedia('(width >= 46rem)').addEventListener('change', () => { if ($('side').matches(':popover-open')) $('side').hidePopover(); });

// leave asks before an answer that is being written is given up.
async function leave() {
  if (!running) return true;
  if (!await confirmed('An answer is being written. Leave it? The service goes on with it, and the session will have it.', 'Leave it')) return false;
  running?.abort();
  return true;
}

$('new').addEventListener('click', async () => {
  if (!await leave()) return;
  startOver(null, true);
  $('query').focus();
});

// What each phase of a turn waits for. Tools are named.
const waits = { admission: 'Waiting for the service', model: 'Waiting for the model', commit: 'Storing the answer' };

// A Turn is one question and its answer on the page.
class Turn {
  #writer = null;
  #text = ''; // all that the answer says
  #fresh = ''; // of it, not yet on the page
  #drawn = 0; // a frame is asked for
  #tools = new Map();
  #thoughts = null; // the text of the thoughts that are being shown
  #shown = []; // {part, element, text}: what a reset takes back; text is all that came before
  #phase = null; // what the agent is doing
  #heard = 0; // when something new came
  #clock = 0; // the timer that says what is waited for

  // over are the turns that it replaces, out of sight until the service has it.
  constructor(query, files = [], over = []) {
    this.query = query;
    this.files = files;
    this.over = over;
    this.number = 0; // in the session, once it is stored
    this.refused = null; // {request, failure, actions} of one that may be asked again soon
    this.runID = '';
    this.body = el('div', { class: 'body' });
    this.wait = el('p', { class: 'note waits' });
    this.end = el('div', { class: 'end' });
    this.edit = el('button', { type: 'button', class: 'quiet icon change', 'aria-label': 'Edit the question', title: 'Edit', hidden: true, onclick: () => edit(this) }, icon('pen'));
    this.asked = el('div', { class: 'asked' }, this.edit, el('div', { class: 'ask', dir: 'auto' }, query));
    this.element = el('article', { class: 'turn' },
      el('h2', { class: 'unseen' }, 'You asked'),
      this.asked,
      ...(files.length ? [el('div', { class: 'files' }, ...files.map((f) => file(f, readFile)))] : []),
      el('h2', { class: 'unseen' }, 'The agent’s answer'),
      this.body, this.wait, this.end);
    follow(() => {
      $('turns').append(this.element);
      for (const turn of over) turn.element.hidden = true;
    });
    turns.push(this);
  }

  // leave takes it off the page, and shows again what it was to replace.
  leave() {
    this.element.remove();
    turns = turns.filter((turn) => turn !== this);
    for (const turn of this.over) turn.element.hidden = false;
    this.over = [];
  }

  // replaces says what goes when it is asked again.
  get replaces() {
    const later = turnCount - this.number;
    return later > 0 ? `the answer and the ${later === 1 ? 'turn' : `${later} turns`} after it` : 'the answer';
  }

  get text() { return this.#text; }

  // clear forgets an answer that failed, before it is asked for again.
  clear() {
    this.#text = this.#fresh = '';
    this.#writer = this.#thoughts = this.#phase = null;
    this.#tools.clear();
    this.#shown = [];
    this.refused = null;
    this.body.replaceChildren();
    this.end.replaceChildren();
  }

  // waiting shows that something is being done, until it is over.
  set waiting(on) {
    this.element.classList.toggle('waiting', on);
    clearInterval(this.#clock);
    this.wait.textContent = '';
    if (on) this.#clock = setInterval(() => this.#saysWhat(), 500);
  }

  #saysWhat() {
    const since = performance.now() - this.#heard;
    const what = waits[this.#phase] ?? `Waiting for ${[...this.#tools.values()].map(({ name }) => name).join(', ')}`;
    this.wait.textContent = since < quiet || !this.#phase ? '' : `${what}, ${Math.floor(since / 1000)} s`;
  }

  // phase begins one of the things that take the time of a turn.
  phase(name) {
    this.#heard = performance.now();
    this.#phase = name;
  }

  get #busy() { return this.#tools.size > 0; }

  // show appends something that is no text. What is said next comes below it.
  #show(element, part) {
    this.#draw();
    this.#writer = this.#thoughts = null;
    this.#shown.push({ part, element, text: this.#text });
    follow(() => this.body.append(element));
  }

  write(text, part = 0) {
    if (part !== this.#shown.at(-1)?.part || !this.#writer) {
      const box = el('div', { class: 'text', dir: 'auto' });
      this.#show(box, part);
      this.#writer = new Writer(box, follow);
    }
    this.#text += text;
    this.#fresh += text;
    this.#heard = performance.now();
    // Once a frame is enough for eyes; a page in the background has no frames.
    if (!this.#drawn) {
      this.#drawn = 1;
      const draw = () => { if (this.#drawn) this.#draw(); };
      if (document.hidden) setTimeout(draw, 200);
      else requestAnimationFrame(draw);
    }
  }

  #draw() {
    this.#drawn = 0;
    if (this.#fresh === '') return;
    follow(() => this.#writer.write(this.#fresh));
    this.#fresh = '';
  }

  // think shows a summary of the model's thoughts, folded.
  think(text, part = 0) {
    if (!this.#thoughts) {
      const box = el('div', { class: 'thoughts', dir: 'auto' });
      this.#show(el('details', { class: 'reasoning' }, el('summary', null, 'Reasoning'), box), part);
      this.#thoughts = box;
    }
    this.#thoughts.append(text);
  }

  tool(call, part = 0) {
    const tool = new Tool(call);
    this.#show(tool.box, part);
    this.#tools.set(call.id, tool);
    this.phase('tools');
    if (call.ok !== undefined && !call.waits) this.toolDone(call);
  }

  toolProgress({ id, text }) { this.#tools.get(id)?.progress(text); }

  toolDone(result) {
    const tool = this.#tools.get(result.id);
    if (!tool) return;
    this.#tools.delete(result.id);
    tool.done(result);
    if (!this.#busy) this.phase('model');
  }

  file(part, n = 0) { this.#show(file(part, readFile), n); }

  // reset takes back what was shown from a part on.
  reset(part) {
    this.#draw();
    const at = this.#shown.findIndex((shown) => shown.part >= part);
    if (at < 0) return;
    const void_ = this.#shown.splice(at);
    this.#text = void_[0].text;
    for (const { element } of void_) element.remove();
    this.#writer = this.#thoughts = null;
    this.#tools.clear();
    this.phase('model');
  }

  // stored shows a turn as the service has it: its parts in the order in which they came.
  stored(answer) {
    const parts = answer.parts ?? [];
    parts.forEach((part, i) => {
      if (part.type === 'text') this.write(part.text, i);
      else if (part.type === 'reasoning') this.think(part.text, i);
      else if (part.type === 'tool') this.tool({ ...part.tool, waits: answer.pending?.some((call) => call.call_id === part.tool.id) }, i);
      else if (part.type === 'file') this.file(part.file, i);
    });
    if (parts.length === 0) {
      answer.tool_calls.forEach((call, i) => this.tool({ ...call, id: String(i) }, i));
      for (const f of answer.files ?? []) this.file(f);
      this.write(answer.response);
    }
    this.#text = answer.response;
  }

  // awaits shows what a run waits for, each with its answer.
  awaits(pending, runID) {
    for (const call of pending) this.#tools.get(call.call_id)?.waits();
    this.end.append(...pending.map((call) => approval(call, (approve, reason) => approved(this, runID, pending, { call_id: call.call_id, approve, ...(reason && { reason }) }))));
  }

  // finish ends the answer, complete or not. Tools that wait are not over.
  finish(waiting = false) {
    this.#draw();
    this.#writer?.end();
    this.phase(null);
    this.waiting = false;
    if (waiting) return;
    for (const tool of this.#tools.values()) tool.unfinished();
    this.#tools.clear();
  }

  // closing shows what is known of an answer that is stored.
  closing(answer, more = {}) {
    const { usage, timing = {} } = answer;
    const phases = ['load', 'model', 'tools', 'commit'].map((name) => [name, timing[name + '_ms'] ?? more[name] ?? 0]);
    const total = phases.reduce((sum, [, ms]) => sum + ms, 0);
    this.#text = answer.response;
    this.number = answer.turn;
    this.runID = answer.run_id;
    this.edit.hidden = false;
    const line = [answer.model, count(usage.total_tokens, 'token'), dollars(usage.estimated_cost_usd), total && seconds(total)].filter(Boolean).join(' · ');
    const actions = el('div', { class: 'actions' }, button('Copy', (event) => copy(this.#text, event.currentTarget)));
    actions.append(button('Answer again', () => answerAgain(this), { class: 'quiet change' }));
    if (more.request?.body) actions.append(button('Copy as curl', (event) => copy(curl(more.request.body, more.request), event.currentTarget)));
    actions.append(...opinion(answer));
    const list = el('details', { class: 'facts' }, el('summary', null, el('bdi', null, line)), facts({
      Model: answer.model, Ended: answer.finish_reason,
      'Prompt tokens': `${usage.prompt_tokens.toLocaleString('en')}${usage.cached_tokens ? `, ${usage.cached_tokens.toLocaleString('en')} of them cached` : ''}`,
      'Thought tokens': usage.thought_tokens || null, 'Answer tokens': usage.completion_tokens.toLocaleString('en'),
      'Total tokens': `${usage.total_tokens.toLocaleString('en')}, ${usage.source === 'model' ? 'counted by the model' : 'estimated'}`,
      'Searches': usage.search_queries || null,
      'Estimated cost': dollars(usage.estimated_cost_usd), 'First text': more['First text'], Took: more.Took,
      Request: answer.request_id, Trace: more.Trace, Run: answer.run_id, Session: answer.session_id, Turn: answer.turn,
      Agent: answer.agent_digest, Replayed: more.Replayed, At: more.At,
    }));
    if (total) list.append(bar(phases));
    follow(() => {
      if (answer.output != null) this.end.append(output(answer.output));
      if (answer.sources?.length) this.end.append(sources(answer.sources));
      if (answer.search_suggestions) this.end.append(suggestions(answer.search_suggestions));
      for (const code of answer.warnings ?? []) this.end.append(el('p', { class: 'warning' }, warnings[code] ?? 'The service warns: ', ' ', el('code', null, code)));
      if (answer.pending?.length) this.awaits(answer.pending, answer.run_id);
      this.end.append(el('div', { class: 'foot' }, list, actions));
    });
  }
}

// readFile reads a file that the service keeps, by its path.
async function readFile(path) {
  return (await send('GET', path.replace(/^\//, ''), { credential: credential(), headers: { Accept: '*/*' } })).blob();
}

// opinion is the pair of thumbs of a stored turn, and the reason for one.
function opinion({ session_id: id, turn, feedback }) {
  const path = `sessions/${encodeURIComponent(id)}/turns/${turn}/feedback`;
  let score = feedback?.score ?? 0;
  const put = async (next, comment) => {
    try {
      await data('PUT', path, { credential: credential(), body: JSON.stringify({ score: next, ...(comment && { comment }) }) });
    } catch (error) {
      note.textContent = asFailure(error).message;
      return false;
    }
    score = next;
    for (const [thumb, value] of thumbs) thumb.setAttribute('aria-pressed', String(score === value));
    return true;
  };
  const note = el('p', { class: 'note', role: 'status' });
  const input = el('input', { maxlength: '2000', 'aria-label': 'Why? (optional)', placeholder: 'Why? (optional)' });
  const reason = el('form', { class: 'reason', hidden: true, onsubmit: async (event) => {
    event.preventDefault();
    if (await put(score, input.value.trim())) {
      reason.hidden = true;
      note.textContent = 'Thank you: it is stored with the turn.';
    }
  } }, input, el('button', { type: 'submit' }, 'Send'));
  const thumbs = [['up', 'Good answer', 1], ['down', 'Bad answer', -1]].map(([name, label, value]) => {
    const thumb = el('button', { type: 'button', class: 'quiet icon', 'aria-label': label, title: label, 'aria-pressed': String(score === value), onclick: async () => {
      note.textContent = '';
      if (!await put(score === value ? 0 : value)) return;
      reason.hidden = score === 0;
      note.textContent = score === 0 ? 'Taken back.' : 'Stored with the turn.';
    } }, icon(name));
    return [thumb, value];
  });
  return [...thumbs.map(([thumb]) => thumb), reason, note];
}

// stop ends the answer being written: the service stops the run and stores what was
// shown, so that page and session agree. Before there is a run, or when that fails, the
// page leaves.
async function stop() {
  const control = running;
  if (!control || control.stopped) return;
  control.stopped = true;
  if (!control.run) {
    control.abort();
    return;
  }
  $('hint').textContent = 'Stopping.';
  const timer = setTimeout(() => control.abort(), maxStop);
  control.signal.addEventListener('abort', () => clearTimeout(timer), { once: true });
  try {
    await send('POST', `runs/${encodeURIComponent(control.run)}/stop`, { credential: credential() });
  } catch (error) {
    if (error.status !== 409) control.abort(); // 409: it is over, and its end is on the way
  }
}

// What is being asked, and a question that is not sent yet, survive a reload of the tab.
function keep(name, value) {
  try {
    if (value == null || value === '') sessionStorage.removeItem('gatehouse-' + name);
    else sessionStorage.setItem('gatehouse-' + name, JSON.stringify(value));
  } catch { /* storage is off or full: then it lasts as long as the page */ }
}

function kept(name) {
  try {
    return JSON.parse(sessionStorage.getItem('gatehouse-' + name));
  } catch {
    return null;
  }
}

// So does what only this page knows of its latest answers, by their runs.
const maxNoted = 50;
const noted = () => new Map(kept('noted') ?? []);
const note = (runID, known) => keep('noted', [...noted().set(runID, known)].slice(-maxNoted));

// ---- Files of the question

let attached = []; // {name, type, data}: data in base64

async function attach(list) {
  for (const chosen of list) {
    const bytes = attached.reduce((sum, { size }) => sum + size, chosen.size);
    if (attached.length >= agent.max_files || bytes > agent.max_file_bytes) {
      $('hint').textContent = `A question takes ${agent.max_files} files of together ${Math.floor(agent.max_file_bytes / (1 << 20))} MiB.`;
      say($('hint').textContent);
      break;
    }
    const type = chosen.type || 'text/plain';
    if (!agent.file_types.includes(type)) {
      $('hint').textContent = `The service takes no files of the type ${type}.`;
      say($('hint').textContent);
      continue;
    }
    attached.push({ name: chosen.name, type, data: await base64(chosen), size: chosen.size });
  }
  showAttached();
}

async function base64(blob) {
  const buffer = new Uint8Array(await blob.arrayBuffer());
  return buffer.toBase64?.() ?? btoa(Array.from(buffer, (byte) => String.fromCharCode(byte)).join(''));
}

function showAttached() {
  $('attached').replaceChildren(...attached.map((f) => el('li', null, icon('file'), el('bdi', null, f.name),
    el('button', { type: 'button', class: 'quiet icon', 'aria-label': `Remove ${f.name}`, onclick: () => {
      attached = attached.filter((other) => other !== f);
      showAttached();
      $('query').focus();
    } }, icon('bin')))));
}

$('attach').addEventListener('click', () => $('files').click());
$('files').addEventListener('change', async () => {
  await attach($('files').files);
  $('files').value = '';
});
$('query').addEventListener('paste', (event) => {
  if (event.clipboardData.files.length === 0 || !agent.file_types.length) return;
  event.preventDefault();
  attach(event.clipboardData.files);
});
for (const kind of ['dragover', 'drop']) {
  document.addEventListener(kind, (event) => {
    if (!event.dataTransfer?.types.includes('Files')) return;
    event.preventDefault();
    if (kind === 'drop' && agent.file_types.length) attach(event.dataTransfer.files);
  });
}

// ask puts a question, and shows what comes of it. over are the turns that it replaces.
async function ask(query, files, over = []) {
  $('welcome').hidden = true;
  for (const turn of turns.filter((turn) => turn.over.length)) turn.leave(); // they failed
  showRefused();
  const fields = { query };
  if (files.length) fields.files = files.map(({ type, data }) => ({ type, data }));
  if (session) fields.session_id = session;
  if (over.length) Object.assign(fields, { replaces: over[0].number, after_turn: turnCount });
  if (settings.temperature !== '') fields.temperature = Number(settings.temperature);
  if (settings.max_tokens !== '') fields.max_tokens = Number(settings.max_tokens);
  // The key makes it safe to try again: the service appends the turn once.
  const request = { body: JSON.stringify(fields), stream: settings.stream, key: random(16) };
  const turn = new Turn(query, files, over);
  $('scroll').scrollTop = $('scroll').scrollHeight;
  await run(turn, request);
}

// resume asks again what was being answered when the page was left. The service knows the
// question by its key: it follows the run that goes on, or returns its answer.
async function resume({ query, session: id, body, stream, key, begun }) {
  if (id !== session || running) return;
  $('welcome').hidden = true;
  const { files, replaces } = JSON.parse(body);
  const turn = new Turn(query, files, replaces ? turns.filter((turn) => turn.number >= replaces) : []);
  $('scroll').scrollTop = $('scroll').scrollHeight;
  await run(turn, { body, stream, key, begun });
}

// ---- Questions edited, and answers made again

let editing = null; // the form that stands in the place of a question

// edit lets a question be changed in its place. What sending it replaces stands below.
function edit(turn, text = turn.query) {
  if (running) return;
  editing?.cancel();
  const field = el('textarea', { rows: '1', dir: 'auto', 'aria-label': 'Your question', 'aria-describedby': 'edit-note' });
  field.value = text;
  const lost = turn.files.some((f) => !sendable(f));
  const note = el('p', { class: 'note', id: 'edit-note' }, `Sending it replaces ${turn.replaces}.`, lost ? ' A file of the question is not kept, and does not go with it.' : '');
  const size = () => {
    field.style.height = 'auto';
    field.style.height = field.scrollHeight + 'px';
  };
  const close = () => {
    keep('edit', null);
    editing = null;
    form.replaceWith(turn.asked);
  };
  const form = el('form', { class: 'edit', onsubmit: (event) => {
    event.preventDefault();
    const query = field.value.trim();
    const problem = tooLong(query);
    if (problem) note.textContent = problem;
    if (problem || query === '' || running) return;
    close();
    replace(turn, query);
  } }, field, note, el('div', { class: 'buttons' }, el('button', { type: 'button', onclick: () => form.cancel() }, 'Cancel'), el('button', { type: 'submit', class: 'primary' }, 'Send')));
  form.cancel = () => {
    close();
    turn.edit.focus();
  };
  field.addEventListener('input', () => {
    size();
    keep('edit', { session, turn: turn.number, text: field.value });
  });
  field.addEventListener('keydown', (event) => {
    if (event.key === 'Escape') form.cancel();
    if (event.key === 'Enter' && !event.shiftKey && !event.isComposing && !touch) {
      event.preventDefault();
      form.requestSubmit();
    }
  });
  turn.asked.replaceWith(form);
  editing = form;
  size();
  field.focus();
}

async function answerAgain(turn) {
  if (running || !await confirmed(`Make this answer again? The new one replaces ${turn.replaces}.`, 'Answer again')) return;
  if (!running) replace(turn, turn.query);
}

// replace asks in the place of a turn. Its files go with the question, where they are kept.
async function replace(turn, query) {
  const here = opened;
  const files = [];
  try {
    for (const f of turn.files.filter(sendable)) files.push(f.data ? f : { ...f, data: await base64(await readFile(f.uri)) });
  } catch (error) {
    turn.end.append(problem(asFailure(error), () => replace(turn, query)));
    return;
  }
  if (here !== opened || running) return;
  if (!touch) $('query').focus();
  await ask(query, files, turns.slice(turns.indexOf(turn)));
}

const sendable = ({ data, uri }) => Boolean(data || uri?.startsWith('/'));

// run asks for the answer of a turn, which stands last where it is to be stored last.
async function run(turn, request) {
  const begun = request.begun ?? Date.now();
  keep('asked', { query: turn.query, session, body: request.body, stream: request.stream, key: request.key, begun });
  turn.clear();
  if (turns.slice(turns.indexOf(turn)).some((later) => later.number > 0)) {
    turns = [...turns.filter((other) => other !== turn), turn];
    $('turns').append(turn.element);
  }
  await attend(turn, request, (signal) => sendPatiently(request, signal));
}

// showRefused shows one box for all questions that the service does not take now, below the
// last of them.
function showRefused() {
  const all = turns.filter((turn) => turn.refused);
  all.forEach((turn, i) => {
    const { failure, actions } = turn.refused;
    if (i < all.length - 1) {
      turn.end.replaceChildren(el('p', { class: 'note' }, 'Not answered yet. ', ...actions()));
      return;
    }
    const box = problem(failure, askRefused, ...actions());
    if (i > 0) box.firstChild.after(el('p', null, `${count(all.length, 'question')} are not answered yet.`));
    turn.end.replaceChildren(box);
  });
}

// askRefused asks those questions again, in their order, for the session as it is by now.
async function askRefused() {
  for (const turn of turns.filter((turn) => turn.refused)) {
    if (running || !turn.refused) return;
    let { request } = turn.refused;
    const fields = JSON.parse(request.body);
    if ((fields.session_id ?? null) !== session) request = { ...request, body: JSON.stringify({ ...fields, session_id: session }), key: random(16) };
    await run(turn, request);
    if (!turn.number) return;
  }
}

// approved answers a call that a run waits for. When nothing is left to answer, the run
// goes on below what is shown.
async function approved(turn, runID, pending, answer) {
  if (running) return;
  const request = {};
  turn.end.replaceChildren();
  const left = pending.filter((call) => call.call_id !== answer.call_id);
  await attend(turn, request, async (signal) => {
    const path = `runs/${encodeURIComponent(runID)}`;
    const response = await send('POST', path + '/approvals', { body: JSON.stringify(answer), credential: request.credential, signal, headers: { Accept: 'text/event-stream' } });
    if (response.status !== 202) return response;
    if (left.length > 0) {
      turn.awaits(left, runID);
      return null;
    }
    // A queue goes on with it: its events, from the first on.
    turn.clear();
    return send('GET', path + '/events', { credential: request.credential, signal, headers: { Accept: 'text/event-stream' } });
  }, () => turn.awaits(pending, runID));
}

// attend shows in turn what open's response says, null for nothing more. failed is called
// before a failure is shown.
async function attend(turn, request, open, failed = () => {}) {
  const control = new AbortController();
  const here = opened;
  running = control;
  setBusy(true);
  turn.waiting = true;
  turn.phase('admission');
  say('The agent is answering.');
  request.credential = credential();
  request.trace = random(16);
  editing?.cancel();
  const resumed = request.begun && Date.now() - request.begun; // milliseconds since it was asked
  delete request.begun;
  const begun = performance.now() - (resumed ?? 0);
  let first = null;
  let answer = null;
  let failure = null;
  let replayed = false;
  try {
    const response = await open(control.signal);
    if (!response) {
      turn.finish(true);
      return;
    }
    replayed = response.headers.get('Idempotency-Replayed') === 'true';
    if (response.headers.get('Content-Type')?.startsWith('text/event-stream')) {
      for await (const { event, part: n, data: part } of events(response)) {
        if (event === 'start') {
          control.run = part.run_id;
          turn.phase('model');
        } else if (event === 'delta') {
          first ??= performance.now();
          turn.write(part.text, n);
        } else if (event === 'reasoning') {
          turn.think(part.text, n);
        } else if (event === 'tool_call') {
          turn.tool(part, n);
          say(`The agent uses ${part.name}.`);
        } else if (event === 'progress') {
          turn.toolProgress(part);
        } else if (event === 'tool_result') {
          turn.toolDone(part);
        } else if (event === 'file') {
          turn.file(part, n);
        } else if (event === 'reset') {
          turn.reset(part.part);
        } else if (event === 'done') {
          answer = { ...part.data, request_id: part.request_id };
        } else if (event === 'error') {
          failure = Failure.of(part, { status: 0, headers: new Headers() });
        }
      }
      if (!answer && !failure) failure = new Failure('The connection ended before the answer did.');
    } else {
      const envelope = await response.json();
      answer = { ...envelope.data, request_id: envelope.request_id };
      turn.stored(answer);
    }
  } catch (error) {
    if (!control.signal.aborted) failure = error instanceof TypeError ? new Failure('The connection ended before the answer did.') : asFailure(error);
  } finally {
    if (running === control) {
      running = null;
      setBusy(false);
    }
  }
  turn.finish(answer?.pending?.length > 0);
  if (here !== opened) return; // something else is on the page by now
  const took = performance.now() - begun;
  // What failed is kept as a question that is not sent yet.
  keep('asked', null);
  if (!answer && !control.stopped && request.body && $('query').value === '') keep('draft', turn.query);
  if (answer) {
    const there = request.body && turns.some((other) => other.runID === answer.run_id); // it was stored when the session was loaded
    const expected = turn.over[0]?.number ?? turnCount + 1;
    if (there) turn.leave();
    if (turn.over.length) $('later').hidden = true;
    for (const replaced of turn.over) replaced.element.remove();
    turns = turns.filter((other) => !turn.over.includes(other));
    turn.over = [];
    if (answer.finish_reason === 'STOPPED') turn.end.append(el('p', { class: 'warning' }, stopped));
    const known = { commit: answer.timing?.commit_ms, Took: seconds(took), 'First text': first && resumed == null ? seconds(first - begun) : null, Trace: request.trace };
    if (!replayed) note(answer.run_id, known);
    turn.closing(answer, { ...known, Replayed: replayed ? 'yes: the answer to an earlier call with the same key' : null, request });
    if (request.body && !there && answer.turn !== expected) {
      turn.end.append(el('p', { class: 'warning' }, 'This session was continued elsewhere. ', button('Load it again', () => openSession(answer.session_id))));
    }
    if (!there) turnCount = answer.turn;
    setSession(answer.session_id);
    say(spoken(turn.text));
    listSessions();
    return;
  }
  if (!request.body) { // an approval, which can be given again
    follow(() => {
      failed();
      turn.end.append(failure ? problem(failure) : el('p', { class: 'warning' }, 'Stopped.'));
    });
    say(failure?.message ?? 'Stopped.');
    return;
  }
  const again = () => { if (!running) run(turn, request); };
  const [replaced] = turn.over;
  const leave = (then) => () => {
    turn.leave();
    showRefused();
    then?.();
  };
  const ways = () => [
    button('Edit', leave(() => (replaced ? edit(replaced, turn.query) : unsent(turn.query)))),
    ...(replaced ? [button('Keep the earlier answer', leave())] : []),
  ];
  const actions = ways();
  follow(() => {
    if (failure?.until && !control.stopped) {
      turn.refused = { request, failure, actions: ways };
      showRefused();
      return;
    }
    if (!failure || control.stopped) {
      turn.end.append(el('div', { class: 'warning' }, el('p', null, 'Stopped.'), el('div', { class: 'buttons' }, button('Try again', again), ...actions)));
      return;
    }
    const gone = failure.code === 'session_not_found';
    const conflict = failure.code === 'session_conflict';
    if (gone) {
      actions.push(button('New session', async () => {
        if (!await leave()) return;
        startOver(null, true);
        unsent(turn.query);
      }));
    }
    if (conflict) {
      actions.push(button('Load it again', async () => {
        await openSession(session);
        if (turn.query !== replaced?.query && $('query').value.trim() === '') unsent(turn.query);
      }));
    }
    turn.end.append(problem(failure, conflict || gone ? null : again, ...actions)); // which another try does not change
  });
  say(failure && !control.stopped ? failure.message : 'Stopped.');
}

// sendPatiently waits for an earlier call with the same key to end.
async function sendPatiently(request, signal) {
  for (let waits = 0; ; waits++) {
    try {
      return await send('POST', 'invoke', { body: request.body, credential: request.credential, signal, headers: {
        Accept: request.stream ? 'text/event-stream' : 'application/json', 'Idempotency-Key': request.key,
        traceparent: `00-${request.trace}-${random(8)}-01`,
      } });
    } catch (error) {
      if (error.code !== 'idempotency_in_progress' || waits >= maxWaits) throw error;
      await new Promise((resolve, reject) => {
        const timer = setTimeout(resolve, 1000 * Math.min(10, Math.max(1, error.retryAfter)));
        signal.addEventListener('abort', () => { clearTimeout(timer); reject(signal.reason); }, { once: true });
      });
    }
  }
}

// spoken is what is read out of an answer: its beginning, if it is long.
function spoken(text) {
  return text.length <= 600 ? text : text.slice(0, 600) + '… The rest is in the conversation.';
}

// ---- The field to ask in

function setBusy(busy) {
  const had = document.activeElement;
  $('send').hidden = busy;
  $('stop').hidden = !busy;
  $('turns').classList.toggle('busy', busy);
  $('hint').textContent = busy && !touch ? 'Escape stops the answer.' : hint;
  if (had === $('send') || had === $('stop')) $('query').focus(); // where it was has gone
}

const touch = matchMedia('(pointer: coarse)').matches;
const hint = touch ? '' : 'Enter sends, Shift+Enter starts a new line.';

function grow() {
  const field = $('query');
  field.style.height = 'auto';
  field.style.height = field.scrollHeight + 'px';
}

// unsent puts a question into the field that is not sent yet.
function unsent(query) {
  $('query').value = query;
  grow();
  keep('draft', query);
  $('query').focus();
}

// tooLong returns why a question cannot be sent, '' if it can.
function tooLong(query) {
  const length = Array.from(query).length;
  return length <= agent.max_query ? '' : `The question has ${length.toLocaleString('en')} characters; the service takes ${agent.max_query.toLocaleString('en')}.`;
}

function submit() {
  const query = $('query').value.trim();
  if (query === '' || running) return;
  const problem = tooLong(query);
  if (problem) {
    $('hint').textContent = problem;
    say(problem);
    return;
  }
  $('query').value = '';
  keep('draft', null);
  grow();
  put(query);
}

// put asks with the files that are attached.
function put(query) {
  const files = attached;
  attached = [];
  showAttached();
  ask(query, files);
}

$('composer').addEventListener('submit', (event) => {
  event.preventDefault();
  submit();
});
$('query').addEventListener('input', () => {
  grow();
  keep('draft', $('query').value);
  if (!running) $('hint').textContent = hint;
});
$('query').addEventListener('keydown', (event) => {
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing || touch) return;
  event.preventDefault();
  submit();
});
$('stop').addEventListener('click', stop);
document.addEventListener('keydown', (event) => {
  if (event.key === 'Escape' && running && !document.querySelector('dialog[open], :popover-open')) stop();
});
$('examples').addEventListener('click', (event) => {
  const example = event.target.closest('button');
  if (example && !running) put(example.textContent);
});

// ---- Sessions

let cursor = null;
let listing = 0; // counts lists, so that one that comes late is dropped

async function listSessions(next = null) {
  const mine = ++listing;
  let page;
  try {
    page = await data('GET', 'sessions?limit=20' + (next ? '&cursor=' + encodeURIComponent(next) : ''), { credential: credential() });
  } catch (error) {
    if (mine !== listing) return;
    const failure = asFailure(error);
    if (!next) $('sessions').replaceChildren();
    $('sessions-note').replaceChildren(...sentences(failure));
    $('sessions-login').hidden = failure.status !== 401;
    $('sessions-login').onclick = () => openSettings(wanted(failure));
    $('more').hidden = $('delete-all').hidden = $('export').hidden = $('search').hidden = true;
    return;
  }
  if (mine !== listing) return;
  const items = page.sessions.map(sessionItem);
  if (next) $('sessions').append(...items);
  else $('sessions').replaceChildren(...items);
  if (next) items[0]?.querySelector('button').focus();
  cursor = page.next_cursor;
  $('more').hidden = !cursor;
  $('sessions-login').hidden = true;
  $('delete-all').hidden = $('export').hidden = $('sessions').childElementCount === 0;
  $('search').hidden = $('sessions').childElementCount < 5;
  filterSessions();
  setSession(session);
}

function sessionItem(info) {
  const title = info.title || 'Untitled';
  const open = button(el('span', { class: 'title', dir: 'auto' }, title), async () => {
    if (info.session_id !== session && await leave()) openSession(info.session_id, true);
  }, { class: 'session', 'data-id': info.session_id });
  open.append(el('span', { class: 'note' }, `${count(info.turns, 'turn')} · ${when(info.updated_at)}`));
  return el('li', null, open,
    button(icon('pen'), () => renameSession(info, open), { class: 'quiet icon', 'aria-label': `Rename the session “${title}”`, title: 'Rename' }),
    button(icon('bin'), () => deleteSession(info, title), { class: 'quiet icon', 'aria-label': `Delete the session “${title}”`, title: 'Delete' }));
}

// renameSession puts a field in the place of the title. Enter or going elsewhere stores it,
// Escape leaves it as it was.
function renameSession(info, open) {
  const input = el('input', { value: info.title, maxlength: '80', 'aria-label': 'New title' });
  let over = false;
  const end = async (title, leaves = false) => {
    if (over) return;
    over = true;
    form.replaceWith(open);
    if (!leaves) open.focus();
    if (!title || title === info.title) return;
    try {
      await data('PUT', `sessions/${encodeURIComponent(info.session_id)}/title`, { credential: credential(), body: JSON.stringify({ title }) });
    } catch (error) {
      sessionsFailed(error);
      return;
    }
    say('Renamed.');
    listSessions();
  };
  const form = el('form', { class: 'rename', onsubmit: (event) => {
    event.preventDefault();
    end(input.value.trim());
  } }, input);
  input.addEventListener('keydown', (event) => {
    if (event.key !== 'Escape') return;
    event.stopPropagation();
    end('');
  });
  input.addEventListener('blur', () => end(input.value.trim(), true));
  open.replaceWith(form);
  input.select();
}

// sessionsFailed shows and says why something was not done to the sessions.
function sessionsFailed(error) {
  const failure = asFailure(error);
  $('sessions-note').replaceChildren(...sentences(failure));
  say(failure.message);
}

async function deleteSession(info, title) {
  if (!await confirmed(`Delete the session “${title.slice(0, 80)}” and all that is stored for it?`, 'Delete')) return;
  try {
    await data('DELETE', 'sessions/' + encodeURIComponent(info.session_id), { credential: credential() });
  } catch (error) {
    if (error.code !== 'session_not_found') { // it is gone then, which is what was wanted
      sessionsFailed(error);
      return;
    }
  }
  if (info.session_id === session) startOver();
  say('Deleted.');
  await listSessions();
  ($('sessions').querySelector('button') ?? $('query')).focus();
}

$('delete-all').addEventListener('click', async () => {
  if (!await confirmed('Delete all of your sessions, and everything stored for them?', 'Delete all')) return;
  try {
    await data('DELETE', 'sessions', { credential: credential() });
  } catch (error) {
    sessionsFailed(error);
    return;
  }
  startOver();
  say('All sessions are deleted.');
  listSessions();
  $('query').focus();
});
$('more').addEventListener('click', () => listSessions(cursor));

// The sessions whose titles have all the words of the search.
$('search').addEventListener('input', () => {
  filterSessions();
  say($('sessions-note').textContent);
});
function filterSessions() {
  const parts = $('search').value.toLowerCase().split(/\s+/);
  let found = 0;
  for (const item of $('sessions').children) {
    const title = item.querySelector('.title').textContent.toLowerCase();
    item.hidden = !parts.every((part) => title.includes(part));
    if (!item.hidden) found++;
  }
  $('sessions-note').textContent = found ? '' : $('sessions').childElementCount === 0 ? 'None yet. The first answer begins one.'
    : cursor ? 'No title that is shown has these words. Older sessions may.' : 'No title has these words.';
}

$('export').addEventListener('click', async () => {
  try {
    const response = await send('GET', 'export', { credential: credential(), headers: { Accept: '*/*' } });
    const url = URL.createObjectURL(await response.blob());
    el('a', { href: url, download: 'gatehouse-export.jsonl' }).click();
    setTimeout(() => URL.revokeObjectURL(url), 60_000);
  } catch (error) {
    sessionsFailed(error);
  }
});

async function openSession(id, went = false) {
  startOver(id, went);
  const here = opened;
  $('welcome').hidden = true;
  await loadTurns(id, null, here);
  $('scroll').scrollTop = $('scroll').scrollHeight;
  if (here === opened) $('query').focus();
}

// loadTurns shows a session's turns from a place in its list on.
async function loadTurns(id, from, here) {
  let shown = 0;
  try {
    for (let next = from; ;) {
      const page = await data('GET', `sessions/${encodeURIComponent(id)}?limit=100` + (next ? '&cursor=' + encodeURIComponent(next) : ''), { credential: credential() });
      if (here !== opened) return;
      const notes = noted();
      for (const stored of page.turns) {
        const turn = new Turn(stored.query, stored.files);
        turn.stored(stored);
        turn.finish(stored.pending?.length > 0);
        if (stored.finish_reason === 'STOPPED') turn.end.append(el('p', { class: 'warning' }, stopped));
        turn.closing({ ...stored, session_id: id }, { ...notes.get(stored.run_id), At: new Date(stored.created_at).toLocaleString() });
      }
      shown += page.turns.length;
      turnCount = page.session.turns;
      next = page.next_cursor;
      $('later').hidden = !next;
      if (!next) return;
      if (shown >= maxTurns) {
        $('later').onclick = () => loadTurns(id, next, here);
        return;
      }
    }
  } catch (error) {
    if (here !== opened) return;
    const failure = asFailure(error);
    const again = failure.code === 'session_not_found' ? null : () => openSession(id);
    $('turns').append(problem(failure, again, button('New session', () => $('new').click())));
    say(failure.message);
  }
}

// ---- Usage

$('usage').addEventListener('toggle', async () => {
  if (!$('usage').open) return;
  const names = { end_user: 'you', caller: 'your caller', service: 'everybody' };
  try {
    const { limits, today } = await data('GET', 'usage', { credential: credential() });
    const list = { Today: `${count(today.total_tokens, 'token')}, ${dollars(today.estimated_cost_usd)}` };
    for (const limit of limits) {
      const what = limit.unit === 'calls_per_minute' ? 'Calls a minute' : 'Tokens a day';
      list[`${what}, ${names[limit.name] ?? limit.name}`] = `${limit.left.toLocaleString('en')} of ${limit.limit.toLocaleString('en')} left`;
    }
    $('usage-body').replaceChildren(facts(list));
  } catch (error) {
    $('usage-body').replaceChildren(problem(asFailure(error)));
  }
});

// ---- Beginning

$('settings-open').addEventListener('click', () => openSettings());
$('hint').textContent = hint;
const sessionOf = (hash) => /^#session=([A-Za-z0-9_-]{16,64})$/.exec(hash)?.[1] ?? null;
const named = sessionOf(location.hash);
const asked = kept('asked');
$('query').value = kept('draft') ?? '';
grow();
(async () => {
  const edited = kept('edit');
  if (named) await openSession(named);
  if (asked) await resume(asked);
  const turn = edited?.session === session && turns.find(({ number }) => number === edited.turn);
  if (turn) edit(turn, edited.text);
})();
listSessions();
// A link that is pasted, and back and forward.
addEventListener('hashchange', async () => {
  const id = sessionOf(location.hash);
  if (id === session) return;
  if (!await leave()) setSession(session);
  else if (id) openSession(id);
  else startOver();
});
// readAgent shows what only callers who may ask the agent are told of it.
async function readAgent() {
  try {
    agent = await data('GET', 'playground', { credential: credential() });
  } catch {
    return; // the page does without
  }
  if (agent.name) $('welcome-title').textContent = `Ask ${agent.name}`;
  $('offline').hidden = !agent.offline;
  $('model').textContent = agent.model;
  $('tools').hidden = agent.tools.length === 0;
  $('tools-title').textContent = count(agent.tools.length, 'tool');
  $('tools-body').replaceChildren(tools(agent.tools));
  $('attach').hidden = agent.file_types.length === 0;
  $('files').accept = agent.file_types.join(',');
  const body = JSON.stringify({ query: $('examples').querySelector('button').textContent });
  $('code-curl').textContent = curl(body, { stream: false, credential: credential() });
  $('code-js').textContent = script(body, { credential: credential() });
  $('code').hidden = false;
}

data('GET', '.', {}).then((description) => {
  $('version').textContent = description.version;
  const { description: about, examples } = description.agent ?? {};
  if (about) {
    $('about').textContent = about;
    $('about').hidden = false;
  }
  if (examples?.length) $('examples').replaceChildren(...examples.map((question) => el('li', null, el('button', { type: 'button', dir: 'auto' }, question))));
  $('docs').hidden = !description.endpoints.some((endpoint) => endpoint.path === '/docs');
}).catch(() => {}).finally(readAgent); // the page does without
