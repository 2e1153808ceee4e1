import { expect, test } from "vitest";
import { fakeRun } from "../demo/fake";
import { controls } from "../src/controls";

test("a running run can be paused and cancelled", () => {
  expect(controls(fakeRun(), null, true)).toEqual({
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
  const waiting = { kind: "approval", text: "", run: null, until: null };
  expect(controls(fakeRun({ state_type: "PAUSED" }), null, true).hold?.action).toBe("resume");
  expect(controls(fakeRun({ state_type: "PAUSED", waiting }), null, true).hold).toBeNull();
});

test("a run that has ended has no buttons", () => {
  const run = fakeRun({ state_type: "CANCELLED", asked: "cancel" });
  expect(controls(run, null, true)).toEqual({ hold: null, cancel: null });
});
