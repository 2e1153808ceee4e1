/**
 * What travels: the records and replies of the control protocol, version 1.
 *
 * The Python package describes them (`records.py`, `messages.py`); the fields keep their names.
 * Saved notebooks and other people's kernels send them too, so nothing is believed: every record
 * is read field by field by `readRun` and its like, and what is missing or of the wrong type
 * becomes an empty value. Whatever leaves this module has the shape that its type says.
 *
 * Times are seconds since the epoch, by the clock of whoever sent them; durations are seconds.
 */

import { stripAnsi } from "./ansi";

export const PROTOCOL = 1;
export const MIME_TYPE = "application/vnd.jupyter-flows.run+json";
export const MAX_LINES = 2000; // lines in one reply
const MAX_STACKS = 200; // drawn at once
const MAX_FRAMES = 200; // of a stack, the innermost

export type StateType =
  | "SCHEDULED"
  | "PENDING"
  | "RUNNING"
  | "PAUSED"
  | "CANCELLING"
  | "COMPLETED"
  | "FAILED"
  | "CANCELLED"
  | "CRASHED";

export interface LogLine {
  number: number;
  time: number;
  level: number;
  source: string;
  message: string;
}

export interface Transition {
  time: number;
  type: string;
  name: string;
  message: string;
}

export interface Progress {
  number: number;
  parent: number | null;
  label: string;
  done: number;
  total: number | null;
  started: number;
  ended: number | null;
  rate: number | null;
}

export interface Task {
  number: number;
  parent: number | null;
  name: string;
  flow_run: string | null;
  state_type: string;
  state_name: string;
  state_message: string;
  created: number;
  started: number | null;
  ended: number | null;
  attempt: number;
  upstream: number[]; // the tasks whose results it was given, or waits for
}

export interface Waiting {
  kind: string;
  text: string;
  run: string | null;
  until: number | null;
  number: number | null; // of a question, so that no answer comes to another
  key: string | null;
  schema: Fields | null; // of the input that is asked for, a JSON schema
  initial: Fields | null; // what is taken for fields that are left out
  description: string | null;
  held: boolean; // whether a pause is asked beside
}

/** One call of a stack. */
export interface Frame {
  file: string; // or what stands for it, such as a notebook's cell
  line: number; // 0 where it is not known
  function: string;
  text: string; // the source line
  own: boolean; // whether it is the user's own code
}

/** Where one thread, coroutine or process of a run is. */
export interface Stack {
  name: string;
  kind: string;
  doing: string;
  frames: Frame[]; // the outermost first
  hint: string | null;
}

/** How far the stopping of a run has come. */
export interface Stopping {
  since: number;
  rung: string; // "asked", "interrupted" or "killed"
  next: string | null; // "interrupt" or "kill"
  at: number | null; // when
  stuck: Frame | null;
  hint: string | null;
}

export interface RunError {
  type: string;
  message: string;
  traceback: string;
}

export interface Run {
  id: string;
  name: string;
  flow: string;
  on: string;
  kernel: string;
  parent: string | null;
  state_type: string;
  state_name: string;
  state_message: string;
  state_time: number;
  asked: string | null;
  reason: string | null;
  waiting: Waiting | null;
  stopping: Stopping | null;
  created: number;
  started: number | null;
  ended: number | null;
  paused_seconds: number;
  paused_since: number | null;
  attempt: number;
  replay_of: string | null; // the id of the run that it does anew
  metadata: Record<string, string>;
  tags: string[];
  parameters: Record<string, string>;
  cell: string | null;
  progress: Progress[];
  task_count: number;
  log_first: number;
  log_count: number;
  live: [source: string, text: string][];
  output_count: number;
  output_changes: number;
  result: string | null;
  error: RunError | null;
}

export interface Output {
  number: number;
  change: number;
  data: Record<string, unknown>;
  metadata: Record<string, unknown>;
}

