import { expect, test } from "vitest";
import { fakeRun } from "../demo/fake";
import { countdown, elapsed, paused, shownBars, timeLeft } from "../src/timing";

const bar = { label: "", done: 0, total: 10, started: 0, ended: null, rate: 2 };

test("elapsed time leaves out pauses, stands still in one, and ends with the run", () => {
  const run = fakeRun({ started: 100, paused_seconds: 5 });
  expect(elapsed(run, 120)).toBe(15);
  expect(elapsed({ ...run, paused_since: 110 }, 999)).toBe(5);
  expect(elapsed({ ...run, ended: 130 }, 999)).toBe(25);
  expect(elapsed({ ...run, started: null }, 999)).toBeNull();
  expect(paused({ ...run, paused_since: 110 }, 112)).toBe(7);
});

test("the outermost bar at work and the innermost in it are shown", () => {
  const bars = [
    { ...bar, number: 0, parent: null, ended: 5 },
    { ...bar, number: 1, parent: null },
    { ...bar, number: 2, parent: 1 },
    { ...bar, number: 3, parent: 2 },
    { ...bar, number: 4, parent: 1, ended: 5 },
  ];
  expect(shownBars(bars).map((one) => one.number)).toEqual([1, 3]);
  expect(shownBars(bars.slice(0, 1)).map((one) => one.number)).toEqual([0]);
  expect(shownBars([])).toEqual([]);
});

test("bars that claim to be nested in a circle do no harm", () => {
  const bars = [
    { ...bar, number: 1, parent: null },
    { ...bar, number: 2, parent: 1 },
    { ...bar, number: 1, parent: 2 },
  ];
  expect(shownBars(bars)).toHaveLength(2);
});

test("time left is told where there is a total and a rate", () => {
  expect(timeLeft({ ...bar, number: 0, parent: null, done: 4 })).toBe(3);
  expect(timeLeft({ ...bar, number: 0, parent: null, total: null })).toBeNull();
  expect(timeLeft({ ...bar, number: 0, parent: null, rate: null })).toBeNull();
});

test("what is done next is counted down to, and said to be under way when its time has come", () => {
  const stopping = { since: 0, rung: "asked", next: "interrupt", at: 10, stuck: null, hint: null };
  expect(countdown(stopping, 9.4)).toBe("Interrupt in 0.6 s");
  expect(countdown({ ...stopping, next: "kill", at: 39 }, 10)).toBe("Kill in 29 s");
  expect(countdown({ ...stopping, next: "kill" }, 10.1)).toBe("Killing…");
  expect(countdown({ ...stopping, next: null, at: null }, 0)).toBeNull();
});
