import { generateId } from 'ai';
import { useEffect, useState, type FormEvent } from 'react';
import { createRoot } from 'react-dom/client';
import { call, load, sentence, type Message, type Session } from './api';
import { Chat, field } from './chat';
import { signIn, type GetToken } from './token';
import './style.css';

function App() {
  const [getToken, setGetToken] = useState<GetToken>();
  if (getToken) return <Conversations getToken={getToken} />;
  const enter = (event: FormEvent<HTMLFormElement>) => {
    const token = signIn(field(event));
    setGetToken(() => token);
  };
  return (
    <form onSubmit={enter}>
      <h1>Chat</h1>
      <input name="text" placeholder="Your name" aria-label="Your name" required autoFocus />
      <button>Sign in</button>
    </form>
  );
}

/** The sessions of the person who is signed in, beside the one that the page's address names. */
function Conversations({ getToken }: { getToken: GetToken }) {
  const [sessions, setSessions] = useState<Session[]>([]);
  const [open, setOpen] = useState<{ id: string; messages: Message[] }>();
  const [problem, setProblem] = useState('');
  const attempt = (action: () => Promise<unknown>) => action().then(() => setProblem(''), error => setProblem(sentence(error)));
  const list = () => attempt(async () => setSessions((await (await call(getToken, 'GET', '/sessions?limit=50')).json()).data.sessions));
  const restore = (id: string) => attempt(async () => {
    const messages = await load(id, getToken);
    // A question whose answer goes on is no turn yet: the tab remembers it.
    const asked: Message | null = JSON.parse(sessionStorage.getItem(id) ?? 'null');
    if (asked && !messages.some(m => m.id === asked.id)) messages.push(asked);
    location.hash = id;
    setOpen({ id, messages });
  });
  const rename = (s: Session) => attempt(async () => {
    const title = prompt('New title', s.title);
    if (title) await call(getToken, 'PUT', `/sessions/${s.session_id}/title`, { title });
  }).then(list);
  const remove = (s: Session) => attempt(async () => {
    if (!confirm(`Delete “${s.title}”?`)) return;
    await call(getToken, 'DELETE', `/sessions/${s.session_id}`);
    if (s.session_id === open?.id) await restore(generateId());
  }).then(list);
  useEffect(() => {
    restore(location.hash.slice(1) || generateId());
    list();
  }, []);
  return (
    <>
      <nav aria-label="Sessions">
        <h1>Chat</h1>
        <button onClick={() => restore(generateId())}>New chat</button>
        <ul>
          {sessions.map(s => (
            <li key={s.session_id}>
              <button aria-current={s.session_id === open?.id} onClick={() => restore(s.session_id)}>{s.title}</button>
              <button aria-label={`Rename ${s.title}`} onClick={() => rename(s)}>✎</button>
              <button aria-label={`Delete ${s.title}`} onClick={() => remove(s)}>×</button>
            </li>
          ))}
        </ul>
        {problem && <p role="alert">{problem}</p>}
      </nav>
      {open && <Chat key={open.id} {...open} getToken={getToken} onTurn={list} />}
    </>
  );
}

createRoot(document.getElementById('root')!).render(<App />);
