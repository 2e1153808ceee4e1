/**
 * The lines of a log that are held here, of all that there are.
 *
 * - A line never changes, so merging is idempotent and order does not matter.
 * - `first` to before `count` are the lines that exist; `get` gives those that are held.
 * - `missing` says what to ask for next; a line that was asked for and not given is `gone`, so
 *   that it is not asked for again.
 * - No more than `MAX_HELD` are held: those farthest from what was asked for last go first.
 */

import { type LogLine, MAX_LINES } from "./protocol";

const PAGE = 200;
const MAX_HELD = 20_000;

export class LogBuffer {
  first = 0;
  count = 0;
  private readonly held = new Map<number, LogLine | null>(); // null: gone

  private told = false; // whether `first` is sure, and not just the oldest line in memory

  /** Take what a run's record says: the oldest line in the kernel's memory, and how many. */
  extend(first: number, count: number): void {
    if (!this.told) this.first = first;
    this.told ||= first === 0; // from then on the store keeps what memory loses
    this.count = Math.max(this.count, count);
  }

  /** Take what an answer says: the store has older lines than the memory, or has not. */
  reachBack(first: number): void {
    this.first = Math.min(this.first, first);
    this.told = true;
  }

  /** Nobody can be asked: what is held is all that there is. */
  showOnlyHeld(): void {
    this.first = this.all()[0]?.number ?? this.count;
    this.told = false;
  }

  add(lines: readonly LogLine[]): void {
    for (const line of lines) {
      this.held.set(line.number, line);
      this.count = Math.max(this.count, line.number + 1);
    }
    if (this.held.size > MAX_HELD) this.trim(lines.at(-1)?.number ?? this.count);
  }

  /** Take the answer to a request for `start` to before `stop`. */
  answer(start: number, stop: number, lines: readonly LogLine[]): void {
    this.add(lines);
    const end = lines.length ? (lines.at(-1)?.number ?? start) : stop; // a reply may be cut short
    for (let number = start; number < Math.min(end, this.count); number++) {
      if (!this.held.has(number)) this.held.set(number, null);
    }
  }

  get(number: number): LogLine | undefined {
    return this.held.get(number) ?? undefined;
  }

  isGone(number: number): boolean {
    return this.held.get(number) === null;
  }

  /** The range to ask for so that `start` to before `stop` are held, or `null` if they are. */
  missing(start: number, stop: number): [start: number, stop: number] | null {
    let from = Math.max(start, this.first);
    let to = Math.min(stop, this.count);
    while (from < to && this.held.has(from)) from++;
    while (to > from && this.held.has(to - 1)) to--;
    if (from >= to) return null;
    from = Math.max(this.first, Math.floor(from / PAGE) * PAGE);
    to = Math.min(this.count, Math.ceil(to / PAGE) * PAGE, from + MAX_LINES);
    while (this.held.has(from)) from++;
    return [from, to];
  }

  /** All held lines, in order. */
  all(): LogLine[] {
    return [...this.held.values()]
      .filter((line) => line !== null)
      .sort((a, b) => a.number - b.number);
  }

  private trim(near: number): void {
    const numbers = [...this.held.keys()].sort((a, b) => Math.abs(b - near) - Math.abs(a - near));
    for (const number of numbers.slice(0, this.held.size - MAX_HELD / 2)) {
      this.held.delete(number);
    }
  }
}
