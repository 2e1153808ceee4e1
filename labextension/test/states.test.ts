import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import { PROTOCOL } from "../src/protocol";
import { isTerminal, runLabel, STATE_TYPES, stateLabel } from "../src/states";

const python = (name: string) =>
  readFileSync(new URL(`../../jupyter_flows/${name}.py`, import.meta.url), "utf8");

test("the state types and the terminal ones are Python's", () => {
  const source = python("states");
  const members = /class StateType\(StrEnum\):([\s\S]*?)\n\n_S/.exec(source)?.[1] ?? "";
  expect([...members.matchAll(/^ {4}[A-Z]+ = "([A-Z]+)"$/gm)].map((match) => match[1])).toEqual(
    STATE_TYPES,
  );
  const terminal = /TERMINAL[^{]*\{([^}]*)\}/.exec(source)?.[1] ?? "";
  expect([...terminal.matchAll(/_S\.([A-Z]+)/g)].map((match) => match[1])).toEqual(
    STATE_TYPES.filter(isTerminal),
  );
});

test("the protocol's version is Python's", () => {
  expect(/^PROTOCOL = (\d+)$/m.exec(python("messages"))?.[1]).toBe(String(PROTOCOL));
});

test("the package's version is Python's", () => {
  const { version } = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8"));
  expect(/__version__ = "([^"]+)"/.exec(python("__init__"))?.[1]).toBe(version);
});

test.each([
  ["SCHEDULED", "AwaitingConcurrencySlot", "Waiting"],
  ["SCHEDULED", "AwaitingRetry", "Waiting to retry"],
  ["FAILED", "TimedOut", "Timed out"],
  ["RUNNING", "Retrying", "Retrying"],
  ["CANCELLED", "Abandoned", "Abandoned"],
  ["CANCELLING", "Cancelling", "Cancelling…"],
  ["RUNNING", "", "Running"],
])("%s named %o reads %o", (state_type, state_name, label) => {
  expect(stateLabel({ state_type, state_name })).toBe(label);
});

test("what was asked and is not yet so is said, until the run has ended", () => {
  const run = { state_type: "RUNNING", state_name: "Running" };
  expect(runLabel({ ...run, asked: "pause" })).toBe("Pausing…");
  expect(runLabel({ ...run, asked: "cancel" })).toBe("Cancelling…");
  const done = { state_type: "COMPLETED", state_name: "Completed", asked: "cancel" };
  expect(runLabel(done)).toBe("Completed");
});
