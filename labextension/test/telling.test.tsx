// @vitest-environment happy-dom
import { afterEach, expect, test, vi } from "vitest";
import { FakeTransport, fakeRun, fakeTask, fakeWaiting } from "../demo/fake";
import type { Run } from "../src/protocol";
import { change, click, HOSTILE, pass, show, useMountedViews } from "./mounted";

useMountedViews();
afterEach(() => void vi.restoreAllMocks());

const slot = "Waits for a slot of flow 'train' (at most 1 at once)";
const waiting: Partial<Run> = {
  state_type: "SCHEDULED",
  state_name: "AwaitingConcurrencySlot",
  state_message: slot,
  waiting: fakeWaiting({ kind: "slot", text: slot, number: null }),
  started: null,
};

function count(element: HTMLElement, text: string): number {
  return (element.textContent ?? "").split(text).length - 1;
}

test("what a run waits for is said once, and kept in its history", async () => {
  const transitions = [
    { time: 1, type: "SCHEDULED", name: "AwaitingConcurrencySlot", message: slot },
  ];
  const live = new FakeTransport({ run: fakeRun(waiting), transitions });
  const element = await show(live);
  await pass(200);
  expect(element.querySelector(".jf-waiting")).toBeNull(); // a wait that is short moves nothing
  await pass(1000);
  expect(element.querySelectorAll(".jf-history li")).toHaveLength(1);
  expect(count(element, slot)).toBe(1);
  await change(live, { state_type: "RUNNING", state_name: "Running", waiting: null });
  expect(element.querySelector(".jf-waiting")).toBeNull();
  expect(element.querySelector(".jf-history")?.textContent).toContain(slot);
});

test("a run that is tried again says when and why", async () => {
  const waiting = fakeWaiting({
    kind: "retry",
    text: "OSError: 503",
    until: Date.now() / 1000 + 70,
    number: null,
  });
  const live = new FakeTransport({
    run: fakeRun({ state_type: "SCHEDULED", state_name: "AwaitingRetry", waiting }),
  });
  const element = await show(live);
  const bar = () => element.querySelector(".jf-waiting")?.textContent;
  await pass(1000);
  expect(bar()).toBe("Tries again in 1 min 9 s.OSError: 503");
  const held = { ...waiting, held: true };
  await change(live, { state_type: "PAUSED", state_name: "Paused", waiting: held });
  expect(bar()).toBe("Tries again when resumed.OSError: 503");
});

test("tags, metadata and the run that is done anew stand as text in a line of their own", async () => {
  const run = fakeRun({
    tags: ["nightly"],
    metadata: { customer: "42", [HOSTILE]: HOSTILE },
    replay_of: "b918bb96-3e12-4ef5-be8c-4647047000d7",
  });
  const element = await show(new FakeTransport({ run }));
  const line = element.querySelector(".jf-about");
  expect([...(line?.children ?? [])].map((one) => one.textContent)).toEqual([
    "replay of b918bb96",
    "nightly",
    "customer: 42",
    `${HOSTILE}: ${HOSTILE}`,
  ]);
  const details = element.querySelector(".jf-details");
  expect(details?.textContent).toContain("Replay ofb918bb96-3e12-4ef5-be8c-4647047000d7");
  expect(details?.textContent).toContain("customer: 42");
  expect(element.querySelectorAll("img")).toHaveLength(0);
});

test("there is no such line where it would be empty", async () => {
  const element = await show(new FakeTransport({ run: fakeRun() }));
  expect(element.querySelector(".jf-about")).toBeNull();
});

