/** What a run waits for, and the answer that it waits for from a person. */

import { useState } from "preact/hooks";
import { formatDuration } from "../format";
import type { RunModel } from "../model";
import { useTicks } from "./hooks";

export function WaitingBar({ model }: { model: RunModel }) {
  const { run } = model;
  const waiting = run?.waiting ?? null;
  useTicks(waiting?.until != null && model.active, 1000);
  if (!run || !waiting || model.ended || run.asked === "cancel") return null;
  const able = model.status.capability !== "read-only" && model.pending === null;
  const left = waiting.until !== null ? Math.max(0, Math.ceil(waiting.until - model.now())) : null;
  const inTime = left === null ? "" : formatDuration(left);

  switch (waiting.kind) {
    case "run":
      return (
        <div class="jf-waiting">
          <span class="jf-question">
            <span>Waits for the earlier run of this cell to end.</span>
          </span>
          {model.status.capability !== "read-only" && (
            <button
              type="button"
              class="jf-button"
              aria-disabled={!able}
              title="Cancel the earlier run and begin"
              onClick={() => {
                if (able) void model.act("replace");
              }}
            >
              {model.pending === "replace" ? "Replacing…" : "Replace"}
            </button>
          )}
        </div>
      );
    case "approval":
      return (
        <div class="jf-waiting jf-asks">
          <span class="jf-question">{waiting.text || "Waits for approval."}</span>
          {inTime && <span class="jf-dim jf-until">gives up in {inTime}</span>}
          {model.status.capability !== "read-only" && (
            <button
              type="button"
              class="jf-button jf-primary"
              aria-disabled={!able}
              onClick={() => {
                if (able) void model.act("resume");
              }}
            >
              {model.pending === "resume" ? "Approving…" : "Approve"}
            </button>
          )}
        </div>
      );
    case "input":
      return <InputForm model={model} text={waiting.text} able={able} inTime={inTime} />;
    case "retry":
      return (
        <div class="jf-waiting">
          <span class="jf-question">
            {left === null ? "Tries again soon." : `Tries again in ${formatDuration(left)}.`}
            {waiting.text && <span class="jf-dim"> {waiting.text}</span>}
          </span>
        </div>
      );
    default:
      return (
        <div class="jf-waiting">
          <span class="jf-question">{waiting.text || "Waits."}</span>
        </div>
      );
  }
}

interface FormProps {
  model: RunModel;
  text: string;
  able: boolean;
  inTime: string;
}

function InputForm({ model, text, able, inTime }: FormProps) {
  const [answer, setAnswer] = useState("");
  const question = text || "Waits for input.";
  return (
    <form
      class="jf-waiting jf-asks"
      onSubmit={(event) => {
        event.preventDefault();
        if (able) void model.act("resume", answer);
      }}
    >
      <label class="jf-question">
        <span>{question}</span>
        <input
          class="jf-field"
          type="text"
          value={answer}
          autocomplete="off"
          disabled={model.status.capability === "read-only"}
          onInput={(event) => setAnswer(event.currentTarget.value)}
        />
      </label>
      {inTime && <span class="jf-dim jf-until">gives up in {inTime}</span>}
      {model.status.capability !== "read-only" && (
        <button type="submit" class="jf-button jf-primary" aria-disabled={!able}>
          {model.pending === "resume" ? "Sending…" : "Send"}
        </button>
      )}
    </form>
  );
}
