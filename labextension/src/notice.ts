/** The one line that says what is shown when it is not simply the run as it is now. */

import type { Status } from "./connection";
import type { Run } from "./protocol";
import { isTerminal } from "./states";

export interface Notice {
  tag: string; // for the header
  text: string; // the whole line
}

export function notice(
  run: Run | null,
  status: Status,
  trusted: boolean,
  kernelAlive: boolean | null,
): Notice | null {
  const active = run !== null && !isTerminal(run.state_type);
  if (!trusted) {
    return { tag: "saved", text: "Saved state. Trust the notebook to see the run as it is now." };
  }
  switch (status.source) {
    case "connecting":
      return null;
    case "kernel":
      return active && status.capability === "queued"
        ? { tag: "", text: "Buttons act when the running cell ends." }
        : null;
    case "store":
      if (!active) return null; // nothing more can come
      if (status.why === "silent") {
        return { tag: "from the store", text: "The kernel does not answer: shown from the store." };
      }
      return {
        tag: "from the store",
        text:
          kernelAlive === false
            ? "Shown from the store: the kernel of this run has ended."
            : status.why === "unknown"
              ? "Shown from the store: another kernel runs it."
              : "Shown from the store: no kernel is connected.",
      };
    case "saved":
      if (status.why === "silent") {
        return {
          tag: "saved",
          text: "Saved state: the kernel does not answer and the store has nothing newer.",
        };
      }
      return { tag: "saved", text: "Saved state: the store has nothing newer." };
  }
}
