import { generateId } from 'ai';
import { useEffect, useState, type FormEvent } from 'react';
import { createRoot } from 'react-dom/client';
import { call, load, type Message, type Session } from './api';
import { Chat, field, Problem } from './chat';
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
  const [open, setOpen] = useState<{ id: string; messages: Message[]; error?: Error }>();
  const [problem, setProblem] = useState<Error>();
  const attempt = (action: () => Promise<unknown>) => action().then(() => setProblem(undefined), setProblem);
  const list = async () => setSessions((await (await call(getToken, 'GET', '/sessions?limit=50')).json()).data.sessions);
  // The address names the session: a reload, a pasted link, back and forward lead to it.
  const show = async () => {
    const id = /^#([\w-]{16,64})$/.exec(location.hash)?.[1];
    if (!id) return location.replace(`#${generateId()}`);
    const loaded = await load(id, getToken).then(messages => ({ id, messages }), error => ({ id, messages: [] as Message[], error }));
    if (id !== location.hash.slice(1)) return; // another is asked for by now
    // A question whose answer goes on, or failed, is no turn yet: the tab remembers it.
    const asked: Message | null = JSON.parse(sessionStorage.getItem(id) ?? 'null');
    if (asked && !loaded.messages.some(m => m.id === asked.id)) loaded.messages.push(asked);
    setOpen(loaded);
  };
  const go = (id: string) => (location.hash === `#${id}` ? show() : location.hash = id);
  const rename = (s: Session) => attempt(async () => {
    const title = prompt('New title', s.title);
    if (title) await call(getToken, 'PUT', `/sessions/${s.session_id}/title`, { title });
    await list();
  });
  const remove = (s: Session) => attempt(async () => {
    if (!confirm(`Delete “${s.title}”?`)) return;
    await call(getToken, 'DELETE', `/sessions/${s.session_id}`);
    if (s.session_id === open?.id) location.replace(`#${generateId()}`);
    await list();
  });
  useEffect(() => {
    addEventListener('hashchange', show);
    show();
    attempt(list);
    return () => removeEventListener('hashchange', show);
  }, []);
  return (
    <>
      <nav aria-label="Sessions">
        <h1>Chat</h1>
        <button onClick={() => go(generateId())}>New chat</button>
        <ul>
          {sessions.map(s => (
            <li key={s.session_id}>
              <button aria-current={s.session_id === open?.id} onClick={() => go(s.session_id)}>{s.title}</button>
              <button aria-label={`Rename ${s.title}`} onClick={() => rename(s)}>✎</button>
              <button aria-label={`Delete ${s.title}`} onClick={() => remove(s)}>×</button>
            </li>
          ))}
        </ul>
        {problem && <Problem error={problem} />}
      </nav>
      {open?.error && <section><Problem error={open.error} /></section>}
      {open && !open.error && <Chat key={open.id} {...open} getToken={getToken} onTurn={() => attempt(list)} />}
    </>
  );
}

createRoot(document.getElementById('root')!).render(<App />);
