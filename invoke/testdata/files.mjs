// Files as the AI SDK's own client sends and shows them: node files.mjs URL MAJOR KEPT
import assert from 'node:assert/strict';

const [url, major, kept] = process.argv.slice(2);
const ai = await import(`ai${major}`);

class Chat extends ai.AbstractChat {
  constructor(init) {
    super({
      ...init,
      // The SDK's own request: with all messages, their files included.
      transport: new ai.DefaultChatTransport({ api: `${url}/chat`, headers: { 'X-AI-SDK': major } }),
      state: {
        status: 'ready', error: undefined, messages: [],
        pushMessage(m) { this.messages = [...this.messages, m]; },
        popMessage() { this.messages = this.messages.slice(0, -1); },
        replaceMessage(i, m) { this.messages = this.messages.map((old, j) => (i === j ? m : old)); },
        snapshot: structuredClone,
      },
    });
  }
}

const png = 'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==';
const pdf = Buffer.from('%PDF-1.4\n1 0 obj<</Type/Catalog/Pages 2 0 R>>endobj\n2 0 obj<</Type/Pages/Kids[3 0 R]/Count 1>>endobj\n' +
  '3 0 obj<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF').toString('base64');
const file = (mediaType, filename, data) => ({ type: 'file', mediaType, filename, url: `data:${mediaType};base64,${data}` });
const image = file('image/png', 'dot.png', png), paper = file('application/pdf', 'paper.pdf', pdf);
const text = file('text/plain', 'notes.txt', Buffer.from('Grüße').toString('base64'));

const chat = new Chat({ id: ai.generateId() });
await chat.sendMessage({ text: 'draw', files: [image, paper, text] });
assert.equal(chat.error, undefined);
const made = chat.lastMessage.parts.filter(p => p.type === 'file');
assert.deepEqual(made.map(p => p.mediaType), ['image/png']);
assert.equal(chat.lastMessage.parts.find(p => p.type === 'text').text, 'image/png application/pdf text/plain');

/** The bytes of a file that a page shows. */
const bytes = async shown => Buffer.from(await (await fetch(new URL(shown, url))).arrayBuffer()).toString('base64');
assert.equal(made[0].url.startsWith('data:'), kept === 'false');
assert.equal(await bytes(made[0].url), png);

// A reload shows what is kept.
const read = async () => (await (await fetch(`${url}/chat/${chat.id}`, { headers: { 'X-AI-SDK': major } })).json()).data.messages;
const [asked, answered] = await read();
const files = message => message.parts.filter(p => p.type === 'file');
if (kept === 'true') {
  assert.deepEqual(files(asked).map(p => [p.mediaType, p.filename]), [['image/png', 'dot.png'], ['application/pdf', 'paper.pdf'], ['text/plain', 'notes.txt']]);
  assert.equal(await bytes(files(asked)[1].url), pdf);
  assert.equal(await bytes(files(answered)[0].url), png);
} else {
  assert.deepEqual([files(asked), files(answered)], [[], []]);
}

// The next question: the history, which the SDK sends with all files, is passed over.
await chat.sendMessage({ text: 'and now?' });
assert.equal(chat.error, undefined);
assert.equal(chat.messages.length, 4);
assert.equal(chat.lastMessage.parts.find(p => p.type === 'text').text, kept === 'true' ? 'remembers' : 'has a note');

// What is refused is a sentence for the page.
for (const [name, refused, question = 'see'] of [
  ['no question', [image], ''],
  ['a type that lies', [file('image/png', 'a.png', pdf)]],
  ['a type that is not taken', [file('application/zip', 'a.zip', 'UEsDBAoAAAAAAA==')]],
  ['nine files', Array(9).fill(image)],
  ['what is no base64', [{ ...image, url: 'data:image/png;base64,%%%' }]],
  ['an address elsewhere', [{ ...image, url: 'https://example.com/a.png' }]],
  ['a bucket of somebody else', [{ ...image, url: 'gs://theirs/a.png' }]],
]) {
  const other = new Chat({ id: ai.generateId() });
  await other.sendMessage({ text: question, files: refused });
  assert.equal(other.status, 'error', name);
  assert.match(other.error.message, /^[A-Z][^{}<>]*\.$/, name);
}
console.log('ok');
