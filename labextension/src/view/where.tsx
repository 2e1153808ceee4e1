/** "Where is it?": the stack of each thread, coroutine and process of a run, as plain text. */

import { useEffect } from "preact/hooks";
import { formatCount, formatTime } from "../format";
import type { RunModel } from "../model";
import type { Frame, Stack } from "../protocol";
import { CopyIcon, RefreshIcon } from "./icons";
import { copyText } from "./transfer";

export function Where({ model }: { model: RunModel }) {
  const { at, stacks, more, problem } = model.where;
  useEffect(() => void model.look(), [model]);
  return (
    // biome-ignore lint/a11y/noNoninteractiveTabindex: so that the keyboard can scroll it
    <div class="jf-where" tabIndex={0} role="group" aria-label="Where its code is">
      {problem && <p class="jf-where-note">{problem}</p>}
      {at === null && !problem && <p class="jf-where-note">Looking…</p>}
      {at !== null && stacks.length === 0 && (
        <p class="jf-where-note">None of its code was running at {formatTime(at)}.</p>
      )}
      {stacks.map((stack, index) => (
        <OneStack key={index} stack={stack} told={model.run?.stopping?.hint ?? null} />
      ))}
      {more > 0 && <p class="jf-where-note">… and {formatCount(more)} more</p>}
    </div>
  );
}

/** When it was looked, and the buttons to look again and to copy. */
export function WhereTools({ model }: { model: RunModel }) {
  const { at, stacks, looking } = model.where;
  const able = model.locatable && !looking;
  return (
    <div class="jf-tools">
      {at !== null && <span class="jf-said">as of {formatTime(at)}</span>}
      <button
        type="button"
        class="jf-tool"
        aria-label="Copy the stacks"
        title="Copy the stacks"
        aria-disabled={stacks.length === 0}
        onClick={() => void copyText(stacks.map(stackAsText).join("\n"))}
      >
        <CopyIcon />
      </button>
      <button
        type="button"
        class="jf-tool"
        aria-label="Look again"
        title="Look again"
        aria-disabled={!able}
        onClick={() => {
          if (able) void model.look();
        }}
      >
        <RefreshIcon />
      </button>
    </div>
  );
}

/** @param told the hint that stands above the tabs already */
function OneStack({ stack, told }: { stack: Stack; told: string | null }) {
  const { name, kind, doing } = stack;
  const hint = stack.hint === told ? null : stack.hint;
  const frames = stack.frames.toReversed();
  const here = frames.findIndex((frame) => frame.own); // where its author looks first
  return (
    <section class="jf-stack" aria-label={`${kind} ${name}`}>
      <p class="jf-stack-head">
        <span class="jf-stack-name">{name}</span>
        <span class="jf-dim">{[kind, doing].filter(Boolean).join(" · ")}</span>
      </p>
      {hint && (
        <p class="jf-stack-hint">
          <Prose text={hint} />
        </p>
      )}
      {frames.length === 0 ? (
        kind !== "process" && <p class="jf-dim">Not in code of its own just now.</p>
      ) : (
        <ol class="jf-frames" aria-label="Its calls, the latest first">
          {frames.map((frame, index) => (
            <li
              key={index}
              class={`jf-call ${frame.own ? "jf-own" : ""} ${index === here ? "jf-here" : ""}`}
            >
              <Place frame={frame} />
              {frame.text && <code class="jf-source-line">{frame.text}</code>}
            </li>
          ))}
        </ol>
      )}
    </section>
  );
}

export function Place({ frame }: { frame: Frame }) {
  return <span class="jf-place">{placeAsText(frame)}</span>;
}

/** Text in which what stands between backticks is code. */
export function Prose({ text }: { text: string }) {
  return (
    <>
      {text
        .split(/`([^`]+)`/)
        .map((part, index) => (index % 2 ? <code key={index}>{part}</code> : part))}
    </>
  );
}

function placeAsText({ file, line, function: name }: Frame): string {
  const where = [file, line ? `line ${line}` : ""].filter(Boolean).join(", ");
  if (!where) return name;
  return name && name !== "<module>" && name !== "<cell>" ? `${where}, in ${name}` : where;
}

function stackAsText(stack: Stack): string {
  const head = `${stack.name} (${[stack.kind, stack.doing].filter(Boolean).join(", ")})\n`;
  const calls = stack.frames.map((frame) => {
    const source = frame.text ? `    ${frame.text}\n` : "";
    return `  ${placeAsText(frame)}\n${source}`;
  });
  return head + calls.join("");
}
