import { expect, test } from "vitest";
import { fakeRun, fakeWaiting } from "../demo/fake";
import { controls } from "../src/controls";
import type { Stopping } from "../src/protocol";
import { runLabel } from "../src/states";

test("a running run can be paused and cancelled", () => {
  expect(controls(fakeRun(), null, true)).toMatchObject({
    kill: null,
    abandon: null,
    hold: { action: "pause", label: "Pause", enabled: true },
    cancel: { action: "cancel", label: "Cancel", enabled: true },
  });
});

test("what was clicked or asked says so and cannot be clicked again", () => {
  expect(controls(fakeRun(), "pause", true).hold).toMatchObject({
    label: "Pausing…",
    enabled: false,
  });
  const asked = controls(fakeRun({ asked: "pause" }), null, true);
  expect(asked.hold).toMatchObject({ label: "Pausing…", enabled: false });
  expect(asked.cancel).toMatchObject({ label: "Cancel", enabled: true });
});

test("a run that is being cancelled offers nothing else", () => {
  const run = fakeRun({ state_type: "CANCELLING" });
  expect(controls(run, null, true)).toMatchObject({
    hold: null,
    cancel: { label: "Cancelling…", enabled: false },
  });
});

test("a run that waits for an answer is resumed by the answer only", () => {
  const waiting = fakeWaiting();
  expect(controls(fakeRun({ state_type: "PAUSED" }), null, true).hold?.action).toBe("resume");
  expect(controls(fakeRun({ state_type: "PAUSED", waiting }), null, true).hold).toBeNull();
});

test("a pause beside a question is lifted by itself", () => {
  const paused = { state_type: "PAUSED", waiting: fakeWaiting({ held: true }) };
  expect(controls(fakeRun(paused), null, true).hold).toMatchObject({
    action: "resume",
    enabled: true,
  });
  const asked = fakeRun({ ...paused, asked: "pause" });
  expect(controls(asked, null, true).hold).toMatchObject({ label: "Pausing…", enabled: false });
  expect(runLabel(asked)).toBe("Pausing…");
});

test("a run that has ended has no buttons", () => {
  const run = fakeRun({ state_type: "CANCELLED", asked: "cancel" });
  expect(controls(run, null, true)).toEqual({
    hold: null,
    cancel: null,
    kill: null,
    abandon: null,
  });
});

const stopping: Stopping = {
  since: 0,
  rung: "asked",
  next: "interrupt",
  at: 1,
  stuck: null,
  hint: null,
};

test("a run that does not stop can be killed, and once it was, abandoned", () => {
  const cancelling = { state_type: "CANCELLING", asked: "cancel", reason: "user" };
  const asked = controls(fakeRun({ ...cancelling, stopping }), null, true);
  expect(asked.kill).toEqual({ action: "kill", label: "Kill", enabled: true });
  expect(asked.abandon).toBeNull();
  const killed = { ...stopping, rung: "killed", next: null, at: null };
  const after = controls(fakeRun({ ...cancelling, stopping: killed }), null, true);
  expect(after.kill).toMatchObject({ label: "Killed", enabled: false });
  expect(after.abandon).toEqual({ action: "abandon", label: "Abandon", enabled: true });
});

test("a run that takes too long can be killed, and cancelled for good", () => {
  const run = fakeRun({ asked: "cancel", reason: "timeout", stopping });
  expect(controls(run, null, true)).toMatchObject({
    hold: null,
    cancel: { label: "Cancel", enabled: true },
    kill: { enabled: true },
  });
  expect(runLabel(run)).toBe("Timed out…");
});

test("a run that nobody can act on offers nothing to click", () => {
  const run = fakeRun({ state_type: "CANCELLING", stopping });
  expect(controls(run, null, false).kill?.enabled).toBe(false);
});
