/** Every state of the view on one page; `?dark` for the dark one, `#name` for one alone. */

import { RunModel } from "../src/model";
import type { Frame, Run, Saved, Stack, Stopping, Task } from "../src/protocol";
import { renderPlainly } from "../src/richness";
import { mountRun } from "../src/view/run";
import { type Fake, FakeTransport, fakeRun, fakeTask, fakeWaiting } from "./fake";

const now = Date.now() / 1000;
const ESC = "\u001b";
const HOSTILE = `<img src=x onerror="document.body.dataset.hacked='yes'">`;
const epoch = (n: number) => ({
  time: now - 42 + n / 30,
  level: 20,
  source: "stdout",
  message: `epoch ${n} loss ${(1 / (n + 1)).toFixed(4)}`,
});
const bars = [
  {
    number: 0,
    parent: null,
    label: "epoch",
    done: 12,
    total: 30,
    started: now - 40,
    ended: null,
    rate: 0.83,
  },
  {
    number: 1,
    parent: 0,
    label: "batch",
    done: 410,
    total: 1563,
    started: now - 1,
    ended: null,
    rate: 1290,
  },
];
const ended = { ended: now - 10 };
const traceback = [
  `${ESC}[31m---------------------------------------------------------------------------${ESC}[39m`,
  `${ESC}[31mValueError${ESC}[39m                                Traceback (most recent call last)`,
  `${ESC}[36mCell${ESC}[39m${ESC}[36m ${ESC}[39m${ESC}[32mIn[3]${ESC}[39m${ESC}[32m, line 4${ESC}[39m`,
  `${ESC}[32m      2${ESC}[39m ${ESC}[38;5;28;01mfor${ESC}[39;00m epoch ${ESC}[38;5;129;01min${ESC}[39;00m ${ESC}[38;5;28mrange${ESC}[39m(${ESC}[32m10${ESC}[39m):`,
  `${ESC}[32m----> 4${ESC}[39m     loss = step(epoch)`,
  "",
  `${ESC}[31mValueError${ESC}[39m: the learning rate must be positive, not ${HOSTILE}`,
].join("\n");

function task(number: number, state_type: string, name: string, more: Partial<Task> = {}): Task {
  return fakeTask({
    number,
    name,
    state_type,
    started: state_type === "PENDING" ? null : now - 20 + number,
    ended: ["COMPLETED", "FAILED"].includes(state_type) ? now - 18 + number * 1.3 : null,
    ...more,
  });
}

const asking: Partial<Run> = {
  state_type: "PAUSED",
  state_name: "Paused",
  paused_since: now - 5,
};
const order = fakeWaiting({
  kind: "input",
  text: "Waiting for input: shirt",
  key: "shirt",
  until: now + 290,
  description:
    "The printer in Berlin is broken, so this one goes to Lyon.\nWhich shirt shall it be?",
  schema: {
    $defs: {
      Address: {
        properties: {
          street: { title: "Street", type: "string", minLength: 1 },
          country: { title: "Country", type: "string", default: "FR" },
        },
        required: ["street"],
        title: "Address",
        type: "object",
      },
    },
    properties: {
      size: { enum: ["S", "M", "L"], title: "Size", type: "string" },
      count: {
        default: 1,
        description: "How many of them, all of the same size",
        exclusiveMinimum: 0,
        title: "Count",
        type: "integer",
      },
      day: {
        anyOf: [{ format: "date", type: "string" }, { type: "null" }],
        default: null,
        title: "Day",
      },
      tags: { items: { type: "string" }, title: "Tags", type: "array" },
      address: { $ref: "#/$defs/Address", description: "Where it is sent" },
    },
    required: ["size", "tags", "address"],
    title: "Order",
    type: "object",
  },
  initial: { count: 1, day: null },
});

const cancelling: Partial<Run> = {
  state_type: "CANCELLING",
  state_name: "Cancelling",
  state_time: now - 2,
  asked: "cancel",
  reason: "user",
  log_count: 40,
};
const interrupted = { rung: "interrupted", next: "kill", at: now + 28 };
const held = {
  stuck: {
    file: "Cell In[3]",
    line: 12,
    function: "Reader.take",
    text: "self.lock.acquire()",
    own: true,
  },
  hint: "It waits for a lock. Written as `while not lock.acquire(timeout=1): checkpoint()`, it can be stopped.",
};