/** A run and what came with it: the reply to `show` and `watch`, and the content of a push. */
export interface Shown {
  run: Run;
  now: number | null; // the sender's clock
  lines: LogLine[];
  kernelAlive: boolean | null; // said by the store only
}

/** What a notebook keeps of a run, in its output's metadata. */
export interface Saved {
  run: Run | null;
  lines: LogLine[];
  kernel: string | null;
}

type Fields = Record<string, unknown>;

function fields(value: unknown): Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value)
    ? (value as Fields)
    : {};
}

function fieldsOrNull(value: unknown): Fields | null {
  return typeof value === "object" && value !== null ? fields(value) : null;
}

function list(value: unknown): unknown[] {
  return Array.isArray(value) ? value : [];
}

function text(value: unknown): string {
  return typeof value === "string" ? value : "";
}

/** Text that is drawn as it is: without what only a terminal understands. */
function words(value: unknown): string {
  return stripAnsi(text(value));
}

function textOrNull(value: unknown): string | null {
  return typeof value === "string" ? value : null;
}

function number(value: unknown): number {
  return typeof value === "number" && Number.isFinite(value) ? value : 0;
}

function numberOrNull(value: unknown): number | null {
  return typeof value === "number" && Number.isFinite(value) ? value : null;
}

function count(value: unknown): number {
  return Math.max(0, Math.min(Number.MAX_SAFE_INTEGER, Math.trunc(number(value))));
}

function textsByName(value: unknown, read: (shown: unknown) => string): Record<string, string> {
  return Object.fromEntries(
    Object.entries(fields(value)).map(([name, shown]) => [stripAnsi(name), read(shown)]),
  );
}

export function readLine(value: unknown): LogLine | null {
  if (!Array.isArray(value) || typeof value[0] !== "number") return null;
  return {
    number: count(value[0]),
    time: number(value[1]),
    level: number(value[2]),
    source: words(value[3]),
    message: text(value[4]),
  };
}

export function readLines(value: unknown): LogLine[] {
  return list(value)
    .map(readLine)
    .filter((line) => line !== null);
}

export function lineAsJson(line: LogLine): [number, number, number, string, string] {
  return [line.number, line.time, line.level, line.source, line.message];
}

export function readTransitions(value: unknown): Transition[] {
  return list(value).map((item) => {
    const it = fields(item);
    return {
      time: number(it.time),
      type: text(it.type),
      name: words(it.name),
      message: words(it.message),
    };
  });
}

export function readTasks(value: unknown): Task[] {
  return list(value).map((item) => {
    const it = fields(item);
    return {
      number: count(it.number),
      parent: numberOrNull(it.parent),
      name: words(it.name),
      flow_run: textOrNull(it.flow_run),
      state_type: text(it.state_type),
      state_name: words(it.state_name),
      state_message: words(it.state_message),
      created: number(it.created),
      started: numberOrNull(it.started),
      ended: numberOrNull(it.ended),
      attempt: count(it.attempt),
      upstream: list(it.upstream).map(count),
    };
  });
}

export function readOutputs(value: unknown): Output[] {
  return list(value).map((item) => {
    const it = fields(item);
    return {
      number: count(it.number),
      change: count(it.change),
      data: fields(it.data),
      metadata: fields(it.metadata),
    };
  });
}

function readProgress(value: unknown): Progress {
  const it = fields(value);
  return {
    number: count(it.number),
    parent: numberOrNull(it.parent),
    label: words(it.label),
    done: number(it.done),
    total: numberOrNull(it.total),
    started: number(it.started),
    ended: numberOrNull(it.ended),
    rate: numberOrNull(it.rate),
  };
}

