/**
 * What a JSON schema says of an input, for people: a line for each field, and a text to begin with.
 *
 * Schemas come from other people's kernels and saved notebooks, so nothing in them is believed:
 * what is not understood is passed over, depth and length are bounded, and all that leaves this
 * module is plain text.
 */

import { stripAnsi } from "./ansi";

const MOST_FIELDS = 100;
const DEEPEST = 4; // fields of fields
const MOST_CHOICES = 20;
const LONGEST = 60; // characters of a value that is shown

export interface Field {
  name: string; // "address.street" for a field of a field
  type: string; // "whole number", "S, M or L"
  limits: string; // "at least 1"
  required: boolean;
  initial: string | null; // what is taken if it is left out, as JSON
  description: string;
}

type Schema = Record<string, unknown>;

function schemaOf(value: unknown): Schema | null {
  return typeof value === "object" && value !== null && !Array.isArray(value)
    ? (value as Schema)
    : null;
}

function words(value: unknown): string {
  return typeof value === "string" ? stripAnsi(value) : "";
}

/** Follow references within the schema, but not round and round. */
function resolved(value: unknown, root: Schema): Schema {
  let schema = schemaOf(value) ?? {};
  for (let step = 0; step < DEEPEST; step++) {
    const alone = Array.isArray(schema.allOf) && schema.allOf.length === 1 ? schema.allOf[0] : null;
    const reference = typeof schema.$ref === "string" ? schema.$ref : null;
    const target = reference?.startsWith("#/")
      ? reference
          .slice(2)
          .split("/")
          .reduce<unknown>((at, key) => own(schemaOf(at), key), root)
      : alone;
    if (!schemaOf(target)) break;
    const { $ref, allOf, ...rest } = schema;
    schema = { ...schemaOf(target), ...rest };
  }
  return schema;
}

function own(schema: Schema | null, key: string): unknown {
  return schema && Object.hasOwn(schema, key) ? schema[key] : undefined;
}

function propertiesOf(schema: Schema): [string, unknown][] {
  return Object.entries(schemaOf(schema.properties) ?? {}).slice(0, MOST_FIELDS);
}

function short(value: unknown): string {
  const text = stripAnsi(JSON.stringify(value) ?? "");
  return text.length > LONGEST ? `${text.slice(0, LONGEST)}…` : text;
}

function choice(options: string[]): string {
  const known = [...new Set(options)].filter(Boolean);
  const last = known.pop() ?? "";
  return known.length ? `${known.join(", ")} or ${last}` : last;
}

const NAMES: Record<string, string> = {
  string: "text",
  integer: "whole number",
  number: "number",
  boolean: "true or false",
  null: "null",
  object: "object",
};

const FORMATS: Record<string, string> = {
  date: "date (2026-01-31)",
  time: "time (12:30:00)",
  "date-time": "date and time (2026-01-31T12:30:00)",
  duration: "duration (PT1H30M)",
  email: "e-mail address",
  uri: "URL",
  uuid: "UUID",
};

function typeOf(value: unknown, root: Schema, depth = 0): string {
  const schema = resolved(value, root);
  if (depth > DEEPEST) return "value";
  if ("const" in schema) return short(schema.const);
  if (Array.isArray(schema.enum)) {
    const shown = schema.enum.slice(0, MOST_CHOICES).map(short);
    return choice(schema.enum.length > MOST_CHOICES ? [...shown, "…"] : shown);
  }
  const options = schema.anyOf ?? schema.oneOf;
  if (Array.isArray(options)) {
    return choice(options.slice(0, MOST_CHOICES).map((one) => typeOf(one, root, depth + 1)));
  }
  if (Array.isArray(schema.type)) return choice(schema.type.map((name) => NAMES[name] ?? ""));
  if (schema.type === "array") {
    const inner = schemaOf(schema.items) ? typeOf(schema.items, root, depth + 1) : "";
    return inner ? `list of: ${inner}` : "list";
  }
  if (schema.type === "object" && schemaOf(schema.additionalProperties)) {
    return `object of: ${typeOf(schema.additionalProperties, root, depth + 1)}`;
  }
  const format = typeof schema.format === "string" ? schema.format : "";
  if (schema.type === "string" && Object.hasOwn(FORMATS, format)) return FORMATS[format] ?? "text";
  const name = typeof schema.type === "string" ? schema.type : "";
  return (Object.hasOwn(NAMES, name) && NAMES[name]) || (schema.properties ? "object" : "value");
}