function stopping(changes: Partial<Stopping>): Stopping {
  return {
    since: now - 2,
    rung: "asked",
    next: "interrupt",
    at: now + 0.8,
    stuck: null,
    hint: null,
    ...changes,
  };
}

const LIB = "/usr/lib/python3.12";
const frame = (file: string, line: number, name: string, text: string, own = false): Frame => ({
  file,
  line,
  function: name,
  text,
  own,
});
const stacks: Stack[] = [
  {
    name: "train",
    kind: "thread",
    doing: "waiting",
    hint: held.hint,
    frames: [
      frame("Cell In[3]", 19, "<module>", "read_all(Reader(path) for path in paths)", true),
      frame("Cell In[3]", 15, "read_all", "return [reader.take() for reader in readers]", true),
      held.stuck,
    ],
  },
  {
    name: "extract-0",
    kind: "thread",
    doing: "running",
    hint: null,
    frames: [
      frame("/home/ada/project/pages.py", 88, "extract", "return requests.get(url).json()", true),
      frame(
        `${LIB}/site-packages/requests/sessions.py`,
        703,
        "Session.send",
        "r = adapter.send(request, **kwargs)",
      ),
      frame(
        `${LIB}/site-packages/urllib3/connectionpool.py`,
        534,
        "HTTPConnectionPool._make_request",
        "response = conn.getresponse()",
      ),
      frame(`${LIB}/socket.py`, 707, "SocketIO.readinto", "return self._sock.recv_into(b)"),
    ],
  },
  { name: HOSTILE, kind: "coroutine", doing: "waiting", hint: HOSTILE, frames: [] },
  {
    name: "deep",
    kind: "coroutine",
    doing: "running",
    hint: null,
    frames: Array.from({ length: 60 }, (_, n) =>
      frame("Cell In[2]", 4, "down", `down(depth - ${n}) or ${"x".repeat(n * 4)}`, true),
    ),
  },
];

interface Case extends Partial<Fake> {
  saved?: Saved;
  trusted?: boolean;
  store?: boolean;
}

