/** What a run waits for, and the answer that it waits for from a person. */

import { useRef, useState } from "preact/hooks";
import { stripAnsi } from "../ansi";
import { formatDuration } from "../format";
import type { RunModel } from "../model";
import type { Waiting } from "../protocol";
import { type Field, fieldsOf, templateOf } from "../schema";
import type { Details } from "../transport";
import { useLasting, useTicks } from "./hooks";

const PATIENCE = 1000; // milliseconds: a short wait that needs nobody moves nothing

/** What the run waits for now. */
function waitingOf(model: RunModel): Waiting | null {
  const { run } = model;
  return run && !model.ended && run.asked !== "cancel" ? run.waiting : null;
}

/** What the bar says, so that it is said nowhere else; empty where there is none. */
export function toldWaiting(model: RunModel): string {
  return waitingOf(model)?.text ?? "";
}

export function WaitingBar({ model }: { model: RunModel }) {
  const waiting = waitingOf(model);
  const needsNobody = model.active && ["slot", "retry"].includes(waiting?.kind ?? "");
  const lasting = useLasting(needsNobody, PATIENCE);
  useTicks(waiting?.until != null && model.active, 1000);
  if (!waiting || (needsNobody && !lasting)) return null;
  const able = model.status.capability !== "read-only" && model.pending === null;
  const left = waiting.until !== null ? Math.max(0, Math.ceil(waiting.until - model.now())) : null;
  const inTime = left === null || waiting.held ? "" : formatDuration(left); // held, no time passes

  switch (waiting.kind) {
    case "run":
      return (
        <div class="jf-waiting">
          <span class="jf-question">{waiting.text || "Waits for an earlier run."}</span>
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
      return <Approval model={model} waiting={waiting} able={able} inTime={inTime} />;
    case "input": {
      const Form = waiting.schema ? JsonForm : TextForm;
      return (
        <Form key={waiting.number} model={model} waiting={waiting} able={able} inTime={inTime} />
      );
    }
    case "retry":
      return (
        <div class="jf-waiting">
          <span class="jf-question">
            <span>{waiting.held ? "Tries again when resumed." : triesAgain(left)}</span>
            {waiting.text && <span class="jf-dim">{waiting.text}</span>}
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

function triesAgain(left: number | null): string {
  return left ? `Tries again in ${formatDuration(left)}.` : "Tries again soon.";
}

interface AskingProps {
  model: RunModel;
  waiting: Waiting;
  able: boolean; // somebody would take an answer now
  inTime: string; // when the run gives up
}

/** Which question an answer is for: the one that is read here. */
function detailsOf(waiting: Waiting, details: Details = {}): Details {
  return waiting.number === null ? details : { ...details, question: waiting.number };
}

function Until({ inTime }: { inTime: string }) {
  return inTime ? <span class="jf-dim jf-until">gives up in {inTime}</span> : null;
}

function Approval({ model, waiting, able, inTime }: AskingProps) {
  return (
    <div class="jf-waiting jf-asks">
      <span class="jf-question">{waiting.text || "Waits for approval."}</span>
      <Until inTime={inTime} />
      {model.status.capability !== "read-only" && (
        <span class="jf-buttons">
          <button
            type="button"
            class="jf-button jf-primary"
            aria-disabled={!able}
            onClick={() => {
              if (able) void model.act("resume", detailsOf(waiting));
            }}
          >
            {model.pending === "resume" ? "Approving…" : "Approve"}
          </button>
          <button
            type="button"
            class="jf-button"
            aria-disabled={!able}
            title="Cancel the run"
            onClick={() => {
              if (able) void model.act("cancel", { reason: "Rejected" });
            }}
          >
            Reject
          </button>
        </span>
      )}
    </div>
  );
}

function TextForm({ model, waiting, able, inTime }: AskingProps) {
  const [answer, setAnswer] = useState("");

  function send() {
    if (able) void model.act("resume", detailsOf(waiting, { input: answer }));
  }

  return (
    <form
      class="jf-waiting jf-asks"
      onSubmit={(event) => {
        event.preventDefault();
        send();
      }}
    >
      <label class="jf-question">
        <span>{waiting.text || "Waits for input."}</span>
        <input
          class="jf-field"
          type="text"
          value={answer}
          autocomplete="off"
          disabled={model.status.capability === "read-only"}
          onInput={(event) => setAnswer(event.currentTarget.value)}
          onKeyDown={(event) => {
            // JupyterLab keeps Enter from submitting a form that stands in a cell
            if (event.key !== "Enter" || event.isComposing) return;
            event.preventDefault();
            event.stopPropagation();
            send();
          }}
        />
      </label>
      <Until inTime={inTime} />
      {model.status.capability !== "read-only" && (
        <button type="submit" class="jf-button jf-primary" aria-disabled={!able}>
          {model.pending === "resume" ? "Sending…" : "Send"}
        </button>
      )}
    </form>
  );
}

const MOST_ROWS = 16;

/**
 * What a schema asks for: a summary of its fields, and a field for JSON. What was typed stays
 * until it is taken, and why it was not stands below.
 */
function JsonForm({ model, waiting, able, inTime }: AskingProps) {
  const [fields] = useState(() => fieldsOf(waiting.schema, waiting.initial));
  const [answer, setAnswer] = useState(() => templateOf(waiting.schema, waiting.initial));
  const [problem, setProblem] = useState("");
  const [prefix] = useState(() => `jf-${Math.random().toString(36).slice(2, 10)}`);
  const area = useRef<HTMLTextAreaElement>(null);
  const readOnly = model.status.capability === "read-only";
  const rows = Math.min(MOST_ROWS, Math.max(2, answer.split("\n").length));

  function refuse(why: string) {
    setProblem(why);
    area.current?.focus();
  }

  async function send() {
    let input: unknown;
    try {
      input = JSON.parse(answer);
    } catch (error) {
      return refuse(`This is not JSON yet: ${error instanceof Error ? error.message : error}`);
    }
    setProblem("");
    const refusal = await model.answer("resume", detailsOf(waiting, { input }));
    if (refusal !== null) refuse(stripAnsi(refusal));
  }

  return (
    <form
      class="jf-waiting jf-asks jf-form"
      onSubmit={(event) => {
        event.preventDefault();
        if (able) void send();
      }}
    >
      <div class="jf-form-head">
        <span class="jf-question">{waiting.text || "Waits for input."}</span>
        <Until inTime={inTime} />
      </div>
      {waiting.description && <p class="jf-described">{waiting.description}</p>}
      {fields.length > 0 && (
        <dl id={`${prefix}-fields`} class="jf-fields" tabIndex={fields.length > 9 ? 0 : undefined}>
          {fields.map((field) => (
            <FieldSummary key={field.name} field={field} />
          ))}
        </dl>
      )}
      <label class="jf-dim jf-json-label" for={`${prefix}-json`}>
        Input, as JSON
      </label>
      <textarea
        ref={area}
        id={`${prefix}-json`}
        class="jf-field jf-json"
        value={answer}
        rows={rows}
        spellcheck={false}
        autocomplete="off"
        readOnly={readOnly}
        aria-invalid={problem !== ""}
        aria-describedby={`${prefix}-problem ${prefix}-fields`}
        onInput={(event) => setAnswer(event.currentTarget.value)}
        onKeyDown={(event) => {
          if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
          event.preventDefault();
          event.stopPropagation();
          if (able) void send();
        }}
      />
      <p id={`${prefix}-problem`} class="jf-refusal" role="alert">
        {problem}
      </p>
      {!readOnly && (
        <span class="jf-buttons">
          <button
            type="submit"
            class="jf-button jf-primary"
            aria-disabled={!able}
            title="Send (Ctrl+Enter in the field)"
          >
            {model.pending === "resume" ? "Sending…" : "Send"}
          </button>
        </span>
      )}
    </form>
  );
}

function FieldSummary({ field }: { field: Field }) {
  const { name, type, limits, required, initial, description } = field;
  const left = initial === null ? "" : `${initial} if left out`;
  return (
    <>
      <dt>{name}</dt>
      <dd>
        <span>
          {[type, limits].filter(Boolean).join(", ")}
          {required && <span class="jf-required"> · required</span>}
          {left && <span class="jf-dim"> · {left}</span>}
        </span>
        {description && <span class="jf-dim">{description}</span>}
      </dd>
    </>
  );
}
