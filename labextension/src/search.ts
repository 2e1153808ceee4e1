/**
 * The lines of a log that match: found from the newest backwards, while new ones come in.
 *
 * A log may be far longer than what is held here, so the lines are asked for page by page. It
 * stops looking back after `MAX_MATCHES`, and says so by `cut`.
 */

import { stripAnsi } from "./ansi";
import { type LogLine, MAX_LINES } from "./protocol";

const MAX_MATCHES = 5_000;

export interface Query {
  text: string;
  level: number; // the least
}

export interface LineSource {
  readonly first: number;
  readonly count: number;
  /** The lines `start` to before `stop`, no more than one reply holds. */
  read(start: number, stop: number): Promise<LogLine[]>;
}

export function matches(line: LogLine, query: Query): boolean {
  if (line.level < query.level) return false;
  if (!query.text) return true;
  const text = query.text.toLowerCase();
  return (
    stripAnsi(line.message).toLowerCase().includes(text) || line.source.toLowerCase().includes(text)
  );
}

export class Search {
  found: LogLine[] = [];
  cut = false;
  busy = false;
  private low: number;
  private high: number;

  constructor(
    private readonly source: LineSource,
    private readonly query: Query,
    private readonly changed: () => void,
    private readonly signal: AbortSignal,
  ) {
    this.low = this.high = source.count;
  }

  /** How many lines have been looked at. */
  get scanned(): number {
    return this.high - this.low;
  }

  /** Look on, until all that exists has been looked at. Called again when the log has grown. */
  async advance(): Promise<void> {
    if (this.busy) return;
    this.busy = true;
    try {
      while (!this.signal.aborted && (await this.step())) this.changed();
    } catch {
      // The connection says what is wrong; the next growth of the log tries again.
    } finally {
      this.busy = false;
    }
    if (!this.signal.aborted) this.changed();
  }

  private async step(): Promise<boolean> {
    const { first, count } = this.source;
    if (this.high < count) {
      const stop = Math.min(count, this.high + MAX_LINES);
      const found = await this.scan(this.high, stop);
      this.found = [...this.found, ...found].slice(-2 * MAX_MATCHES);
      this.high = stop;
      return true;
    }
    if (this.low > first) {
      if (this.found.length >= MAX_MATCHES) {
        this.cut = true;
        return false;
      }
      const start = Math.max(first, this.low - MAX_LINES);
      this.found = [...(await this.scan(start, this.low)), ...this.found];
      this.low = start;
      return true;
    }
    return false;
  }

  private async scan(start: number, stop: number): Promise<LogLine[]> {
    const lines = await this.source.read(start, stop);
    return lines.filter((line) => matches(line, this.query));
  }
}
