import Markdown from 'react-markdown';
import remarkGfm from 'remark-gfm';

/** The model's Markdown, of which no HTML is made. */
export default function Text({ children }: { children: string }) {
  return <Markdown remarkPlugins={[remarkGfm]}>{children}</Markdown>;
}
