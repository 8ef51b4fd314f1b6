import { useChat } from '@ai-sdk/react';
import { convertFileListToFileUIParts, getToolName, isToolUIPart, lastAssistantMessageIsCompleteWithApprovalResponses, type FileUIPart } from 'ai';
import { lazy, Suspense, useEffect, useLayoutEffect, useMemo, useRef, useState, type FormEvent } from 'react';
import { useStickToBottom } from 'use-stick-to-bottom';
import { call, sentence, stop, transport, turnsOf, warnings, type Message } from './api';
import type { GetToken } from './token';

const Markdown = lazy(() => import('./markdown')); // the page is there before it

/** Reads the one text field of a form. */
export function field(event: FormEvent<HTMLFormElement>): string {
  event.preventDefault();
  const form = event.currentTarget;
  const text = String(new FormData(form).get('text')).trim();
  form.reset();
  return text;
}

/** What went wrong, in the service's words. The seconds to wait count down, and are read out once. */
export function Problem({ error }: { error: Error }) {
  const [, text, seconds] = /^(.* Try again) in (\d+) seconds?\.$/.exec(sentence(error)) ?? [, sentence(error)];
  const [left, setLeft] = useState(0);
  useLayoutEffect(() => { // before anybody sees that none is left
    const end = Date.now() + Number(seconds) * 1000;
    const count = () => setLeft(Math.ceil((end - Date.now()) / 1000));
    count();
    const timer = setInterval(count, 1000);
    return () => clearInterval(timer);
  }, [error]);
  const wait = left > 0 ? ` in ${left} second${left === 1 ? '' : 's'}.` : ' now.';
  return <span role="alert">{text}{seconds && <span role="timer">{wait}</span>}</span>;
}

type Props = { id: string; messages: Message[]; getToken: GetToken; onTurn: () => void };

export function Chat({ id, messages: initial, getToken, onTurn }: Props) {
  const turns = useRef(turnsOf(initial)); // kept apart: to edit or answer again, the SDK cuts its messages before it sends
  const { scrollRef, contentRef, isAtBottom, scrollToBottom } = useStickToBottom();
  const chat = useChat<Message>({
    id, messages: initial, resume: true, throttle: 50, transport: useMemo(() => transport(getToken, () => turns.current), [getToken]),
    sendAutomaticallyWhen: lastAssistantMessageIsCompleteWithApprovalResponses,
    onFinish: ({ messages, isAbort, isError }) => {
      if (isError) return;
      if (!isAbort) sessionStorage.removeItem(id); // else the answer goes on without its page
      turns.current = turnsOf(messages);
      onTurn();
    },
  });
  const busy = chat.status === 'submitted' || chat.status === 'streaming';
  useEffect(() => {
    const last = chat.messages.at(-1);
    if (chat.status === 'submitted' && last?.role === 'user') sessionStorage.setItem(id, JSON.stringify(last));
  }, [chat.status]);
  const ask = (event: FormEvent<HTMLFormElement>) => {
    const reading = convertFileListToFileUIParts((event.currentTarget.elements.namedItem('files') as HTMLInputElement).files ?? undefined);
    const text = field(event);
    reading.then(files => chat.sendMessage({ text, files }));
    scrollToBottom();
  };
  return (
    <section>
      <div role="log" ref={scrollRef} tabIndex={0} aria-label="Conversation">
        <div ref={contentRef}>
          {chat.messages.map(message => (
            <article key={message.id} className={message.role}>
              {message.parts.map((part, i) => <Part key={i} part={part} message={message} getToken={getToken} answer={chat.addToolApprovalResponse} />)}
              {message.metadata?.usage && <Foot id={id} metadata={message.metadata} getToken={getToken} />}
            </article>
          ))}
          {chat.status === 'submitted' && <p>Waiting for an answer…</p>}
        </div>
      </div>
      {!isAtBottom && <button onClick={() => scrollToBottom()}>To the end</button>}
      {chat.error && <Problem error={chat.error} />}
      <form onSubmit={ask}>
        <input name="text" placeholder="Ask" aria-label="Ask" autoComplete="off" required autoFocus />
        <input name="files" type="file" multiple aria-label="Files" />
        {/* Two buttons by their keys: one that became the other would send what is in the field. */}
        {busy ? <button key="stop" type="button" onClick={() => Promise.all([stop(id, getToken), chat.stop()])}>Stop</button> : <button key="send">Send</button>}
        {!busy && chat.messages.length > 0 && (
          <button type="button" onClick={() => chat.regenerate()}>{chat.error ? 'Try again' : 'Answer again'}</button>
        )}
      </form>
    </section>
  );
}

