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
}

const PENDING: Record<Action, string> = {
  pause: "Pausing…",
  resume: "Resuming…",
  cancel: "Cancelling…",
  replace: "Replacing…",
};

/**
 * @param pending the action that was clicked and not answered yet
 * @param able whether anybody would take an action
 */
export function controls(run: Run, pending: Action | null, able: boolean): Controls {
  if (isTerminal(run.state_type)) return { hold: null, cancel: null };
  const free = able && pending === null;

  function button(action: Action, label: string, asked = false): Control {
    return asked || pending === action
      ? { action, label: PENDING[action], enabled: false }
      : { action, label, enabled: free };
  }

  const cancelling = run.state_type === "CANCELLING" || run.asked === "cancel";
  const answers = run.waiting?.kind === "approval" || run.waiting?.kind === "input";
  let hold: Control | null = null;
  if (!cancelling && run.state_type === "PAUSED" && !answers) hold = button("resume", "Resume");
  if (!cancelling && run.state_type === "RUNNING") {
    hold = button("pause", "Pause", run.asked === "pause");
  }
  return { hold, cancel: button("cancel", "Cancel", cancelling) };
}