function readWaiting(value: unknown): Waiting | null {
  const it = fields(value);
  if (!text(it.kind)) return null;
  return {
    kind: text(it.kind),
    text: words(it.text),
    run: textOrNull(it.run),
    until: numberOrNull(it.until),
    number: numberOrNull(it.number),
    key: wordsOrNull(it.key),
    schema: fieldsOrNull(it.schema),
    initial: fieldsOrNull(it.initial),
    description: wordsOrNull(it.description),
    held: it.held === true,
  };
}

function readFrame(value: unknown): Frame | null {
  const it = fields(value);
  if (!text(it.file) && !text(it.function)) return null;
  return {
    file: words(it.file),
    line: count(it.line),
    function: words(it.function),
    text: words(it.text),
    own: it.own === true,
  };
}

function wordsOrNull(value: unknown): string | null {
  return words(value) || null;
}

function readStopping(value: unknown): Stopping | null {
  const it = fields(value);
  if (!text(it.rung)) return null;
  return {
    since: number(it.since),
    rung: text(it.rung),
    next: textOrNull(it.next),
    at: numberOrNull(it.at),
    stuck: readFrame(it.stuck),
    hint: wordsOrNull(it.hint),
  };
}

export function readStacks(value: unknown): Stack[] {
  return list(value)
    .slice(0, MAX_STACKS)
    .map((item) => {
      const it = fields(item);
      return {
        name: words(it.name),
        kind: words(it.kind),
        doing: words(it.doing),
        frames: list(it.frames)
          .slice(-MAX_FRAMES)
          .map(readFrame)
          .filter((frame) => frame !== null),
        hint: wordsOrNull(it.hint),
      };
    });
}

function readError(value: unknown): RunError | null {
  const it = fields(value);
  if (!text(it.type) && !text(it.message) && !text(it.traceback)) return null;
  return { type: text(it.type), message: text(it.message), traceback: text(it.traceback) };
}

/** Read a `RunRecord`; `null` when it is none. */
export function readRun(value: unknown): Run | null {
  const it = fields(value);
  if (!text(it.id)) return null;
  return {
    id: text(it.id),
    name: words(it.name),
    flow: words(it.flow),
    on: words(it.on),
    kernel: text(it.kernel),
    parent: textOrNull(it.parent),
    state_type: text(it.state_type),
    state_name: words(it.state_name),
    state_message: words(it.state_message),
    state_time: number(it.state_time),
    asked: textOrNull(it.asked),
    reason: textOrNull(it.reason),
    waiting: readWaiting(it.waiting),
    stopping: readStopping(it.stopping),
    created: number(it.created),
    started: numberOrNull(it.started),
    ended: numberOrNull(it.ended),
    paused_seconds: number(it.paused_seconds),
    paused_since: numberOrNull(it.paused_since),
    attempt: count(it.attempt),
    replay_of: textOrNull(it.replay_of),
    metadata: textsByName(it.metadata, words),
    tags: list(it.tags).map(words).filter(Boolean),
    parameters: textsByName(it.parameters, text),
    cell: textOrNull(it.cell),
    progress: list(it.progress).map(readProgress),
    task_count: count(it.task_count),
    log_first: count(it.log_first),
    log_count: count(it.log_count),
    live: list(it.live).map((item) => {
      const [source, so_far] = list(item);
      return [words(source), text(so_far)];
    }),
    output_count: count(it.output_count),
    output_changes: count(it.output_changes),
    result: textOrNull(it.result),
    error: readError(it.error),
  };
}

export function readShown(value: unknown): Shown | null {
  const it = fields(value);
  const run = readRun(it.run);
  if (!run) return null;
  return {
    run,
    now: numberOrNull(it.now),
    lines: readLines(it.lines),
    kernelAlive: typeof it.kernel_alive === "boolean" ? it.kernel_alive : null,
  };
}

export function readSaved(value: unknown): Saved {
  const it = fields(value);
  return { run: readRun(it.run), lines: readLines(it.lines), kernel: textOrNull(it.kernel) };
}

export function readName(data: unknown): string {
  return words(fields(data).name);
}
