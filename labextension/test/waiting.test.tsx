// @vitest-environment happy-dom
import { act } from "preact/test-utils";
import { expect, test } from "vitest";
import { type Fake, FakeTransport, fakeRun, fakeWaiting } from "../demo/fake";
import type { Waiting } from "../src/protocol";
import { change, click, HOSTILE, show, useMountedViews } from "./mounted";

const order = fakeWaiting({
  kind: "input",
  text: "Waiting for input: shirt",
  number: 4,
  description: HOSTILE,
  schema: {
    properties: {
      size: { enum: ["S", "M"] },
      [HOSTILE]: { type: "integer", description: HOSTILE },
    },
    required: ["size"],
  },
  initial: { [HOSTILE]: 1 },
});

useMountedViews();

async function ask(waiting: Waiting, more: Partial<Fake> = {}) {
  const run = fakeRun({ state_type: "PAUSED", state_name: "Paused", waiting });
  const live = new FakeTransport({ run, ...more });
  const element = await show(live);
  return { element, live, acted: () => live.asked.filter((one) => /^(resume|cancel)/.test(one)) };
}

async function type(element: HTMLElement, text: string) {
  const field = element.querySelector<HTMLTextAreaElement>("textarea, input.jf-field");
  if (!field) throw new Error("no field");
  await act(async () => {
    field.value = text;
    field.dispatchEvent(new Event("input", { bubbles: true }));
  });
}

const refusal = (element: HTMLElement) => element.querySelector(".jf-refusal")?.textContent ?? "";
const typed = (element: HTMLElement) => element.querySelector("textarea")?.value;

test("Approve answers the question that is shown, and Reject cancels with a reason", async () => {
  const approved = await ask(fakeWaiting({ text: "Deploy?", number: 3 }));
  await click(approved.element, "Approve");
  expect(approved.acted()).toEqual(['resume {"question":3}']);
  const rejected = await ask(fakeWaiting({ text: "Deploy?", number: 3 }));
  await click(rejected.element, "Reject");
  expect(rejected.acted()).toEqual(['cancel {"reason":"Rejected"}']);
});

test("a screen reader is told what a run asks", async () => {
  const { element, live } = await ask(fakeWaiting({ text: "Deploy?", number: 1 }));
  await change(live, { waiting: fakeWaiting({ text: "Sure?", number: 2 }) });
  expect(element.querySelector('[role="status"]')?.textContent).toBe("train: Paused. Sure?");
});

test("Enter sends a line of text, but not while a word is being composed", async () => {
  const waiting = fakeWaiting({ kind: "input", text: "Who?", number: 1 });
  const { element, acted } = await ask(waiting);
  await type(element, "Ada");
  const field = element.querySelector("input.jf-field");
  const press = (isComposing: boolean) =>
    act(async () => {
      const options = { key: "Enter", bubbles: true, cancelable: true, isComposing };
      field?.dispatchEvent(new KeyboardEvent("keydown", options));
    });
  await press(true);
  expect(acted()).toEqual([]);
  await press(false);
  expect(acted()).toEqual(['resume {"input":"Ada","question":1}']);
});

test("the header's Resume lifts a pause, and approves nothing", async () => {
  const { element, acted } = await ask(fakeWaiting({ held: true, until: Date.now() / 1000 + 60 }));
  expect(element.querySelector(".jf-until")).toBeNull();
  await click(element, "Resume");
  expect(acted()).toEqual(['resume {"question":0}']);
});

test("a field for JSON begins with the defaults, beside a summary that is text", async () => {
  const { element } = await ask(order);
  expect(JSON.parse(typed(element) ?? "")).toEqual({ size: null, [HOSTILE]: 1 });
  const summary = element.querySelector(".jf-fields");
  expect(summary?.textContent).toContain(`"S" or "M" · required`);
  expect(summary?.textContent).toContain(`whole number · 1 if left out${HOSTILE}`);
  expect(element.querySelector(".jf-described")?.textContent).toBe(HOSTILE);
  expect(element.querySelectorAll("img")).toHaveLength(0);
  const area = element.querySelector("textarea");
  const label = element.querySelector(`label[for="${area?.id}"]`);
  expect(label?.textContent).toBe("Input, as JSON");
  const described = area?.getAttribute("aria-describedby")?.split(" ") ?? [];
  expect(described.every((id) => element.querySelector(`#${id}`))).toBe(true);
});

test("what is not JSON is told at once and not sent", async () => {
  const { element, acted } = await ask(order);
  await type(element, "{size: S}");
  await click(element, "Send");
  expect(refusal(element)).toContain("This is not JSON yet");
  expect(acted()).toEqual([]);
  expect(typed(element)).toBe("{size: S}");
});

test("what is refused stands with its reason, and can be mended and sent again", async () => {
  const refuse = (details: { input?: unknown }) =>
    JSON.stringify(details.input).includes("XL") ? `size: not ${HOSTILE}` : null;
  const { element, live, acted } = await ask(order, { refuse });
  await type(element, '{"size": "XL"}');
  await click(element, "Send");
  expect(refusal(element)).toBe(`size: not ${HOSTILE}`);
  expect(element.querySelector(".jf-problem")).toBeNull();
  expect(typed(element)).toBe('{"size": "XL"}');
  expect(element.querySelector("textarea")?.getAttribute("aria-invalid")).toBe("true");
  expect(document.activeElement).toBe(element.querySelector("textarea"));
  await change(live, { log_count: 7 });
  expect(typed(element)).toBe('{"size": "XL"}');
  await type(element, '{"size": "S"}');
  await click(element, "Send");
  expect(acted().at(-1)).toBe('resume {"input":{"size":"S"},"question":4}');
  expect(element.querySelector("textarea")).toBeNull();
});

test("another question begins anew", async () => {
  const { element, live } = await ask(order);
  await type(element, "typed for the first");
  await change(live, { waiting: { ...order, number: 5 } });
  expect(JSON.parse(typed(element) ?? "")).toMatchObject({ size: null });
});

test("a line of text is sent as it is", async () => {
  const { element, acted } = await ask(fakeWaiting({ kind: "input", text: "Who?", number: 1 }));
  await type(element, '{"not": "JSON"}');
  await click(element, "Send");
  expect(acted()).toEqual([`resume {"input":"{\\"not\\": \\"JSON\\"}","question":1}`]);
});

test("where nobody can answer the question is read, and nothing can be sent", async () => {
  const { element } = await ask(order, { capability: "read-only" });
  expect(element.querySelector("textarea")?.readOnly).toBe(true);
  expect(element.querySelector(".jf-form button")).toBeNull();
});
