// Calls of the service: as its own frontend would make them, from any page below
// whose address it is served.

// base is where the service is. All calls are relative to it, so that the page
// works under a path of a proxy too.
const base = new URL('.', document.baseURI);

const maxEvent = 16 << 20; // characters of one event

// A Failure is what keeps a call from having an answer: the service's own error
// envelope, or what the page makes of none.
export class Failure extends Error {
  constructor(message, { code = '', status = 0, details = [], requestID = '', retryAfter = 0, challenge = '' } = {}) {
    super(message);
    // until is the time on the page's clock when it may be tried again, 0 for no such time.
    Object.assign(this, { code, status, details, requestID, retryAfter, challenge, until: retryAfter && performance.now() + retryAfter * 1000 });
  }

  // of makes one of an error envelope; response is what it came with.
  static of(envelope, response) {
    return new Failure(envelope.message, {
      code: envelope.error ?? '', status: response.status, details: envelope.details ?? [], requestID: envelope.request_id,
      retryAfter: envelope.retry_after_seconds || Number(response.headers.get('Retry-After')) || 0, challenge: response.headers.get('WWW-Authenticate') ?? '',
    });
  }
}

// credentialHeaders are those that carry the credential, with the value that
// replaces it where it must not be shown.
export function credentialHeaders({ kind, secret }, shown = secret) {
  switch (kind) {
    case 'key': return { 'X-API-Key': shown };
    case 'token': return { Authorization: 'Bearer ' + shown };
    default: return {};
  }
}

// send makes a call and returns its Response, once it is good.
export async function send(method, path, { credential, body, headers, signal } = {}) {
  let response;
  try {
    response = await fetch(new URL(path, base), {
      method, signal, credentials: 'same-origin', redirect: 'error', referrerPolicy: 'no-referrer', cache: 'no-store',
      headers: { Accept: 'application/json', ...(body && { 'Content-Type': 'application/json' }), ...credentialHeaders(credential ?? {}), ...headers },
      body,
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Failure('The service could not be reached. Is it running, and is this device online?');
  }
  if (response.ok) return response;
  let envelope;
  try {
    envelope = JSON.parse(await response.text());
  } catch (error) {
    if (signal?.aborted) throw error;
  }
  if (typeof envelope?.message === 'string') throw Failure.of(envelope, response);
  throw new Failure(`Something on the way to the service answered in its place, with status ${response.status}.`, { status: response.status });
}

// data makes a call and returns the data of its answer, null where there is none.
export async function data(method, path, options) {
  const response = await send(method, path, options);
  return response.status === 204 ? null : (await response.json()).data;
}

// events yields the events of a stream, as {event, id, part, data}: data decoded, and part
// the number of the part of the answer that the event is about. An event's id has the
// position behind it: attempt, part, offset.
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  let event = '';
  let id = '';
  let part = 0;
  let text = [];
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const lines = (rest + value).split(/\r\n|\n/);
      rest = lines.pop();
      if (rest.length > maxEvent) throw new Failure('The service sent an event that is too large.');
      for (const line of lines) {
        if (line === '') {
          if (text.length > 0) yield { event, id, part, data: JSON.parse(text.join('\n')) };
          event = '';
          text = [];
        } else if (line.startsWith('event:')) {
          event = line.slice(6).trim();
        } else if (line.startsWith('id:')) {
          id = line.slice(3).trim();
          const [, , n, offset] = id.split('.').map(Number);
          part = offset > 0 ? n : n - 1;
        } else if (line.startsWith('data:')) {
          text.push(line.slice(5).replace(/^ /, ''));
        }
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

// random is n random bytes in hexadecimal, never all zeros.
export function random(n) {
  return Array.from(crypto.getRandomValues(new Uint8Array(n)), (byte) => byte.toString(16).padStart(2, '0')).join('').replace(/^0+$/, (zeros) => zeros.replace(/0$/, '1'));
}

// curl is the command that makes a call of POST /invoke, for a POSIX shell. The
// credential stands in it as a variable.
export function curl(body, { stream, credential }) {
  const headers = {
    'Content-Type': 'application/json',
    Accept: stream ? 'text/event-stream' : 'application/json',
  };
  const words = [`curl -sS${stream ? 'N' : ''} ${quote(new URL('invoke', base).href)}`];
  for (const [name, value] of Object.entries(headers)) words.push(`-H ${quote(`${name}: ${value}`)}`);
  // In double quotes, which leave nothing but the variable to the shell.
  const variable = credential.kind === 'key' ? '$GATEHOUSE_API_KEY' : '$GATEHOUSE_TOKEN';
  for (const [name, value] of Object.entries(credentialHeaders(credential, variable))) words.push(`-H "${name}: ${value}"`);
  words.push(`--data-raw ${quote(plain(body))}`);
  return words.join(' \\\n  ');
}

// script is the same call by fetch.
export function script(body, { credential }) {
  const headers = { 'Content-Type': 'application/json', ...credentialHeaders(credential, credential.kind === 'key' ? 'YOUR_KEY' : 'YOUR_TOKEN') };
  return `const response = await fetch(${JSON.stringify(new URL('invoke', base).href)}, {
  method: 'POST', headers: ${JSON.stringify(headers)},
  body: JSON.stringify(${plain(body)}),
});
console.log((await response.json()).data.response);`;
}

// quote makes text one word of a POSIX shell.
function quote(text) {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

// plain is JSON whose characters can all be seen: what a terminal would obey or
// reorder is escaped.
function plain(json) {
  return json.replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Co}\p{Cs}]/gu, (character) =>
    Array.from({ length: character.length }, (_, i) => '\\u' + character.charCodeAt(i).toString(16).padStart(4, '0')).join(''));
}
