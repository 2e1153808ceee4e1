import { expect, test } from "vitest";
import { fieldsOf, templateOf } from "../src/schema";

const HOSTILE = `<img src=x onerror="alert(1)">`;
const schema = {
  $defs: {
    Address: {
      type: "object",
      properties: {
        street: { type: "string", minLength: 1 },
        country: { type: "string", default: "FR" },
      },
      required: ["street"],
    },
    Size: { enum: ["S", "M", "L"], type: "string" },
  },
  type: "object",
  properties: {
    size: { $ref: "#/$defs/Size" },
    count: { type: "integer", exclusiveMinimum: 0, default: 1, description: "How many" },
    day: { anyOf: [{ type: "string", format: "date" }, { type: "null" }], default: null },
    tags: { type: "array", items: { type: "string" }, maxItems: 3 },
    address: { allOf: [{ $ref: "#/$defs/Address" }], description: "Where to" },
    weights: { type: "object", additionalProperties: { type: "number" }, default: {} },
  },
  required: ["size", "tags", "address"],
};

test("each field has a line: what it is, what it may be, and what is taken if it is left out", () => {
  const lines = fieldsOf(schema, { count: 2, day: null }).map((field) => [
    field.name,
    [field.type, field.limits].filter(Boolean).join(", "),
    field.required,
    field.initial,
    field.description,
  ]);
  expect(lines).toEqual([
    ["size", `"S", "M" or "L"`, true, null, ""],
    ["count", "whole number, more than 0", false, "2", "How many"],
    ["day", "date (2026-01-31) or null", false, "null", ""],
    ["tags", "list of: text, at most 3 items", true, null, ""],
    ["address", "object", true, null, "Where to"],
    ["address.street", "text, at least 1 character", true, null, ""],
    ["address.country", "text", false, `"FR"`, ""],
    ["weights", "object of: number", false, "{}", ""],
  ]);
});

test("the text to begin with holds what is known, and null for what is to be filled in", () => {
  expect(JSON.parse(templateOf(schema, { count: 2, day: null }))).toEqual({
    size: null,
    count: 2,
    day: null,
    tags: null,
    address: { street: null, country: "FR" },
    weights: {},
  });
});

test("a schema that is none, refers to itself or to nothing, is read as far as it goes", () => {
  const node = { properties: { next: { $ref: "#/$defs/Node" }, name: { type: "string" } } };
  const endless = { $defs: { Node: node, Round: { $ref: "#/$defs/Round" } }, $ref: "#/$defs/Node" };
  expect(fieldsOf(endless, null).length).toBeLessThan(50);
  expect(JSON.parse(templateOf(endless, null))).toEqual({ next: null, name: null });
  const odd = { properties: { a: { $ref: "#/$defs/Round" }, b: { $ref: "http://x" }, c: 3 } };
  expect(fieldsOf({ ...endless, $ref: undefined, ...odd }, 7)).toHaveLength(3);
  for (const nothing of [null, 3, "x", [], {}, { properties: [] }, { $ref: "#/constructor" }]) {
    expect(fieldsOf(nothing, null)).toEqual([]);
    expect(templateOf(nothing, null)).toBe("");
  }
});

test("a schema without end is cut, and what only a terminal understands is left out", () => {
  const many = Object.fromEntries(
    Array.from({ length: 5000 }, (_, n) => [`f${n}`, { enum: Array(5000).fill("\u001b[31mx") }]),
  );
  const fields = fieldsOf({ properties: many }, null);
  expect(fields).toHaveLength(100);
  expect(fields[0]?.type.length).toBeLessThan(200);
  const [field] = fieldsOf(
    { properties: { [`${HOSTILE}\u001b]0;x\u0007`]: { description: "\u001b[31mred" } } },
    { [HOSTILE]: 1 },
  );
  expect(field).toMatchObject({ name: HOSTILE, description: "red" });
});
