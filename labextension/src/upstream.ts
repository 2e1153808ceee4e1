/** What a task that has not begun waits for: those whose results it is given, or told to wait for. */

import type { Task } from "./protocol";
import { isTerminal } from "./states";

/** Tasks by their number: those that were asked for. */
export type KnownTasks = ReadonlyMap<number, Task>;

const MOST_NAMED = 3;

/** "waits for load-0 and load-1", or nothing; a task that is not known has not ended, either. */
export function waitsFor(task: Task, tasks: KnownTasks): string {
  if (task.state_type !== "PENDING") return "";
  const open = task.upstream.filter((number) => {
    const before = tasks.get(number);
    return !before || !isTerminal(before.state_type);
  });
  const known = open.map((number) => tasks.get(number)?.name).filter((name) => name !== undefined);
  const parts = known.slice(0, MOST_NAMED);
  const others = open.length - parts.length;
  if (others && parts.length) parts.push(`${others} more`);
  else if (others) parts.push(others === 1 ? "another task" : `${others} other tasks`);
  const last = parts.pop();
  if (last === undefined) return "";
  return `waits for ${parts.length ? `${parts.join(", ")} and ${last}` : last}`;
}
