/**
 * What a view knows of its run, and what it asks for.
 *
 * - It begins with what was saved and takes in what the connection hears. Snapshots of one source
 *   that are older than the last one (by the sender's clock) are dropped, and an ended run never
 *   comes back to life.
 * - Lines, tasks and outputs are asked for only when a part of the view says that it shows them,
 *   one request of a kind at a time; the newest wish wins.
 * - An action is `pending` from the click to the kernel's answer. What was asked is then shown
 *   from the run itself, never assumed.
 * - Listeners are called at most once a frame, and in a hidden page, which has no frames, at most
 *   twice a second.
 */

import { Connection, type Source, type Status } from "./connection";
import { LogBuffer } from "./logs";
import {
  type LogLine,
  MAX_LINES,
  type Output,
  type Run,
  type Saved,
  type Shown,
  type Stack,
  type Task,
  type Transition,
} from "./protocol";
import { isTerminal } from "./states";
import type { Action, Details, Transport } from "./transport";

export interface ModelOptions {
  name: string;
  saved: Saved;
  live: Transport | null;
  store: Transport | null;
  /** False for a notebook that is not trusted: nothing at all is asked then. */
  trusted: boolean;
}

export interface Where {
  at: number | null; // when; null before the first answer
  stacks: Stack[];
  more: number; // how many stacks there are beside these
  looking: boolean; // somebody has asked and was not answered yet
  problem: string | null; // why the last look saw nothing
}

const PAGE_OF_TASKS = 200;
const REFRESH_SECONDS = 1; // tasks of an active run

export class RunModel {
  readonly lines = new LogBuffer();
  readonly tasks = new Map<number, Task>();
  readonly outputs = new Map<number, Output>();
  outputNumbers: number[] = [];
  transitions: Transition[] = [];
  /** Where its code was when somebody looked last. */
  where: Where = { at: null, stacks: [], more: 0, looking: false, problem: null };
  run: Run | null;
  kernelAlive: boolean | null = null;
  pending: Action | null = null;
  problem: string | null = null;
  status: Status = { source: "saved", why: null, capability: "read-only", transport: null };

  private readonly connection: Connection | null = null;
  private readonly listeners = new Set<() => void>();
  private frame = 0; // 0: nobody is to be called
  private noFrame: ReturnType<typeof setTimeout> | undefined;
  private closed = false;
  private clock: { source: Source; theirs: number; ours: number } | null = null;
  private readonly asking = new Set<string>();
  private wantedLines: [number, number] | null = null;
  private outputsSince = 0;
  private transitionsOf = "";
  private tasksAt = 0;
  private tasksOf = "";

  constructor(readonly options: ModelOptions) {
    const { run, lines } = options.saved;
    this.run = run;
    if (run) this.lines.extend(run.log_first, run.log_count);
    this.lines.add(lines);
    if (run && !options.trusted) this.lines.showOnlyHeld();
    if (options.trusted) {
      this.status = { ...this.status, source: "connecting" };
      this.connection = new Connection({
        live: options.live,
        store: options.store,
        onShown: (shown, source) => this.take(shown, source),
        onStatus: (status) => this.follow(status),
      });
    }
  }

  get name(): string {
    return this.run?.name || this.options.name || "run";
  }

  get ended(): boolean {
    return this.run !== null && isTerminal(this.run.state_type);
  }

  /** Whether the run goes on as far as anybody who answers knows. */
  get active(): boolean {
    return this.run !== null && !this.ended && ["kernel", "store"].includes(this.status.source);
  }

  /** Whether somebody could say where its code is now. */
  get locatable(): boolean {
    return this.active && this.run?.started != null && this.status.source === "kernel";
  }

  /** The time by the clock of whoever was heard last. */
  now(): number {
    const ours = Date.now() / 1000;
    return this.clock ? this.clock.theirs + (ours - this.clock.ours) : ours;
  }

