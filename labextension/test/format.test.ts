import { expect, test } from "vitest";
import { formatClock, formatDuration, formatRate, levelName } from "../src/format";

test.each([
  [0, "00:00"],
  [42.9, "00:42"],
  [3599, "59:59"],
  [3723, "1:02:03"],
  [90061, "1 d 01:01:01"],
  [-3, "00:00"],
])("a clock of %d seconds shows %o", (seconds, text) => {
  expect(formatClock(seconds)).toBe(text);
});

test.each([
  [0.0351, "35 ms"],
  [0.9999, "1.0 s"],
  [1.23, "1.2 s"],
  [9.96, "10 s"],
  [22, "22 s"],
  [59.7, "1 min"],
  [245, "4 min 5 s"],
  [7500, "2 h 5 min"],
  [86400, "1 d"],
])("a duration of %d seconds reads %o", (seconds, text) => {
  expect(formatDuration(seconds)).toBe(text);
});

test("a fast rate is per second and a slow one per step", () => {
  expect(formatRate(1234.5)).toBe("1,230/s");
  expect(formatRate(0.8)).toBe("1.3 s each");
  expect(formatRate(0)).toBe("");
});

test("a level between two names takes the lower one", () => {
  expect(levelName(35)).toBe("WARNING");
  expect(levelName(5)).toBe("DEBUG");
});