test("a task says what it waits for, why it is tried again, its attempt and who called it", async () => {
  vi.spyOn(HTMLElement.prototype, "clientHeight", "get").mockReturnValue(200);
  const tasks = [
    fakeTask({ number: 0, name: "load-0", attempt: 2 }),
    fakeTask({ number: 1, name: "merge-0", state_type: "PENDING", upstream: [0] }),
    fakeTask({ number: 2, name: "read-0", parent: 0, started: null, state_type: "PENDING" }),
    fakeTask({
      number: 3,
      name: HOSTILE,
      state_type: "SCHEDULED",
      state_name: "AwaitingRetry",
      state_message: HOSTILE,
      started: null,
    }),
  ];
  const run = fakeRun({ task_count: tasks.length, log_count: 1 });
  const element = await show(new FakeTransport({ run, tasks }));
  await click(element, "Tasks 4");
  await pass(100);
  const rows = [...element.querySelectorAll(".jf-task")].map((row) => row.textContent);
  expect(rows).toEqual([
    "Runningload-0attempt 200:20",
    "Waitingmerge-0waits for load-0",
    "Startingload-0 ›read-0",
    `Waiting to retry${HOSTILE}${HOSTILE}`,
  ]);
  expect(element.querySelectorAll("img")).toHaveLength(0);
});

test("what is a line long is no traceback: the log is shown first", async () => {
  const ended: Partial<Run> = {
    state_type: "FAILED",
    state_name: "TimedOut",
    ended: 1,
    log_count: 3,
  };
  const brief = { type: "TimeoutError", message: "late", traceback: "TimeoutError: late" };
  const chosen = (element: HTMLElement) =>
    element.querySelector('[role="tab"][aria-selected="true"]')?.textContent;
  const run = fakeRun({ ...ended, error: brief });
  expect(chosen(await show(new FakeTransport({ run })))).toBe("Logs 3");
  const long = { ...brief, traceback: "Cell In[1], line 2\nTimeoutError: late" };
  expect(chosen(await show(new FakeTransport({ run: fakeRun({ ...ended, error: long }) })))).toBe(
    "Error",
  );
});

test("a screen reader is told why a run ended badly, once", async () => {
  const live = new FakeTransport({ run: fakeRun() });
  const element = await show(live);
  const said = () => element.querySelector('[role="status"][aria-live]')?.textContent;
  expect(said()).toBe("");
  await change(live, {
    state_type: "FAILED",
    state_name: "Failed",
    state_message: "ValueError: no",
    ended: 1,
  });
  expect(said()).toBe("train: Failed. ValueError: no");
  const other = new FakeTransport({ run: fakeRun() });
  const second = await show(other);
  await change(other, {
    state_type: "CANCELLED",
    state_name: "Cancelled",
    state_message: "Cancelled by the user",
    ended: 1,
  });
  expect(second.querySelector('[role="status"][aria-live]')?.textContent).toBe(
    "train: Cancelled by the user",
  );
});

test("the focus of a button in a tab's panel that vanishes goes to the tab that is shown then", async () => {
  const element = await show(new FakeTransport({ run: fakeRun() }));
  const button = element.querySelector<HTMLElement>(".jf-details button");
  button?.focus();
  await click(element, "Where is it?");
  expect(button?.isConnected).toBe(false);
  expect(document.activeElement?.textContent).toBe("Where is it?");
  expect(document.activeElement?.getAttribute("aria-selected")).toBe("true");
});

test("the focus of a button that vanishes goes to the header, and is taken from nobody", async () => {
  const live = new FakeTransport({ run: fakeRun() });
  const element = await show(live);
  const cancel = [...element.querySelectorAll<HTMLElement>(".jf-buttons button")].at(-1);
  cancel?.focus();
  expect(document.activeElement).toBe(cancel);
  await click(element, "Cancel");
  expect(cancel?.isConnected).toBe(false);
  expect(document.activeElement).toBe(element.querySelector(".jf-toggle"));

  const other = new FakeTransport({ run: fakeRun() });
  const second = await show(other);
  second.querySelector<HTMLElement>(".jf-buttons button")?.focus();
  const elsewhere = document.createElement("input");
  document.body.append(elsewhere);
  elsewhere.focus();
  await pass(10);
  await click(second, "Cancel");
  expect(document.activeElement).toBe(elsewhere);
  elsewhere.remove();
});
