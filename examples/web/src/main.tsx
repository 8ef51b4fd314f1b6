import { useChat } from '@ai-sdk/react';
import { generateId, getToolName, isToolUIPart } from 'ai';
import { useMemo, useRef, useState, type FormEvent } from 'react';
import { createRoot } from 'react-dom/client';
import { load, sentence, stop, transport, turnsOf, type Message } from './api';
import { signIn, type GetToken } from './token';
import './style.css';

type Conversation = { id: string; messages: Message[]; getToken: GetToken };

/** Reads the one text field of a form. */
function field(event: FormEvent<HTMLFormElement>): string {
  event.preventDefault();
  const form = event.currentTarget;
  const text = String(new FormData(form).get('text')).trim();
  form.reset();
  return text;
}

function App() {
  const [conversation, setConversation] = useState<Conversation>();
  const [problem, setProblem] = useState('');
  if (conversation) return <Chat key={conversation.id} {...conversation} />;
  const enter = async (event: FormEvent<HTMLFormElement>) => {
    const getToken = signIn(field(event));
    const id = location.hash.slice(1) || generateId(); // the page's address names the session
    try {
      const messages = await load(id, getToken);
      location.hash = id;
      setConversation({ id, messages, getToken });
    } catch (error) {
      setProblem(sentence(error as Error));
    }
  };
  return (
    <form onSubmit={enter}>
      <input name="text" placeholder="Your name" aria-label="Your name" required autoFocus />
      <button>Sign in</button>
      {problem && <p role="alert">{problem}</p>}
    </form>
  );
}

function Chat({ id, messages: initial, getToken }: Conversation) {
  const turns = useRef(turnsOf(initial)); // kept apart: to edit or answer again, the SDK cuts its messages before it sends
  const chat = useChat<Message>({
    id, messages: initial, transport: useMemo(() => transport(getToken, () => turns.current), [getToken]),
    onFinish: ({ messages, isError }) => { if (!isError) turns.current = turnsOf(messages); },
  });
  const busy = chat.status === 'submitted' || chat.status === 'streaming';
  return (
    <>
      <div role="log">
        {chat.messages.map(message => (
          <article key={message.id} className={message.role}>
            {message.parts.map((part, i) => {
              if (part.type === 'text') return <p key={i}>{part.text}</p>;
              if (isToolUIPart(part)) return <small key={i}>{getToolName(part)} {part.state === 'output-error' ? `✗ ${part.errorText}` : part.state === 'output-available' ? '✓' : '…'}</small>;
            })}
            {message.metadata?.usage && <small>turn {message.metadata.turn}, {message.metadata.usage.total_tokens} tokens</small>}
          </article>
        ))}
      </div>
      {chat.error && <p role="alert">{sentence(chat.error)}</p>}
      <form onSubmit={event => chat.sendMessage({ text: field(event) })}>
        <input name="text" placeholder="Ask" aria-label="Ask" required autoFocus />
        {busy ? <button type="button" onClick={() => Promise.all([stop(id, getToken), chat.stop()])}>Stop</button> : <button>Send</button>}
        {!busy && chat.messages.length > 0 && (
          <button type="button" onClick={() => chat.regenerate()}>{chat.error ? 'Try again' : 'Answer again'}</button>
        )}
      </form>
    </>
  );
}

createRoot(document.getElementById('root')!).render(<App />);
