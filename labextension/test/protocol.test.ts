import { expect, test } from "vitest";
import { readLines, readRun, readSaved } from "../src/protocol";

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
