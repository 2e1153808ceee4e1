/**
 * What is always there: state, name, elapsed time, worker, and what can be done. One line, or two
 * in a narrow place.
 */

import { type Control, controls } from "../controls";
import { formatClock, formatCount, formatDuration } from "../format";
import type { RunModel } from "../model";
import type { Notice } from "../notice";
import type { Run } from "../protocol";
import { runLabel } from "../states";
import { elapsed, paused } from "../timing";
import { useLasting, useTicks } from "./hooks";
import { CancelIcon, Chevron, KillIcon, PauseIcon, ResumeIcon, StateIcon } from "./icons";
import { Countdown } from "./stopping";

const PATIENCE = 300; // milliseconds: what stops at once is not in need of more buttons
const LONG_PATIENCE = 1000;

interface Props {
  model: RunModel;
  notice: Notice | null;
  open: boolean;
  onToggle: () => void;
}

export function Header({ model, notice, open, onToggle }: Props) {
  const { run, name } = model;
  const stopping = useLasting(run?.stopping != null, PATIENCE) ? run?.stopping : null;
  return (
    <div class="jf-head">
      <div class="jf-title">
        <button
          type="button"
          class="jf-toggle"
          aria-expanded={open}
          aria-label={`${open ? "Hide" : "Show"} the details of ${name}`}
          onClick={onToggle}
        >
          <Chevron />
        </button>
        <StateIcon type={run?.state_type ?? ""} />
        <span class="jf-cut jf-name" title={name}>
          {name}
        </span>
        <span class="jf-state">{run ? runLabel(run) : "Unknown state"}</span>
        {run && <Elapsed model={model} run={run} />}
        {run?.on && <span class="jf-dim jf-worker">{run.on}</span>}
        {run && run.attempt > 1 && <span class="jf-dim jf-attempt">attempt {run.attempt}</span>}
        {notice?.tag && <span class="jf-tag">{notice.tag}</span>}
      </div>
      <span class="jf-gap" />
      {run && model.ended && <Summary run={run} open={open} />}
      {stopping && <Countdown model={model} stopping={stopping} />}
      {run && <Buttons model={model} run={run} stopping={stopping != null} />}
    </div>
  );
}

/** Why the run did not end well, or, when folded, what is below. */
function Summary({ run, open }: { run: Run; open: boolean }) {
  const reason = run.state_type === "COMPLETED" ? "" : run.state_message;
  const text = reason || (open ? "" : contents(run));
  if (!text) return null;
  return (
    <span class={`jf-dim jf-cut jf-summary ${reason ? "jf-reason" : ""}`} title={text}>
      {text}
    </span>
  );
}

function contents(run: Run): string {
  const parts = [];
  if (run.log_count) parts.push(plural(run.log_count, "line"));
  if (run.task_count) parts.push(plural(run.task_count, "task"));
  if (run.output_count) parts.push(plural(run.output_count, "output"));
  return parts.join(" · ");
}

function plural(count: number, noun: string): string {
  return `${formatCount(count)} ${noun}${count === 1 ? "" : "s"}`;
}

function Elapsed({ model, run }: { model: RunModel; run: Run }) {
  useTicks(model.active);
  const known = run.ended !== null || model.status.source !== "saved";
  const now = model.now();
  const seconds = known ? elapsed(run, now) : null;
  const pause = known ? paused(run, now) : 0;
  return (
    <>
      <span class="jf-elapsed" title="Elapsed time, without pauses">
        {seconds === null
          ? ""
          : run.ended === null
            ? formatClock(seconds)
            : formatDuration(seconds)}
      </span>
      {pause >= 1 && (
        <span class="jf-dim jf-paused-time">
          + {run.ended === null ? formatClock(pause) : formatDuration(pause)} paused
        </span>
      )}
    </>
  );
}

const KILL =
  "Stop it by force, now. A process ends with all that it has started; in a thread a cleanup may " +
  "be skipped.";
const ABANDON =
  "Give it up: the run ends as cancelled. What its code still prints, returns and binds is dropped.";

interface ButtonsProps {
  model: RunModel;
  run: Run;
  stopping: boolean; // for a while
}

/**
 * Kill stands where Pause was, and Abandon where Cancel was: so that nobody who clicks twice asks
 * for the next step too.
 */
function Buttons({ model, run, stopping }: ButtonsProps) {
  const silent = model.status.why === "silent";
  const able = model.status.capability !== "read-only";
  const { hold, cancel, kill, abandon } = controls(run, model.pending, able);
  const stuck = useLasting(abandon !== null, LONG_PATIENCE);
  if (!able && !(silent && model.status.source === "store")) return null;
  if (!hold && !cancel) return null;
  const button = (control: Control, title?: string) => (
    <button
      type="button"
      class="jf-button"
      aria-disabled={!control.enabled}
      title={able ? title : "The kernel does not answer"}
      onClick={() => {
        // this button answers no question: it only ends a pause
        const details = control.action === "resume" ? { question: 0 } : {};
        if (control.enabled) void model.act(control.action, details);
      }}
    >
      {control.action === "pause" && <PauseIcon />}
      {control.action === "resume" && <ResumeIcon />}
      {control.action === "cancel" && <CancelIcon />}
      {control.action === "kill" && <KillIcon />}
      {control.label}
    </button>
  );
  return (
    <span class="jf-buttons">
      {hold && button(hold)}
      {kill && stopping && button(kill, KILL)}
      {abandon && stuck ? button(abandon, ABANDON) : cancel && button(cancel)}
    </span>
  );
}
