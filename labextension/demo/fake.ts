/** A made-up kernel: one run, in whatever state the page wants to see. */

import type {
  LogLine,
  Output,
  Run,
  Shown,
  Stack,
  Task,
  Transition,
  Waiting,
} from "../src/protocol";
import {
  type Action,
  type Capability,
  type Details,
  type Transport,
  TransportError,
} from "../src/transport";

export function fakeRun(changes: Partial<Run> = {}): Run {
  const now = Date.now() / 1000;
  return {
    id: crypto.randomUUID(),
    name: "train",
    flow: "train",
    on: "thread",
    kernel: "a-kernel",
    parent: null,
    state_type: "RUNNING",
    state_name: "Running",
    state_message: "",
    state_time: now - 42,
    asked: null,
    reason: null,
    waiting: null,
    stopping: null,
    created: now - 43,
    started: now - 42,
    ended: null,
    paused_seconds: 0,
    paused_since: null,
    attempt: 1,
    replay_of: null,
    metadata: {},
    tags: [],
    parameters: {},
    cell: null,
    progress: [],
    task_count: 0,
    log_first: 0,
    log_count: 0,
    live: [],
    output_count: 0,
    output_changes: 0,
    result: null,
    error: null,
    ...changes,
  };
}

export function fakeWaiting(changes: Partial<Waiting> = {}): Waiting {
  return {
    kind: "approval",
    text: "",
    run: null,
    until: null,
    number: 1,
    key: null,
    schema: null,
    initial: null,
    description: null,
    held: false,
    ...changes,
  };
}

export function fakeTask(changes: Partial<Task> = {}): Task {
  const now = Date.now() / 1000;
  return {
    number: 0,
    parent: null,
    name: "load-0",
    flow_run: null,
    state_type: "RUNNING",
    state_name: "",
    state_message: "",
    created: now - 20,
    started: changes.state_type === "PENDING" ? null : now - 20,
    ended: null,
    attempt: 1,
    upstream: [],
    ...changes,
  };
}

export interface Fake {
  run: Run;
  line?: (number: number) => Omit<LogLine, "number">;
  tasks?: Task[];
  outputs?: Output[];
  transitions?: Transition[];
  stacks?: Stack[];
  capability?: Capability;
  refuse?: (details: Details) => string | null; // why an action is refused
}

export class FakeTransport implements Transport {
  readonly capability: Capability;
  asked: string[] = []; // every request, for tests
  private readonly listeners = new Set<(change: Shown) => void>();

  constructor(readonly fake: Fake) {
    this.capability = fake.capability ?? "live";
  }

  async show(): Promise<Shown> {
    return { run: this.fake.run, now: Date.now() / 1000, lines: [], kernelAlive: null };
  }

  watch(): Promise<Shown> {
    return this.show();
  }

  async logs(start: number, stop: number) {
    this.asked.push(`logs ${start} ${stop}`);
    const { run, line } = this.fake;
    const end = Math.min(stop, run.log_count, start + 2000);
    const lines: LogLine[] = [];
    for (let number = start; number < end; number++) {
      const made = line?.(number) ?? {
        time: run.created + number / 100,
        level: 20,
        source: "stdout",
        message: `line ${number}`,
      };
      lines.push({ number, ...made });
    }
    return { lines, first: run.log_first, count: run.log_count };
  }

  async tasks(start: number, stop: number) {
    return (this.fake.tasks ?? []).slice(start, stop);
  }

  async outputs(since: number) {
    const outputs = this.fake.outputs ?? [];
    return {
      outputs: outputs.filter((output) => output.change > since),
      numbers: outputs.map((output) => output.number),
    };
  }

  async transitions() {
    return this.fake.transitions ?? [];
  }

  async where() {
    this.asked.push("where");
    const stacks = this.fake.stacks ?? [];
    return { stacks, count: stacks.length };
  }

  async act(action: Action, details: Details = {}): Promise<Run> {
    const more = JSON.stringify(details);
    this.asked.push(more === "{}" ? action : `${action} ${more}`);
    await new Promise((resolve) => setTimeout(resolve, 300));
    const refusal = this.fake.refuse?.(details);
    if (refusal) throw new TransportError("refused", refusal);
    const now = Date.now() / 1000;
    const { run } = this.fake;
    const paused = now - (run.paused_since ?? now);
    const changes: Record<Action, Partial<Run>> = {
      pause: { state_type: "PAUSED", state_name: "Paused", paused_since: now },
      resume: {
        state_type: "RUNNING",
        state_name: "Running",
        paused_since: null,
        paused_seconds: run.paused_seconds + paused,
        waiting: null,
      },
      cancel: { state_type: "CANCELLED", state_name: "Cancelled", ended: now },
      kill: { stopping: run.stopping && { ...run.stopping, rung: "killed", next: null, at: null } },
      abandon: { state_type: "CANCELLED", state_name: "Abandoned", stopping: null, ended: now },
      replace: { state_type: "RUNNING", state_name: "Running", waiting: null },
    };
    this.push(changes[action]);
    return this.fake.run;
  }

  listen(listener: (change: Shown) => void): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  push(changes: Partial<Run>, lines: LogLine[] = []): void {
    this.fake.run = { ...this.fake.run, ...changes };
    for (const listener of this.listeners) {
      listener({ run: this.fake.run, now: Date.now() / 1000, lines, kernelAlive: null });
    }
  }
}