type PartProps = {
  part: Message['parts'][number]; message: Message; getToken: GetToken;
  answer: (response: { id: string; approved: boolean }) => void;
};

/** One part of a message, in the order in which they came. */
function Part({ part, message, getToken, answer }: PartProps) {
  switch (part.type) {
    case 'text': return message.role === 'user' ? <p>{part.text}</p> : <Suspense fallback={<p>{part.text}</p>}><Markdown>{part.text}</Markdown></Suspense>;
    case 'reasoning': return <details><summary>Reasoning</summary><p>{part.text}</p></details>;
    case 'source-url': return <small>Source: <a href={part.url} target="_blank" rel="noreferrer">{part.title ?? part.url}</a> ({new URL(part.url).host})</small>;
    case 'file': return <File part={part} getToken={getToken} />;
  }
  if (!isToolUIPart(part)) return null;
  if (part.state === 'approval-requested') {
    const { id } = part.approval;
    const question = message.metadata?.pending?.find(p => p.approval_id === id)?.question ?? `May the agent use ${getToolName(part)}?`;
    return (
      <fieldset>
        <legend>{question}</legend>
        <code>{JSON.stringify(part.input)}</code>
        <button onClick={() => answer({ id, approved: false })}>Deny</button>
        <button onClick={() => answer({ id, approved: true })}>Approve</button>
      </fieldset>
    );
  }
  const end = { 'output-available': '✓', 'output-error': `✗ ${part.errorText}`, 'output-denied': '✗ denied' }[part.state as string] ?? '…';
  return <small>{getToolName(part)} {end}</small>;
}

/** A file, inline or kept by the service, which wants the credential for it. */
function File({ part, getToken }: { part: FileUIPart; getToken: GetToken }) {
  const [url, setURL] = useState(part.url.startsWith('data:') ? part.url : '');
  useEffect(() => {
    if (!part.url.startsWith('/')) return;
    let made = '';
    call(getToken, 'GET', part.url).then(async r => setURL(made = URL.createObjectURL(await r.blob())), () => {});
    return () => URL.revokeObjectURL(made);
  }, [part.url]);
  const name = part.filename ?? part.mediaType;
  if (!url) return <small>{name}</small>;
  return part.mediaType.startsWith('image/') ? <img src={url} alt={name} /> : <a href={url} download={name}>{name}</a>;
}

/** What is known of a stored answer, and an opinion on it. */
function Foot({ id, metadata, getToken }: { id: string; metadata: NonNullable<Message['metadata']>; getToken: GetToken }) {
  const [score, setScore] = useState(metadata.feedback?.score ?? 0);
  const [problem, setProblem] = useState<Error>();
  const rate = async (value: number) => {
    const next = value === score ? 0 : value;
    const path = `/sessions/${id}/turns/${metadata.turn}/feedback`;
    await call(getToken, 'PUT', path, { score: next }).then(() => setScore(next), setProblem);
  };
  return (
    <small>
      turn {metadata.turn}, {metadata.usage!.total_tokens} tokens. {metadata.warnings?.map(code => warnings[code] ?? code).join(' ')}
      <button aria-label="Good answer" aria-pressed={score === 1} onClick={() => rate(1)}>👍</button>
      <button aria-label="Bad answer" aria-pressed={score === -1} onClick={() => rate(-1)}>👎</button>
      {problem && <Problem error={problem} />}
    </small>
  );
}
