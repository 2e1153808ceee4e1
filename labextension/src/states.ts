/**
 * What a state is called in the view, and what may be done in it.
 *
 * `STATE_TYPES` are Python's, and a test compares them.
 */

import type { StateType } from "./protocol";

export const STATE_TYPES: readonly StateType[] = [
  "SCHEDULED",
  "PENDING",
  "RUNNING",
  "PAUSED",
  "CANCELLING",
  "COMPLETED",
  "FAILED",
  "CANCELLED",
  "CRASHED",
];

const TERMINAL: ReadonlySet<string> = new Set(["COMPLETED", "FAILED", "CANCELLED", "CRASHED"]);

/** Names that read better otherwise; any other name is split into words. */
const LABELS: Record<string, string> = {
  AwaitingConcurrencySlot: "Waiting",
  AwaitingRetry: "Waiting to retry",
  Scheduled: "Waiting",
  Pending: "Starting",
  Cancelling: "Cancelling…",
};

export function isTerminal(type: string): boolean {
  return TERMINAL.has(type);
}

interface Stateful {
  state_type: string;
  state_name: string;
}

export function stateLabel({ state_type, state_name }: Stateful): string {
  const name = state_name || state_type.charAt(0) + state_type.slice(1).toLowerCase();
  const known = LABELS[name];
  if (known) return known;
  const words = name.replace(/(?<=[a-z])(?=[A-Z])/g, " ").toLowerCase();
  return words.charAt(0).toUpperCase() + words.slice(1);
}

/** The label of a run, with what was asked of it and has not happened yet. */
export function runLabel(run: Stateful & { asked: string | null; reason?: string | null }): string {
  if (isTerminal(run.state_type)) return stateLabel(run);
  if (run.asked === "cancel") {
    return run.reason === "timeout" && run.state_type === "RUNNING" ? "Timed out…" : "Cancelling…";
  }
  if (run.asked === "pause" && ["RUNNING", "PAUSED"].includes(run.state_type)) return "Pausing…";
  return stateLabel(run);
}
