/** How long a run took, and how far its bars are. */

import { formatCountdown } from "./format";
import type { Progress, Run, Stopping } from "./protocol";

const MAX_DEPTH = 50; // a saved notebook may claim that bars are nested in a circle

/** Seconds that the run has been at work: since its body began, without its pauses. */
export function elapsed(run: Run, now: number): number | null {
  if (run.started === null) return null;
  const end = run.ended ?? run.paused_since ?? now;
  return Math.max(0, end - run.started - run.paused_seconds);
}

/** Seconds that the run has been paused. */
export function paused(run: Run, now: number): number {
  const since = run.ended === null && run.paused_since !== null ? now - run.paused_since : 0;
  return run.paused_seconds + Math.max(0, since);
}

/** What is done next to stop a run, and in how long; null when there is nothing more to come. */
export function countdown(stopping: Stopping, now: number): string | null {
  const { next, at } = stopping;
  if (next === null || at === null) return null;
  const [what, doing] = next === "kill" ? ["Kill", "Killing…"] : ["Interrupt", "Interrupting…"];
  return at > now ? `${what} in ${formatCountdown(at - now)}` : doing;
}

/** The bars worth a line: the outermost one at work and the innermost in it, or the last one. */
export function shownBars(bars: readonly Progress[]): Progress[] {
  const outermost = bars.filter((bar) => bar.parent === null);
  const outer = outermost.findLast((bar) => bar.ended === null) ?? outermost.at(-1);
  if (!outer) return [];
  let inner = outer;
  for (let depth = 0; depth < MAX_DEPTH; depth++) {
    const next = bars.findLast((bar) => bar.parent === inner.number && bar.ended === null);
    if (!next) break;
    inner = next;
  }
  return inner === outer ? [outer] : [outer, inner];
}

/** Seconds until a bar is full at its rate, if that can be told. */
export function timeLeft(bar: Progress): number | null {
  if (bar.ended !== null || bar.total === null || !bar.rate || bar.rate <= 0) return null;
  return Math.max(0, bar.total - bar.done) / bar.rate;
}
