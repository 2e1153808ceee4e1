import { expect, test } from "vitest";
import { fakeTask } from "../demo/fake";
import { waitsFor } from "../src/upstream";

const load = (number: number, state_type = "RUNNING") =>
  fakeTask({ number, name: `load-${number}`, state_type });
const all = [load(0, "COMPLETED"), load(1), load(2), load(3, "PENDING"), load(4), load(5)];
const tasks = new Map(all.map((task) => [task.number, task]));

test.each([
  [[], ""],
  [[0], ""],
  [[0, 1], "waits for load-1"],
  [[1, 2], "waits for load-1 and load-2"],
  [[1, 2, 3], "waits for load-1, load-2 and load-3"],
  [[1, 2, 3, 4, 5], "waits for load-1, load-2, load-3 and 2 more"],
  [[1, 900], "waits for load-1 and 1 more"],
  [[900], "waits for another task"],
  [[900, 901], "waits for 2 other tasks"],
])("of the tasks %j those that have not ended are named", (upstream, text) => {
  expect(waitsFor(fakeTask({ number: 9, state_type: "PENDING", upstream }), tasks)).toBe(text);
});

test("what has begun waits for nothing", () => {
  expect(waitsFor(fakeTask({ number: 9, state_type: "RUNNING", upstream: [1] }), tasks)).toBe("");
});