const CASES: Record<string, Case> = {
  pending: { run: fakeRun({ state_type: "PENDING", state_name: "Pending", started: null }) },
  running: {
    run: fakeRun({
      log_count: 1204,
      progress: bars,
      task_count: 7,
      output_count: 1,
      output_changes: 1,
    }),
    line: epoch,
    tasks: [
      task(0, "COMPLETED", "extract-0"),
      task(1, "COMPLETED", "extract-1", { attempt: 3 }),
      task(2, "FAILED", "parse-0", { state_message: "KeyError: 'day'" }),
      task(3, "RUNNING", "load-0"),
      task(4, "RUNNING", "read", { parent: 3, attempt: 2 }),
      task(5, "PENDING", "load-1", { upstream: [0, 3] }),
      task(6, "SCHEDULED", "flaky", {
        state_name: "AwaitingRetry",
        state_message: `OSError: ${HOSTILE}`,
      }),
    ],
    outputs: [
      {
        number: 0,
        change: 1,
        data: {
          "text/html":
            "<table border=1><tr><th>a<th>b<tr><td>1<td>2</table><script>alert(1)</script>",
        },
        metadata: {},
      },
    ],
  },
  pausing: { run: fakeRun({ asked: "pause", log_count: 30 }), line: epoch },
  paused: {
    run: fakeRun({
      state_type: "PAUSED",
      state_name: "Paused",
      paused_since: now - 9,
      paused_seconds: 3,
      log_count: 300,
      progress: bars.slice(0, 1),
    }),
    line: epoch,
  },
  cancelling: {
    run: fakeRun({ ...cancelling, stopping: stopping({ at: now + 8.6 }) }),
    line: epoch,
  },
  interrupted: {
    run: fakeRun({ ...cancelling, stopping: stopping({ ...interrupted, ...held }) }),
    line: epoch,
    stacks,
  },
  "interrupted-unknown": {
    run: fakeRun({ ...cancelling, stopping: stopping(interrupted) }),
    line: epoch,
  },
  killed: {
    run: fakeRun({
      ...cancelling,
      stopping: stopping({ rung: "killed", next: null, at: null, ...held }),
    }),
    line: epoch,
    stacks,
  },
  timing_out: {
    run: fakeRun({
      asked: "cancel",
      reason: "timeout",
      log_count: 40,
      stopping: stopping({ ...interrupted, ...held }),
    }),
    line: epoch,
    stacks,
  },
  where: { run: fakeRun(), stacks },
  waiting: {
    run: fakeRun({
      state_type: "SCHEDULED",
      state_name: "AwaitingConcurrencySlot",
      started: null,
      state_message: "Waits for the earlier run of this cell",
      waiting: fakeWaiting({
        kind: "run",
        text: "Waits for the earlier run of this cell",
        run: "x",
      }),
    }),
  },
  retry: {
    run: fakeRun({
      state_type: "SCHEDULED",
      state_name: "AwaitingRetry",
      attempt: 2,
      waiting: fakeWaiting({ kind: "retry", until: now + 25 }),
    }),
  },
  approval: {
    run: fakeRun({
      ...asking,
      waiting: fakeWaiting({
        text: "Publish the model with accuracy 0.97?",
        until: now + 290,
      }),
      log_count: 3,
    }),
  },
  "approval, long, held": {
    run: fakeRun({
      ...asking,
      waiting: fakeWaiting({
        text: `Waiting for approval: ${"is the model that was trained on all of it good enough? ".repeat(4)}${HOSTILE}`,
        until: now + 290,
        held: true,
      }),
    }),
  },
  input: {
    run: fakeRun({
      ...asking,
      waiting: fakeWaiting({ kind: "input", text: "Which day shall be loaded?" }),
    }),
  },
  "input of a model": {
    run: fakeRun({ ...asking, waiting: order }),
    refuse: (details) =>
      JSON.stringify(details).includes('"size":null')
        ? "The input does not fit: size: Input should be 'S', 'M' or 'L'; address.street: Input should be a valid string. The run waits on."
        : null,
  },
  "input of a type": {
    run: fakeRun({
      ...asking,
      waiting: fakeWaiting({
        kind: "input",
        text: "Waiting for input",
        until: now + 3000,
        schema: {
          properties: { value: { title: "Value", type: "integer" } },
          required: ["value"],
          title: "int",
          type: "object",
        },
        initial: {},
      }),
    }),
  },
  "input, hostile": {
    run: fakeRun({
      ...asking,
      waiting: fakeWaiting({
        kind: "input",
        text: HOSTILE,
        description: `${HOSTILE}\n${"a long description ".repeat(40)}`,
        schema: {
          properties: Object.fromEntries(
            Array.from({ length: 30 }, (_, n) => [
              n ? `field_${n}` : HOSTILE,
              {
                type: "string",
                description: HOSTILE.repeat(n % 3),
                enum: n === 2 ? [HOSTILE] : undefined,
              },
            ]),
          ),
        },
        initial: { field_1: "x".repeat(300) },
      }),
    }),
  },
  failed: {
    run: fakeRun({
      state_type: "FAILED",
      state_name: "Failed",
      state_message: "ValueError: the learning rate must be positive",
      error: { type: "ValueError", message: "x", traceback },
      log_count: 400,
      ...ended,
    }),
    line: epoch,
  },
  timedout: {
    run: fakeRun({
      state_type: "FAILED",
      state_name: "TimedOut",
      state_message: "The run exceeded its timeout of 30 seconds.",
      log_count: 12,
      ...ended,
    }),
  },
  crashed: {
    run: fakeRun({
      state_type: "CRASHED",
      state_name: "Crashed",
      state_message: "The kernel that ran it has died.",
      log_count: 12,
      ...ended,
    }),
  },
  cancelled: {
    run: fakeRun({
      state_type: "CANCELLED",
      state_name: "Cancelled",
      reason: "user",
      tags: ["demo", "nightly"],
      metadata: { customer: "42", ticket: HOSTILE },
      replay_of: "b918bb96-3e12-4ef5-be8c-4647047000d7",
      parameters: { day: "'2026-01-01'", path: HOSTILE },
      ...ended,
    }),
    transitions: [
      { time: now - 43, type: "PENDING", name: "Pending", message: "started by the cell" },
      { time: now - 42, type: "RUNNING", name: "Running", message: "" },
      { time: now - 12, type: "CANCELLING", name: "Cancelling", message: "asked by the user" },
      { time: now - 10, type: "CANCELLED", name: "Cancelled", message: "stopped at a checkpoint" },
    ],
  },
  completed: {
    run: fakeRun({
      state_type: "COMPLETED",
      state_name: "Completed",
      result: "0.9731",
      log_count: 1204,
      output_count: 2,
      ...ended,
    }),
    line: epoch,
  },
  large: {
    run: fakeRun({ log_count: 100_000 }),
    line: (n) => ({ ...epoch(n), time: now - 40 + n / 2500 }),
  },
  ansi: {
    run: fakeRun({
      log_count: 9,
      live: [["stderr", " 10%|█         | 1/10\r 42%|████▏     | 42/100 [00:04<00:05, 9.8it/s]"]],
    }),
    line: (n) => ({
      time: now - 40 + n,
      level: [20, 20, 20, 10, 30, 40, 20, 20, 20][n] ?? 20,
      source:
        [
          "stdout",
          "stdout",
          "stderr",
          "root",
          "my.logger",
          "my.logger",
          "extract-0 › stdout",
          "stdout",
          "stdout",
        ][n] ?? "",
      message:
        [
          `${ESC}[31mred ${ESC}[1mbold red${ESC}[0m plain ${ESC}[42mon green${ESC}[0m ${ESC}[38;5;208morange${ESC}[0m ${ESC}[38;2;120;80;250mtrue colour${ESC}[0m`,
          [30, 31, 32, 33, 34, 35, 36, 37, 90, 91, 92, 93, 94, 95, 96, 97]
            .map((c) => `${ESC}[${c}m${c}${ESC}[0m`)
            .join(" "),
          `a link ${ESC}]8;;javascript:alert(1)${ESC}\\click me${ESC}]8;;${ESC}\\ and a ${ESC}]0;title\u0007${ESC}[2Jclear`,
          "a debug line",
          "the learning rate is high",
          "the learning rate is not a number",
          HOSTILE,
          `a long line ${"x".repeat(5000)}`,
          "tabs\tand\tmore — ünïcödé 🎉",
        ][n] ?? "",
    }),
  },
  hostile: {
    run: fakeRun({
      name: `${HOSTILE} a very long name that goes on and on and never ends, so that it must be cut`,
      progress: [
        {
          number: 0,
          parent: null,
          label: HOSTILE,
          done: 7,
          total: null,
          started: now,
          ended: null,
          rate: 3.21,
        },
      ],
      log_count: 1,
    }),
    line: () => ({ time: now, level: 40, source: HOSTILE, message: HOSTILE }),
  },
  queued: { run: fakeRun({ log_count: 20 }), line: epoch, capability: "queued" },
  store: { run: fakeRun({ log_count: 20 }), line: epoch, store: true },
  untrusted: {
    trusted: false,
    saved: {
      run: fakeRun({ log_count: 500 }),
      lines: [497, 498, 499].map((number) => ({ number, ...epoch(number) })),
      kernel: null,
    },
  },
};

document.documentElement.className = location.search === "?dark" ? "dark" : "light";
for (const [name, one] of Object.entries(CASES)) {
  if (location.hash && location.hash !== `#${name}`) continue;
  const heading = document.createElement("h2");
  heading.textContent = name;
  const place = document.createElement("div");
  place.id = name;
  document.body.append(heading, place);
  const transport = one.run ? new FakeTransport(one as Fake) : null;
  const model = new RunModel({
    name,
    saved: one.saved ?? { run: null, lines: [], kernel: null },
    live: one.store ? null : transport,
    store: one.store ? Object.assign(Object.create(transport), { capability: "read-only" }) : null,
    trusted: one.trusted ?? true,
  });
  mountRun(place, { model, renderOutput: renderPlainly });
}
