/** The line under the header that tells a run from others: its tags, its metadata, its original. */

import type { Run } from "../protocol";

const ID_SHOWN = 8; // characters: as many as `%flows` shows, and takes
const MOST_SHOWN = 60; // characters of a text: one leaves room for the next

function cut(text: string): string {
  return text.length > MOST_SHOWN ? `${text.slice(0, MOST_SHOWN)}…` : text;
}

/** One line, which the details have whole; absent where there is nothing to say. */
export function About({ run }: { run: Run }) {
  const { tags, metadata, replay_of: original } = run;
  const entries = Object.entries(metadata);
  if (!tags.length && !entries.length && !original) return null;
  return (
    <div class="jf-about">
      {original && <span title={original}>replay of {original.slice(0, ID_SHOWN)}</span>}
      {tags.map((tag) => (
        <span key={tag} class="jf-tag">
          {cut(tag)}
        </span>
      ))}
      {entries.map(([name, value]) => (
        <span key={name} title={`${name}: ${value}`}>
          {cut(name)}: <span class="jf-value">{cut(value)}</span>
        </span>
      ))}
    </div>
  );
}
