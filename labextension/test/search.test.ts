import { expect, test } from "vitest";
import type { LogLine } from "../src/protocol";
import { Search } from "../src/search";

function log(count: number) {
  const asked: [number, number][] = [];
  return {
    asked,
    first: 0,
    count,
    async read(start: number, stop: number): Promise<LogLine[]> {
      asked.push([start, stop]);
      return Array.from({ length: stop - start }, (_, index) => ({
        number: start + index,
        time: 0,
        level: (start + index) % 1000 ? 20 : 40,
        source: "stdout",
        message: `\u001b[31mline\u001b[0m ${start + index}`,
      }));
    },
  };
}

const signal = () => new AbortController().signal;

test("a search finds every line that matches, in order, colours aside", async () => {
  const source = log(10_000);
  const search = new Search(source, { text: "LINE 77", level: 0 }, () => {}, signal());
  await search.advance();
  const numbers = search.found.map((line) => line.number);
  expect(numbers).toEqual([...numbers].sort((a, b) => a - b));
  expect(numbers).toContain(77);
  expect(numbers).toHaveLength(111);
  expect(source.asked).toHaveLength(5);
});

test("a level keeps what is at least as grave, and new lines are searched too", async () => {
  const source = log(3_000);
  const search = new Search(source, { text: "", level: 30 }, () => {}, signal());
  await search.advance();
  source.count = 4_500;
  await search.advance();
  expect(search.found.map((line) => line.number)).toEqual([0, 1000, 2000, 3000, 4000]);
});

test("a search for what is everywhere stops, and says so", async () => {
  const source = log(1_000_000);
  const search = new Search(source, { text: "line", level: 0 }, () => {}, signal());
  await search.advance();
  expect(search.cut).toBe(true);
  expect(search.found.at(-1)?.number).toBe(999_999);
  expect(source.asked.length).toBeLessThan(5);
});
