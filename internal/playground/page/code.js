// Colours for code: comments, strings, numbers, keywords. One pass of one expression
// over the text, which goes through each character once; what it does not know is text.

const maxColoured = 20_000; // characters of a block; a longer one is plain

const words = (text) => new Set(text.split(' '));

// What the languages share is enough to read by: a comment's beginning, a string's
// quotes, and the words that they reserve.
const c = {
  comment: /\/\/[^\n]*|\/\*[^]*?(?:\*\/|$)/,
  words: words('abstract as async await bool boolean break byte case catch chan char class const continue debugger def default defer delete do double else enum export extends fallthrough false final finally float fn for from func function go goto if impl implements import in instanceof int interface let long loop map match mut namespace new nil null of package private protected pub public range return select self short static string struct super switch this throw throws trait true try type typeof undefined union unsafe use var void while with yield'),
};
const hash = {
  comment: /#[^\n]*/,
  words: words('and as assert async await begin break case class continue def del do done elif else end esac except export False fi finally for from function global if import in is lambda local module nil None nonlocal not null or pass raise resource return self then True true false try unless until var variable while with yield data locals output provider'),
};
const sql = {
  comment: /--[^\n]*|\/\*[^]*?(?:\*\/|$)/,
  words: words('add all alter and as asc between by case create cross delete desc distinct drop else end exists from full group having in index inner insert into is join key left like limit not null offset on or order outer primary references right select set table then union unique update values view when where with'),
  fold: true,
};
const data = { comment: /(?!)/, words: words('true false null') };

const languages = new Map(Object.entries({
  go: c, js: c, jsx: c, javascript: c, ts: c, tsx: c, typescript: c, java: c, c, h: c, cpp: c, 'c++': c, cs: c, csharp: c, rust: c, rs: c,
  kotlin: c, kt: c, swift: c, php: c, scala: c, dart: c, proto: c, py: hash, python: hash, rb: hash, ruby: hash, sh: hash, bash: hash,
  shell: hash, zsh: hash, yaml: hash, yml: hash, toml: hash, hcl: hash, terraform: hash, tf: hash, make: hash, makefile: hash, dockerfile: hash,
  r: hash, perl: hash, sql, json: data, jsonc: c, json5: c,
}));

const rest = /("(?:\\[^]|[^"\\\n])*"?|'(?:\\[^]|[^'\\\n])*'?|`(?:\\[^]|[^`\\])*`?)|(\b\d[\w.]*)|((?<![-.\w$])[A-Za-z_$][\w$]*)/.source;

// coloured is a block of code as nodes: text, and a span of each thing with a colour.
export function coloured(text, name) {
  const language = languages.get(name.toLowerCase());
  if (!language || text.length > maxColoured) return [text];
  const pattern = new RegExp(`(${language.comment.source})|${rest}`, 'g');
  const nodes = [];
  let from = 0;
  for (const match of text.matchAll(pattern)) {
    const [all, comment, string, number, word] = match;
    const kind = comment ? 'comment' : string ? 'string' : number ? 'number' : language.words.has(language.fold ? word.toLowerCase() : word) ? 'keyword' : '';
    if (!kind || all === '') continue;
    if (match.index > from) nodes.push(text.slice(from, match.index));
    const span = document.createElement('span');
    span.className = 'c-' + kind;
    span.textContent = all;
    nodes.push(span);
    from = match.index + all.length;
  }
  nodes.push(text.slice(from));
  return nodes;
}
