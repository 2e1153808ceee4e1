import { expect, test } from "vitest";
import { LogBuffer } from "../src/logs";
import type { LogLine } from "../src/protocol";

function lines(start: number, stop: number): LogLine[] {
  return Array.from({ length: stop - start }, (_, index) => ({
    number: start + index,
    time: 0,
    level: 20,
    source: "stdout",
    message: `line ${start + index}`,
  }));
}

test("lines pushed twice or out of order are held once, in order", () => {
  const buffer = new LogBuffer();
  buffer.add(lines(5, 8));
  buffer.add(lines(0, 6));
  expect(buffer.all().map((line) => line.number)).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
  expect(buffer.count).toBe(8);
});

test("only what is shown and not held is asked for, in whole pages", () => {
  const buffer = new LogBuffer();
  buffer.extend(0, 100_000);
  buffer.add(lines(99_800, 100_000));
  expect(buffer.missing(99_950, 100_000)).toBeNull();
  expect(buffer.missing(50_010, 50_030)).toEqual([50_000, 50_200]);
  expect(buffer.missing(99_790, 99_810)).toEqual([99_600, 99_800]);
});

test("no more is asked for at once than a reply may hold", () => {
  const buffer = new LogBuffer();
  buffer.extend(0, 100_000);
  expect(buffer.missing(0, 100_000)).toEqual([0, 2000]);
});

test("a line that was asked for and not given is not asked for again", () => {
  const buffer = new LogBuffer();
  buffer.extend(0, 300);
  buffer.answer(0, 200, lines(150, 200));
  expect(buffer.isGone(10)).toBe(true);
  expect(buffer.missing(0, 200)).toBeNull();
});

test("what a reply that was cut short left out is asked for next", () => {
  const buffer = new LogBuffer();
  buffer.extend(0, 400);
  buffer.answer(0, 400, lines(0, 120));
  expect(buffer.missing(0, 200)).toEqual([120, 200]);
});

test("memory stays bounded, and what was read last stays", () => {
  const buffer = new LogBuffer();
  for (let start = 0; start < 100_000; start += 2000) buffer.add(lines(start, start + 2000));
  expect(buffer.all().length).toBeLessThanOrEqual(20_000);
  expect(buffer.get(99_999)?.message).toBe("line 99999");
  expect(buffer.missing(0, 10)).toEqual([0, 200]);
});

test("lines that only the store still has can be reached", () => {
  const buffer = new LogBuffer();
  buffer.extend(500, 600);
  expect(buffer.missing(0, 100)).toBeNull();
  buffer.reachBack(0);
  expect(buffer.missing(0, 100)).toEqual([0, 200]);
  buffer.extend(700, 900);
  expect(buffer.first).toBe(0);
});

test("lines that the kernel's memory loses while one looks are still asked for", () => {
  const buffer = new LogBuffer();
  buffer.extend(0, 100);
  buffer.extend(90_000, 100_000);
  expect(buffer.missing(10_000, 10_020)).toEqual([10_000, 10_200]);
});
