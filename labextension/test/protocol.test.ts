import { expect, test } from "vitest";
import { readLines, readRun, readSaved, readStacks } from "../src/protocol";

test("a record of the wrong shape becomes one of the right shape", () => {
  const run = readRun({
    id: "r",
    name: { constructor: undefined, type: "img", props: {} },
    tags: "x",
    parameters: [1],
    progress: [null],
    live: [1, ["stderr", "x"]],
    log_count: -5,
    started: Number.NaN,
    waiting: { kind: 3 },
  });
  expect(run).toMatchObject({
    name: "",
    tags: [],
    parameters: {},
    log_count: 0,
    started: null,
    waiting: null,
    live: [
      ["", ""],
      ["stderr", "x"],
    ],
  });
});

test("what is no record at all is none", () => {
  expect(readRun(null)).toBeNull();
  expect(readRun({ name: "no id" })).toBeNull();
  expect(readSaved("junk")).toEqual({ run: null, lines: [], kernel: null });
  expect(readLines([[1], "x", null, ["2"]]).map((line) => line.number)).toEqual([1]);
});

test("how far a stopping is, and what holds it, is read field by field", () => {
  const stuck = { file: "Cell In[3]", line: 7, function: "f", text: "x()", own: true };
  const read = (stopping: unknown) => readRun({ id: "r", stopping })?.stopping;
  expect(read({ since: 1, rung: "asked", next: "interrupt", at: 2, stuck })).toEqual({
    since: 1,
    rung: "asked",
    next: "interrupt",
    at: 2,
    stuck,
    hint: null,
  });
  expect(read(undefined)).toBeNull();
  expect(read([1])).toBeNull();
  expect(read({ rung: "killed", next: 3, at: "soon", stuck: "here", hint: ["x"] })).toEqual({
    since: 0,
    rung: "killed",
    next: null,
    at: null,
    stuck: null,
    hint: null,
  });
});

test("stacks of the wrong shape become stacks of the right shape, and not too many", () => {
  expect(readStacks("junk")).toEqual([]);
  expect(readStacks([{ name: { type: "img" }, frames: [null, 3, { file: 7 }] }, null])).toEqual([
    { name: "", kind: "", doing: "", frames: [], hint: null },
    { name: "", kind: "", doing: "", frames: [], hint: null },
  ]);
  const frames = Array.from({ length: 5000 }, (_, line) => ({ file: "f.py", line, own: "yes" }));
  const [stack] = readStacks(Array.from({ length: 5000 }, () => ({ frames })));
  expect(readStacks(Array(5000).fill({}))).toHaveLength(200);
  expect(stack?.frames).toHaveLength(200);
  expect(stack?.frames.at(-1)).toMatchObject({ line: 4999, own: false, text: "" });
});
