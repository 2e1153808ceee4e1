/** Which buttons a run has now, and what they say. */

import type { Run } from "./protocol";
import { isTerminal } from "./states";
import type { Action } from "./transport";

export interface Control {
  action: Action;
  label: string;
  enabled: boolean;
}

export interface Controls {
  hold: Control | null; // Pause or Resume
  cancel: Control | null;
  kill: Control | null; // while it is being stopped
  abandon: Control | null; // once it was killed
}

const NONE: Controls = { hold: null, cancel: null, kill: null, abandon: null };

const PENDING: Record<Action, string> = {
  pause: "Pausing…",
  resume: "Resuming…",
  cancel: "Cancelling…",
  replace: "Replacing…",
  kill: "Killing…",
  abandon: "Abandoning…",
};

/**
 * @param pending the action that was clicked and not answered yet
 * @param able whether anybody would take an action
 */
export function controls(run: Run, pending: Action | null, able: boolean): Controls {
  if (isTerminal(run.state_type)) return NONE;
  const free = able && pending === null;

  function button(action: Action, label: string, asked = false): Control {
    return asked || pending === action
      ? { action, label: PENDING[action], enabled: false }
      : { action, label, enabled: free };
  }

  const stopping = run.stopping !== null;
  // what takes too long may still be cancelled by a person: then it is not tried again
  const timedOut = run.state_type !== "CANCELLING" && run.reason === "timeout";
  const cancelling = run.state_type === "CANCELLING" || run.asked === "cancel";
  const answers = run.waiting?.kind === "approval" || run.waiting?.kind === "input";
  let hold: Control | null = null;
  // what waits for a person goes on by the answer, and beside may be paused
  if (!cancelling && run.state_type === "PAUSED" && (!answers || run.waiting?.held)) {
    hold = run.asked === "pause" ? button("pause", "Pause", true) : button("resume", "Resume");
  }
  if (!cancelling && run.state_type === "RUNNING") {
    hold = button("pause", "Pause", run.asked === "pause");
  }
  const killed = run.stopping?.rung === "killed";
  return {
    hold,
    cancel: button("cancel", "Cancel", cancelling && !timedOut),
    kill: !stopping
      ? null
      : killed
        ? { action: "kill", label: "Killed", enabled: false }
        : button("kill", "Kill"),
    abandon: killed ? button("abandon", "Abandon") : null,
  };
}