  subscribe(listener: () => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  setLive(live: Transport | null): void {
    this.connection?.setLive(live);
  }

  setVisible(visible: boolean): void {
    this.connection?.setVisible(visible);
  }

  close(): void {
    this.closed = true;
    this.connection?.close();
    cancelAnimationFrame(this.frame);
    clearTimeout(this.noFrame);
    this.listeners.clear();
  }

  async act(action: Action, details?: Details): Promise<void> {
    const refusal = await this.answer(action, details);
    if (refusal === null) return;
    this.problem = refusal;
    this.changed();
  }

  /** Like `act`, for what shows by itself why it was refused: answers with the reason. */
  async answer(action: Action, details?: Details): Promise<string | null> {
    const { transport } = this.status;
    if (!transport || this.pending) return null;
    let refusal: string | null = null;
    this.pending = action;
    this.problem = null;
    this.changed();
    try {
      const run = await transport.act(action, details);
      if (run) this.take({ run, now: null, lines: [], kernelAlive: null }, this.status.source);
    } catch (error) {
      refusal = error instanceof Error ? error.message : String(error);
    }
    this.pending = null;
    this.changed();
    return refusal;
  }

  dismissProblem(): void {
    this.problem = null;
    this.changed();
  }

  /** The lines `start` to before `stop`, from what is held or from whoever answers. */
  async read(start: number, stop: number): Promise<LogLine[]> {
    const { transport } = this.status;
    if (transport && this.lines.missing(start, stop)) {
      for (let from = start; from < stop; ) {
        const page = await transport.logs(from, stop);
        const last = page.lines.at(-1)?.number;
        this.lines.answer(from, Math.min(stop, from + MAX_LINES), page.lines);
        from = last === undefined ? stop : last + 1;
        if (last === undefined || from >= stop) break;
      }
    }
    const lines: LogLine[] = [];
    for (let number = start; number < stop; number++) {
      const line = this.lines.get(number);
      if (line) lines.push(line);
    }
    return lines;
  }

  /** The log shows the lines `start` to before `stop`. */
  needLines(start: number, stop: number): void {
    this.wantedLines = [start, stop];
    const { transport } = this.status;
    const missing = this.lines.missing(start, stop);
    if (!transport || !missing) return;
    void this.once("lines", async () => {
      const page = await transport.logs(...missing);
      this.lines.reachBack(page.first);
      this.lines.answer(...missing, page.lines);
      this.changed();
    }).then((answered) => {
      if (answered && this.wantedLines) this.needLines(...this.wantedLines);
    });
  }

  /** The log begins with lines that the kernel's memory lost: ask whether the store has them. */
  reachBack(): void {
    const { transport } = this.status;
    if (!transport || this.lines.first === 0) return;
    void this.once("first", async () => {
      const page = await transport.logs(0, 1);
      if (page.first < this.lines.first) {
        this.lines.reachBack(page.first);
        this.changed();
      }
    });
  }

  /** The list of tasks shows the tasks `start` to before `stop`. */
  needTasks(start: number, stop: number): void {
    const { transport } = this.status;
    const run = this.run;
    if (!transport || !run?.task_count) return;
    const from = Math.floor(start / PAGE_OF_TASKS) * PAGE_OF_TASKS;
    const to = Math.min(run.task_count, Math.ceil(stop / PAGE_OF_TASKS) * PAGE_OF_TASKS);
    let held = true;
    for (let number = from; number < to; number++) held &&= this.tasks.has(number);
    const wish = `${from}-${to} ${this.ended}`;
    const fresh = performance.now() - this.tasksAt < REFRESH_SECONDS * 1000;
    if (held && wish === this.tasksOf && (this.ended || fresh)) return;
    void this.once("tasks", async () => {
      for (const task of await transport.tasks(from, to)) this.tasks.set(task.number, task);
      this.tasksAt = performance.now();
      this.tasksOf = wish;
      this.changed();
    });
  }

  /** The outputs are shown. */
  needOutputs(): void {
    const { transport, source } = this.status;
    const run = this.run;
    if (!transport || source !== "kernel" || !run || run.output_changes <= this.outputsSince)
      return;
    void this.once("outputs", async () => {
      const page = await transport.outputs(this.outputsSince);
      for (const output of page.outputs) this.outputs.set(output.number, output);
      this.outputNumbers = page.numbers;
      this.outputsSince = page.outputs.length
        ? Math.max(...page.outputs.map((output) => output.change))
        : run.output_changes;
      this.changed();
    });
  }

  /** The details are shown. */
  needTransitions(): void {
    const { transport } = this.status;
    const run = this.run;
    if (!transport || !run) return;
    const wish = `${run.state_type} ${run.state_name} ${run.state_time}`;
    if (wish === this.transitionsOf) return;
    void this.once("transitions", async () => {
      this.transitions = await transport.transitions();
      this.transitionsOf = wish;
      this.changed();
    });
  }

  /** Look where its code is. */
  async look(): Promise<void> {
    const { transport } = this.status;
    if (!transport || this.status.source !== "kernel" || this.where.looking) return;
    this.where = { ...this.where, looking: true, problem: null };
    this.changed();
    try {
      const { stacks, count } = await transport.where();
      const more = count - stacks.length;
      this.where = { at: this.now(), stacks, more, looking: false, problem: null };
    } catch (error) {
      const problem = error instanceof Error ? error.message : String(error);
      this.where = { ...this.where, looking: false, problem };
    }
    this.changed();
  }

  private async once(what: string, ask: () => Promise<void>): Promise<boolean> {
    if (this.asking.has(what)) return false;
    this.asking.add(what);
    try {
      await ask();
      return true;
    } catch {
      return false; // the connection notices by itself when nobody answers any more
    } finally {
      this.asking.delete(what);
    }
  }

  private follow(status: Status): void {
    const wasKernel = this.status.source === "kernel";
    this.status = status;
    if (status.source !== "kernel") this.pending = null;
    if (status.source === "saved") this.lines.showOnlyHeld();
    if (status.source === "kernel" && !wasKernel) this.problem = null;
    this.changed();
  }

  private take(shown: Shown, source: Source): void {
    const { run, now } = shown;
    const clock = this.clock?.source === source ? this.clock : null;
    const stale = now !== null && clock !== null && now < clock.theirs;
    const same = this.run?.id === run.id ? this.run : null;
    const backToLife = same !== null && this.ended && !isTerminal(run.state_type);
    // A push may overtake the reply to the action that it tells the effect of.
    const overtaken = same !== null && run.state_time < same.state_time;
    if (!stale && !backToLife && !overtaken) {
      if (run.state_type !== this.run?.state_type) this.problem = null; // it did happen
      this.run = run;
      this.kernelAlive = shown.kernelAlive;
      if (now !== null) this.clock = { source, theirs: now, ours: Date.now() / 1000 };
    }
    this.lines.extend(run.log_first, run.log_count);
    this.lines.add(shown.lines);
    this.changed();
  }

  private changed(): void {
    if (this.closed || this.frame) return;
    const call = () => {
      cancelAnimationFrame(this.frame);
      clearTimeout(this.noFrame);
      this.frame = 0;
      for (const listener of [...this.listeners]) listener();
    };
    this.frame = requestAnimationFrame(call);
    this.noFrame = setTimeout(call, 500);
  }
}
