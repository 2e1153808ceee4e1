/**
 * How a view reaches a run: one interface, whoever answers.
 *
 * Every method asks once and answers once, or rejects with a `TransportError`. A transport holds
 * no state of the run and decides nothing: `Connection` chooses among transports.
 */

import type { LogLine, Output, Run, Shown, Stack, Task, Transition } from "./protocol";

export type Action = "cancel" | "kill" | "abandon" | "pause" | "resume" | "replace";

/** What goes with an action. */
export interface Details {
  /** The answer to what a run waits for: any JSON. */
  input?: unknown;
  /** Which question is answered, by its number; 0 for none: a pause is lifted. */
  question?: number;
  /** Why a run is cancelled, in words. */
  reason?: string;
}

/**
 * - `live`: actions take hold at once.
 * - `queued`: actions take hold when the running cell ends.
 * - `read-only`: there are none.
 */
export type Capability = "live" | "queued" | "read-only";

export interface LogPage {
  lines: LogLine[];
  first: number; // the oldest line that can be asked for
  count: number; // the next line's number
}

export interface OutputPage {
  outputs: Output[]; // those that changed
  numbers: number[]; // all that are there, in their order
}

export interface StackPage {
  stacks: Stack[];
  count: number; // how many there are, if more than were sent
}

export interface Transport {
  readonly capability: Capability;
  show(): Promise<Shown>;
  /** Like `show`, and from then on, for a minute, changes come to those who listen. */
  watch(): Promise<Shown>;
  logs(start: number, stop: number): Promise<LogPage>;
  tasks(start: number, stop: number): Promise<Task[]>;
  outputs(since: number): Promise<OutputPage>;
  transitions(): Promise<Transition[]>;
  /** Where the run's code is now. */
  where(): Promise<StackPage>;
  /** Ask for an action; answers with the run as it is then. */
  act(action: Action, details?: Details): Promise<Run | null>;
  /** Hear of changes until the returned function is called. */
  listen(listener: (change: Shown) => void): () => void;
}

/**
 * - `silent`: no answer in time.
 * - `absent`: nobody there to ask.
 * - `unknown`: the one who answers does not know this run.
 * - `refused`: the request was understood and declined; the message says why.
 */
export type Failure = "silent" | "absent" | "unknown" | "refused";

export class TransportError extends Error {
  constructor(
    readonly kind: Failure,
    message: string,
  ) {
    super(message);
    this.name = "TransportError";
  }
}
