// @vitest-environment happy-dom
import { render } from "preact";
import { expect, test } from "vitest";
import { ansiPieces, stripAnsi } from "../src/ansi";
import { Ansi } from "../src/view/ansi";

const ESC = "\u001b";

test("colours become classes, and colours without a class become styles", () => {
  expect(ansiPieces(`${ESC}[1;31mred${ESC}[0m plain ${ESC}[38;5;208morange`)).toEqual([
    { text: "red", className: "jf-ansi-bold jf-ansi-red" },
    { text: " plain ", className: "" },
    { text: "orange", className: "", color: "rgb(255, 135, 0)" },
  ]);
});

test("a terminal link keeps its text and loses its address", () => {
  const link = `a ${ESC}]8;;javascript:alert(1)${ESC}\\link${ESC}]8;;${ESC}\\ here`;
  expect(stripAnsi(link)).toBe("a link here");
  expect(stripAnsi(`a ${ESC}]8;;javascript:alert(1)\u0007link${ESC}]8;;\u0007`)).toBe("a link");
});

test.each([
  ["a cursor move", `a${ESC}[2Jb${ESC}[1;1Hc`, "abc"],
  ["a title", `${ESC}]0;evil\u0007a`, "a"],
  ["an unfinished escape", `a${ESC}]8;;http`, "a"],
  ["a lone escape", `a${ESC}`, "a"],
  ["a device control string", `a${ESC}Pq#0${ESC}\\b`, "ab"],
  ["an 8-bit escape", "a\u009b31mb\u009d0;x\u009cc", "abc"],
  ["control characters", "a\u0000\u0007\u0008b\tc", "ab\tc"],
])("%s is dropped", (_, text, left) => {
  expect(stripAnsi(text)).toBe(left);
});

test("markup in a log line is drawn as text, coloured or not", () => {
  const hostile = `<img src=x onerror="alert(1)">`;
  const place = document.createElement("div");
  render(<Ansi text={`${hostile}${ESC}[31m${hostile}`} />, place);
  expect(place.querySelector("img")).toBeNull();
  expect(place.textContent).toBe(hostile + hostile);
});
