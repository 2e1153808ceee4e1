/** Getting a log out of the browser: to the clipboard, or into a file. */

import { stripAnsi } from "../ansi";
import { formatMoment, levelName } from "../format";
import type { RunModel } from "../model";
import { type LogLine, MAX_LINES } from "../protocol";

export const MAX_COPIED = 20_000; // lines

export function lineAsText(line: LogLine): string {
  const milliseconds = String(Math.floor((line.time % 1) * 1000)).padStart(3, "0");
  const head = `${formatMoment(line.time)}.${milliseconds} ${levelName(line.level)} ${line.source}`;
  return `${head}  ${stripAnsi(line.message)}\n`;
}

export async function copyText(text: string): Promise<void> {
  if (navigator.clipboard) {
    await navigator.clipboard.writeText(text);
    return;
  }
  const area = document.createElement("textarea"); // pages served without TLS have no clipboard
  area.value = text;
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

/** Read the lines `start` to before `stop` page by page; `said` hears how many there are so far. */
export async function readText(
  model: RunModel,
  start: number,
  stop: number,
  said: (lines: number) => void,
): Promise<string[]> {
  const parts: string[] = [];
  for (let from = start; from < stop; from += MAX_LINES) {
    const to = Math.min(stop, from + MAX_LINES);
    parts.push((await model.read(from, to)).map(lineAsText).join(""));
    said(to - start);
  }
  return parts;
}

export function download(name: string, parts: string[]): void {
  const url = URL.createObjectURL(new Blob(parts, { type: "text/plain" }));
  const link = document.createElement("a");
  link.href = url;
  link.download = `${name.replace(/[^\p{L}\p{N}._-]+/gu, "_").slice(0, 80) || "run"}.log`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
