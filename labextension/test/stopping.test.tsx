// @vitest-environment happy-dom
import { expect, test } from "vitest";
import { FakeTransport, fakeRun } from "../demo/fake";
import type { Stopping } from "../src/protocol";
import { change, click, HOSTILE, pass, show, useMountedViews } from "./mounted";

const stuck = { file: "Cell In[3]", line: 7, function: "take", text: HOSTILE, own: true };
const held: Stopping = {
  since: 0,
  rung: "interrupted",
  next: "kill",
  at: 30,
  stuck,
  hint: `Write \`${HOSTILE}\` instead.`,
};
const cancelling = { state_type: "CANCELLING", asked: "cancel", reason: "user" };

useMountedViews();

function buttons(element: HTMLElement): string[] {
  return [...element.querySelectorAll(".jf-button:not(.jf-small)")].map(
    (button) => button.textContent ?? "",
  );
}

test("what holds a run is drawn as text", async () => {
  const element = await show(fakeRun({ ...cancelling, stopping: held }));
  await pass(2000);
  const bar = element.querySelector(".jf-held");
  expect(bar?.textContent).toContain("Held at Cell In[3], line 7, in take");
  expect(bar?.querySelectorAll("img")).toHaveLength(0);
  expect([...(bar?.querySelectorAll("code") ?? [])].map((code) => code.textContent)).toEqual([
    HOSTILE,
    HOSTILE,
  ]);
});

test("a saved notebook counts nothing down and has nothing to click", async () => {
  const element = await show(fakeRun({ ...cancelling, stopping: held }));
  await pass(2000);
  expect(buttons(element)).toEqual([]);
  expect(element.querySelector(".jf-small")).toBeNull();
  expect(element.querySelector(".jf-countdown")).toBeNull();
});

test("a run that stops at once is offered no Kill, one that was killed at last Abandon", async () => {
  const run = fakeRun({ ...cancelling, stopping: { ...held, at: Date.now() / 1000 + 30 } });
  const live = new FakeTransport({ run });
  const element = await show(live);
  expect(buttons(element)).toEqual(["Cancelling…", "Where is it?"]);
  await pass(500);
  expect(buttons(element)).toEqual(["Kill", "Cancelling…", "Where is it?"]);
  expect(element.querySelector(".jf-countdown")?.textContent).toBe("Kill in 29 s");
  await change(live, { stopping: { ...held, rung: "killed", next: null, at: null } });
  await pass(500);
  expect(buttons(element)).toEqual(["Killed", "Cancelling…", "Where is it?"]);
  await pass(1000);
  expect(buttons(element)).toEqual(["Killed", "Abandon", "Where is it?"]);
});

test("what would let a run stop is said once", async () => {
  const run = fakeRun({ ...cancelling, stopping: held });
  const frames = [stuck];
  const stacks = [
    { name: "train", kind: "thread", doing: "waiting", hint: held.hint, frames },
    { name: "other", kind: "thread", doing: "waiting", hint: "Another hint.", frames },
  ];
  const element = await show(new FakeTransport({ run, stacks }));
  await click(element, "Where is it?");
  const hints = [...element.querySelectorAll(".jf-stack-hint")].map((hint) => hint.textContent);
  expect(hints).toEqual(["Another hint."]);
});