function counted(count: string, noun: string): string {
  return `${count} ${noun}${count === "1" ? "" : "s"}`;
}

function limitsOf(schema: Schema): string {
  const parts: string[] = [];
  const say = (key: string, text: (value: string) => string) => {
    const value = schema[key];
    if (typeof value === "number" || typeof value === "string") parts.push(text(short(value)));
  };
  say("minimum", (value) => `at least ${value}`);
  say("exclusiveMinimum", (value) => `more than ${value}`);
  say("maximum", (value) => `at most ${value}`);
  say("exclusiveMaximum", (value) => `less than ${value}`);
  say("multipleOf", (value) => `a multiple of ${value}`);
  say("minLength", (value) => `at least ${counted(value, "character")}`);
  say("maxLength", (value) => `at most ${counted(value, "character")}`);
  say("minItems", (value) => `at least ${counted(value, "item")}`);
  say("maxItems", (value) => `at most ${counted(value, "item")}`);
  if (typeof schema.pattern === "string") parts.push(`matches ${words(schema.pattern)}`);
  return parts.join(", ");
}

function isRequired(schema: Schema, name: string): boolean {
  return Array.isArray(schema.required) && schema.required.includes(name);
}

/** What is taken for a field that is left out: as it is filled in beforehand, or by default. */
function takenFor(name: string, data: Schema | null, field: Schema): unknown {
  const given = own(data, name);
  return given === undefined ? own(field, "default") : given;
}

/** One line for each field, those of a field after it. */
export function fieldsOf(value: unknown, initial: unknown): Field[] {
  const root = schemaOf(value) ?? {};
  const fields: Field[] = [];
  const add = (schema: Schema, data: Schema | null, before: string, depth: number) => {
    for (const [name, property] of propertiesOf(schema)) {
      if (fields.length >= MOST_FIELDS) return;
      const inner = resolved(property, root);
      const taken = takenFor(name, data, inner);
      const required = isRequired(schema, name) && taken === undefined;
      const nested = propertiesOf(inner).length > 0 && depth < DEEPEST;
      fields.push({
        name: before + words(name),
        type: typeOf(property, root),
        limits: limitsOf(inner),
        required,
        initial: taken === undefined || nested ? null : short(taken),
        description: words(inner.description),
      });
      if (nested) add(inner, schemaOf(taken), `${before}${words(name)}.`, depth + 1);
    }
  };
  add(resolved(root, root), schemaOf(initial), "", 1);
  return fields;
}

/** The text that an answer begins with: what is known, and `null` for what is to be filled in. */
export function templateOf(value: unknown, initial: unknown): string {
  const root = schemaOf(value) ?? {};
  const fill = (schema: Schema, data: Schema | null, depth: number): unknown =>
    Object.fromEntries(
      propertiesOf(schema).map(([name, property]) => {
        const inner = resolved(property, root);
        const taken = takenFor(name, data, inner);
        if (taken !== undefined) return [name, taken];
        const nested = isRequired(schema, name) && propertiesOf(inner).length && depth < DEEPEST;
        return [name, nested ? fill(inner, null, depth + 1) : null];
      }),
    );
  const schema = resolved(root, root);
  if (!propertiesOf(schema).length) return "";
  return JSON.stringify(fill(schema, schemaOf(initial), 1), null, 2);
}
