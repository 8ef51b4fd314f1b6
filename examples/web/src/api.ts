import { APICallError, DefaultChatTransport, type UIMessage } from 'ai';
import type { GetToken } from './token';

const service = import.meta.env.VITE_SERVICE ?? 'http://127.0.0.1:8080';

export type Pending = { approval_id: string; question: string };
export type Message = UIMessage<{
  turn?: number; run_id?: string; usage?: { total_tokens: number }; warnings?: string[]; pending?: Pending[]; feedback?: { score: number } | null;
}>;
export type Session = { session_id: string; title: string; turns: number };

/** Speaks to POST /chat. The history is the service's: only the last message goes out, with how many `turns` the page shows. */
export function transport(getToken: GetToken, turns: () => number) {
  return new DefaultChatTransport<Message>({
    api: `${service}/chat`,
    headers: async () => ({ Authorization: `Bearer ${await getToken()}`, 'X-AI-SDK': '7' }),
    prepareSendMessagesRequest: ({ id, messages, trigger, messageId, headers }) => ({
      headers,
      body: { id, trigger, messageId, messages: messages.slice(-1), after_turn: turns() },
    }),
  });
}

/** How many turns the messages are of: an answer that failed before it began has none. */
export const turnsOf = (messages: Message[]) => messages.findLast(m => m.metadata?.turn && m.parts.length)?.metadata?.turn ?? 0;

/** The messages that the service has of a session: none when it is new. */
export async function load(id: string, getToken: GetToken): Promise<Message[]> {
  const response = await fetch(`${service}/chat/${id}`, { headers: { Authorization: `Bearer ${await getToken()}` } });
  if (response.status === 404) return [];
  const { data, message } = await response.json();
  if (!response.ok) throw new Error(message);
  return data.messages;
}

/** Ends the answer that goes on: the SDK's own stop only leaves it. */
export async function stop(id: string, getToken: GetToken) {
  await fetch(`${service}/chat/${id}/stop`, { method: 'POST', headers: { Authorization: `Bearer ${await getToken()}` } });
}

/** Any other route of the service. An error has its sentence for people. */
export async function call(getToken: GetToken, method: string, path: string, body?: unknown): Promise<Response> {
  const response = await fetch(service + path, {
    method, headers: { Authorization: `Bearer ${await getToken()}`, 'Content-Type': 'application/json' }, body: body ? JSON.stringify(body) : undefined,
  });
  if (!response.ok) throw new Error((await response.json()).message);
  return response;
}

/** What to show of an error: the service's own sentence, which is the body. */
export function sentence(error: Error): string {
  if (error instanceof TypeError) return 'The service could not be reached. Is this device online?'; // as fetch calls it
  return (APICallError.isInstance(error) && error.responseBody) || error.message;
}

/** What to show of an answer's warnings. */
export const warnings: Record<string, string> = {
  session_not_saved: 'It could not be stored: reload, and it is gone.', response_truncated: 'It was cut off.',
  history_truncated: 'The beginning of the conversation was left out.', fallback_model: 'Another model answered.',
};
