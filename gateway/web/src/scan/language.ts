/**
 * What can be written next in a filter, an order (docs/filters.md) or an alert rule's event (docs/alerts.md). Whether a text
 * is valid is the scanner's to say.
 */

import type { Field } from "../table/formats";
import { EVENT_WORDS, PART_VALUES, SCAN, type Part } from "./event_words";

export type Mode = "filter" | "order" | "event";

export interface Completion {
  /** What replaces `from` to `to`. */
  insert: string;
  label: string;
  detail: string;
  kind: "field" | "operator" | "value" | "function";
}

export interface Completions {
  from: number;
  to: number;
  options: Completion[];
}

interface Token {
  kind: "number" | "name" | "text" | "sign" | "open-text";
  text: string;
  from: number;
  to: number;
}

const TOKEN = /\s*(?:((?:\d+[smh]\b|\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)|([A-Za-z_]\w*)|("(?:[^"\\]|\\.)*")|("(?:[^"\\]|\\.)*$)|(<=|>=|!=|[=<>()+\-*/,]))/y;
const KINDS: Token["kind"][] = ["number", "name", "text", "open-text", "sign"];
const COMPARISONS = new Set(["=", "!=", "<", "<=", ">", ">="]);
const ARITHMETIC = new Set(["+", "-", "*", "/"]);
const FUNCTIONS: Record<string, string> = {
  abs: "without its sign",
  min: "the smaller of two",
  max: "the larger of two",
  has: "true if the row has the field",
};

/** Returns the tokens; what cannot be one is skipped. */
export function tokens(text: string): Token[] {
  const found: Token[] = [];
  let at = 0;
  while (at < text.length) {
    TOKEN.lastIndex = at;
    const match = TOKEN.exec(text);
    if (!match) {
      at += 1;
      continue;
    }
    at = TOKEN.lastIndex;
    const group = match.slice(1).findIndex((part) => part !== undefined);
    const token = match[group + 1] as string;
    found.push({ kind: KINDS[group] as Token["kind"], text: token, from: at - token.length, to: at });
  }
  return found;
}

type Expected = "operand" | "operator" | "connective" | "list" | "in-or-between";

/** Where in the grammar a text ends. */
class State {
  expected: Expected = "operand";
  /** The field on the left of the comparison, if it is one field alone. */
  left: Field | null = null;
  isCompared = false;
  isBetween = false;
  isList = false;
  isInFunction = false;
  isHas = false;
  /** Of the word whose parentheses these are, and which of them this is. */
  parts: readonly Part[] | null = null;
  partAt = 0;
  readonly outer: State | null;
  readonly #part: Part;

  constructor(outer: State | null, part: Part = outer?.part ?? "condition") {
    this.outer = outer;
    this.#part = part;
  }

  /** What is written here. */
  get part(): Part {
    if (this.isInFunction && !this.isHas) return "number";
    return this.parts ? (this.parts[Math.min(this.partAt, this.parts.length - 1)] as Part) : this.#part;
  }

  get isOrder(): boolean {
    return this.part === "order";
  }

  restart(): void {
    this.expected = "operand";
    this.left = null;
    this.isCompared = this.isBetween = false;
  }

  operand(field: Field | null): void {
    if (!this.isCompared) this.left = field;
    this.expected = this.isCompared && !this.isInFunction ? "connective" : "operator";
  }
}

const ROOTS: Record<Mode, Part> = { filter: "condition", order: "order", event: "event" };

/** Returns the parts of a word, or null for another name. */
function partsOf(name: string, state: State): readonly Part[] | null {
  if (state.part === "list") return name === "scan" ? SCAN.parts : null;
  return state.part === "event" ? (EVENT_WORDS[name]?.parts ?? null) : null;
}

function read(found: readonly Token[], fields: ReadonlyMap<string, Field>, mode: Mode): State {
  let state = new State(null, ROOTS[mode]);
  let called = "";
  for (const { kind, text } of found) {
    const word = text.toUpperCase();
    if (kind === "sign") state = readSign(state, text, called);
    else if (kind !== "name") state.operand(null);
    else if (word === "AND" && state.isBetween) {
      state.isBetween = false;
      state.expected = "operand";
    } else if (word === "AND" || word === "OR") state.restart();
    else if (word === "NOT") state.expected = state.expected === "operand" ? "operand" : "in-or-between";
    else if (word === "IN" || word === "BETWEEN") {
      state.isCompared = true;
      state.isBetween = word === "BETWEEN";
      state.expected = word === "IN" ? "list" : "operand";
    } else if (word === "ASC" || word === "DESC") state.expected = "connective";
    else state.operand(fields.get(text) ?? null);
    called = kind === "name" ? text.toLowerCase() : "";
  }
  return state;
}

function readSign(state: State, sign: string, called: string): State {
  if (COMPARISONS.has(sign)) {
    state.isCompared = true;
    state.expected = "operand";
  } else if (sign === "(") {
    const inner = new State(state);
    inner.isList = state.expected === "list";
    inner.parts = partsOf(called, state);
    inner.isInFunction = called in FUNCTIONS;
    inner.isHas = called === "has";
    if (inner.isList) {
      inner.left = state.left;
      inner.isCompared = true;
    }
    return inner;
  } else if (sign === ")") {
    const outer = state.outer ?? state;
    if (state.isList || state.isHas || state.parts) outer.expected = "connective";
    else if (state.isInFunction) outer.operand(null);
    else outer.expected = outer.isCompared || state.isCompared ? "connective" : "operator";
    if (!state.isList) outer.left = outer.isCompared ? outer.left : null;
    return outer;
  } else if (sign === ",") {
    if (state.isList || state.isInFunction) state.expected = "operand";
    else {
      state.restart();
      state.partAt += 1;
    }
  } else if (ARITHMETIC.has(sign)) {
    // A value of an enum or a text is not calculated with.
    if (!state.isCompared) state.left = null;
    state.expected = "operand";
  }
  return state;
}

function option(insert: string, kind: Completion["kind"], detail = "", label = insert): Completion {
  return { insert, label, detail, kind };
}

const AND_OR = [option("AND", "operator", "both hold"), option("OR", "operator", "one of them holds")];
const CALCULATIONS = ["+", "-", "*", "/"].map((sign) => option(sign, "operator"));
const LARGER = [">", ">=", "<", "<=", "=", "!="].map((sign) => option(sign, "operator"));
const EQUAL = ["=", "!="].map((sign) => option(sign, "operator"));
const SETS = [option("IN", "operator", "one of a list"), option("NOT IN", "operator", "none of a list")];
const RANGES = [option("BETWEEN", "operator", "from ... to, both included"), option("NOT BETWEEN", "operator")];

/** What ends a part of a word, or a parenthesis. */
function closing({ parts, partAt, part, outer }: State): Completion[] {
  const comma = option(",", "operator");
  const end = option(")", "operator");
  if (parts === null) return outer ? [end] : [];
  if (part === "list") return [comma, end];
  return partAt < parts.length - 1 ? [comma] : [end];
}

function operators(state: State): Completion[] {
  const { left, part } = state;
  if (state.isInFunction) return [...CALCULATIONS, option(")", "operator"), option(",", "operator")];
  if (part === "number") return [...closing(state), ...CALCULATIONS];
  if (part === "shares-or-time") return [...closing(state), ...CALCULATIONS];
  if (part === "list" || part in PART_VALUES) return closing(state);
  if (part === "order") {
    return [option("desc", "operator", "largest first"), option("asc", "operator", "smallest first"), option(",", "operator", "then by"), ...CALCULATIONS];
  }
  if (left?.type === "boolean") return [...AND_OR, ...EQUAL, ...(state.parts ? closing(state) : [])];
  if (left?.type === "text") return [...EQUAL, ...SETS];
  if (left?.type === "enum") return [...LARGER, ...SETS];
  if (left?.type === "time") return [...LARGER, ...RANGES];
  return [...LARGER, ...RANGES, ...CALCULATIONS];
}

function connectives(state: State): Completion[] {
  if (state.isOrder) return [option(",", "operator", "then by")];
  if (state.isList) return [option(",", "operator"), option(")", "operator")];
  if (state.isBetween) return [option("AND", "operator", "and at most")];
  if (state.part === "list") return closing(state);
  return [...AND_OR, ...closing(state)];
}

function quoted(value: string): string {
  return `"${value.replace(/(["\\])/g, "\\$1")}"`;
}

function values(field: Field): Completion[] {
  if (field.type === "boolean") return [option("true", "value"), option("false", "value")];
  if (field.type === "enum") return field.values.map((value) => option(value, "value", field.name));
  return field.values.map((value) => option(quoted(value), "value", field.name, value));
}

/** What stands in the place of a list. */
function places(lists: ReadonlyMap<string, string>): Completion[] {
  const named = [...lists].map(([name, title]) => option(quoted(name), "value", title, name));
  return [...named, option("scan(", "function", SCAN.meaning)];
}

function operands(state: State, fields: ReadonlyMap<string, Field>, lists: ReadonlyMap<string, string>): Completion[] {
  const { part } = state;
  if (part === "list") return places(lists);
  const written = (PART_VALUES[part] ?? []).map((value) => option(value, "value"));
  if (part === "shares-or-time") return [...written, option("volume", "operator", "and a number of shares")];
  if (written.length > 0) return written;
  const isCondition = !state.isCompared && !state.isInFunction && (part === "condition" || part === "event");
  if (state.left && state.isCompared && state.left.type !== "number" && state.left.type !== "time") return values(state.left);
  const all = [...fields.values()];
  const isNumber = ({ type, name }: Field): boolean => type !== "text" || name === "symbol";
  const usable = isCondition || state.isHas ? all : all.filter(isNumber);
  const named = usable.map((field) => option(field.name, "field", field.unit ? `${field.meaning} (${field.unit})` : field.meaning));
  const functions = Object.entries(FUNCTIONS)
    .filter(([name]) => name !== "has" || isCondition)
    .map(([name, meaning]) => option(`${name}(`, "function", meaning));
  const not = isCondition ? [option("NOT", "operator", "the opposite")] : [];
  const events = part === "event" && isCondition ? Object.entries(EVENT_WORDS) : [];
  const words = events.map(([name, { meaning }]) => option(`${name}(`, "function", meaning));
  return [...words, ...named, ...functions, ...not];
}

/** How well a word fits: the smaller the better, -1 for not at all. */
function fit(word: string, { label, detail, kind }: Completion): number {
  if (word === "") return 0;
  const name = label.toLowerCase();
  if (name.startsWith(word)) return 0;
  if (name.split(/[_ ]/).some((part) => part.startsWith(word))) return 1;
  if (word.length > 2 && name.includes(word)) return 2;
  return kind === "field" && word.length > 2 && detail.toLowerCase().includes(word) ? 3 : -1;
}

/** Returns what can be written at `caret`, best first. `lists`: titles by name, for events. */
export function completionsAt(
  text: string,
  caret: number,
  fields: ReadonlyMap<string, Field>,
  mode: Mode = "filter",
  lists: ReadonlyMap<string, string> = new Map(),
): Completions {
  const all = tokens(text);
  const touched = all.find(({ kind, from, to }) => kind !== "sign" && kind !== "number" && from < caret && caret <= to && !(kind === "text" && caret === to));
  const from = touched?.from ?? caret;
  const state = read(all.filter((token) => token.to <= from), fields, mode);
  const word = text.slice(from, caret).replace(/^"/, "").toLowerCase();
  const isText = touched?.kind === "text" || touched?.kind === "open-text";
  let options: Completion[];
  if (state.expected === "operand") options = operands(state, fields, lists);
  else if (state.expected === "list") options = [option("(", "operator")];
  else if (state.expected === "in-or-between") options = [option("IN", "operator"), option("BETWEEN", "operator")];
  else options = state.expected === "operator" ? operators(state) : connectives(state);
  if (isText) options = options.filter(({ kind }) => kind === "value");
  const ranked = options
    .map((each, at) => ({ each, at, fit: fit(word, each) }))
    .filter((each) => each.fit >= 0)
    .sort((a, b) => a.fit - b.fit || a.at - b.at)
    .map(({ each }) => each);
  return { from, to: touched?.to ?? caret, options: ranked };
}

/** Returns the text with the completion, and where the caret then is: after a space where a next word follows. */
export function complete(text: string, { from, to }: Completions, { insert, kind }: Completion): { text: string; caret: number } {
  const rest = text.slice(to);
  const needsSpace = kind !== "function" && insert !== "(" && !/^[\s,)]/.test(rest);
  const inserted = insert + (needsSpace ? " " : "");
  const caret = from + inserted.length + (needsSpace || !/^\s/.test(rest) ? 0 : 1);
  return { text: text.slice(0, from) + inserted + rest, caret };
}

/** Converts the scanner's position, which counts characters, into an index of a string, which counts UTF-16 units. */
export function indexOfPosition(text: string, position: number): number {
  return [...text].slice(0, position).join("").length;
}

/** Returns what is underlined for an error at `index`: the token there, or the text's end. */
export function errorSpan(text: string, index: number): { from: number; to: number } {
  const token = tokens(text).find(({ from, to }) => from <= index && index < to);
  if (token) return { from: index === token.from ? token.from : index, to: token.to };
  return { from: Math.min(index, text.length), to: Math.max(index + 1, text.length) };
}
