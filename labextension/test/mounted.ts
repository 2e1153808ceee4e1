/** A view that is drawn into a document, on a made-up kernel and by a clock that stands still. */

import { act } from "preact/test-utils";
import { afterEach, beforeEach, vi } from "vitest";
import { FakeTransport } from "../demo/fake";
import { RunModel } from "../src/model";
import type { Run } from "../src/protocol";
import { mountRun } from "../src/view/run";

/** For what must be drawn as text. */
export const HOSTILE = `<img src=x onerror="alert(1)">`;

const mounted: (() => void)[] = [];

/** Let time stand still in each test of a file, and take down what was shown at its end. */
export function useMountedViews(): void {
  beforeEach(() => vi.useFakeTimers());
  afterEach(() => {
    for (const close of mounted.splice(0)) close();
    vi.useRealTimers();
  });
}

export const pass = (milliseconds: number) =>
  act(async () => void (await vi.advanceTimersByTimeAsync(milliseconds)));

/** Show a run that a made-up kernel answers for, or one that was only saved. */
export async function show(from: FakeTransport | Run): Promise<HTMLElement> {
  const live = from instanceof FakeTransport ? from : null;
  const run = from instanceof FakeTransport ? from.fake.run : from;
  const element = document.createElement("div");
  document.body.append(element);
  const model = new RunModel({
    name: "train",
    saved: { run, lines: [], kernel: null },
    live,
    store: null,
    trusted: true,
  });
  let unmount = () => {};
  void act(() => {
    unmount = mountRun(element, { model, renderOutput: () => () => {} });
  });
  mounted.push(() => {
    unmount();
    model.close();
    element.remove();
  });
  await pass(100);
  return element;
}

export async function change(live: FakeTransport, changes: Partial<Run>): Promise<void> {
  await act(async () => live.push(changes));
  await pass(50);
}

export async function click(element: HTMLElement, name: string): Promise<void> {
  const buttons = [...element.querySelectorAll<HTMLButtonElement>("button")];
  const button = buttons.find((one) => (one.ariaLabel ?? one.textContent) === name);
  if (!button) throw new Error(`no button ${name}, but ${buttons.map((one) => one.textContent)}`);
  await act(async () => button.click());
  await pass(400);
}
