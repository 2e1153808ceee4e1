/**
 * A transport that speaks the control protocol. How a request gets to the kernel and its answer
 * back is given by an `Ask`: over the control channel, or over the widget's comm.
 */

import {
  PROTOCOL,
  type Run,
  readLines,
  readOutputs,
  readRun,
  readShown,
  readStacks,
  readTasks,
  readTransitions,
  type Shown,
} from "../protocol";
import {
  type Action,
  type Capability,
  type Details,
  type LogPage,
  type OutputPage,
  type StackPage,
  type Transport,
  TransportError,
} from "../transport";

export type Content = Record<string, unknown>;

/** Send a request's content and answer with the reply's; rejects without one in so many seconds. */
export type Ask = (content: Content, seconds: number) => Promise<Content>;

/** Call back with the content of every push of any run until the returned function is called. */
export type Listen = (listener: (content: unknown) => void) => () => void;

const SECONDS_TO_SHOW = 1.5; // the store is asked then
const SECONDS_TO_READ = 5;
const SECONDS_TO_ACT = 10;

export class KernelTransport implements Transport {
  constructor(
    readonly capability: Capability,
    private readonly run: string,
    private readonly ask: Ask,
    private readonly pushes: Listen,
  ) {}

  async show(): Promise<Shown> {
    return shown(await this.request("show", {}, SECONDS_TO_SHOW));
  }

  async watch(): Promise<Shown> {
    return shown(await this.request("watch", {}, SECONDS_TO_SHOW));
  }

  async logs(start: number, stop: number): Promise<LogPage> {
    return readLogPage(await this.request("logs", { start, stop }));
  }

  async tasks(start: number, stop: number) {
    return readTasks((await this.request("tasks", { start, stop })).tasks);
  }

  async outputs(since: number): Promise<OutputPage> {
    const reply = await this.request("outputs", { since });
    const outputs = readOutputs(reply.outputs);
    const numbers = Array.isArray(reply.numbers)
      ? reply.numbers.filter((item) => typeof item === "number")
      : outputs.map((output) => output.number);
    return { outputs, numbers };
  }

  async transitions() {
    return readTransitions((await this.request("transitions")).transitions);
  }

  async where(): Promise<StackPage> {
    const reply = await this.request("where");
    const stacks = readStacks(reply.stacks);
    const count = typeof reply.count === "number" ? reply.count : 0;
    return { stacks, count: Math.max(count, stacks.length) };
  }

  async act(action: Action, details: Details = {}): Promise<Run | null> {
    const reply = await this.request(action, { ...details }, SECONDS_TO_ACT);
    return readRun(reply.run);
  }

  listen(listener: (change: Shown) => void): () => void {
    return this.pushes((content) => {
      const change = readShown(content);
      if (change && change.run.id === this.run) listener(change);
    });
  }

  private async request(
    action: string,
    extra: Content = {},
    seconds = SECONDS_TO_READ,
  ): Promise<Content> {
    const content = { protocol: PROTOCOL, action, run: this.run, ...extra };
    const reply = await this.ask(content, seconds);
    if (reply.status === "ok") return reply;
    const kind = reply.ename === "UnknownRun" ? "unknown" : "refused";
    const why = typeof reply.evalue === "string" && reply.evalue;
    throw new TransportError(kind, why || `The kernel refused to ${action} the run.`);
  }
}

/** A new token: unlike `crypto.randomUUID`, there on pages served without TLS too. */
export function newToken(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export function readLogPage(reply: Content): LogPage {
  const lines = readLines(reply.lines);
  const first = typeof reply.first === "number" ? reply.first : (lines[0]?.number ?? 0);
  const last = lines.at(-1)?.number ?? first - 1;
  const count = typeof reply.count === "number" ? reply.count : last + 1;
  return { lines, first, count };
}

function shown(reply: Content): Shown {
  const run = readShown(reply);
  if (!run) throw new TransportError("refused", "The kernel's answer holds no run.");
  return run;
}
