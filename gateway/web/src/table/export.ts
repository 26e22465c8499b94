/** The rows of a list for other programs: as text to paste, as CSV, and as the API call that gives the same rows. */

import type { Row, Value } from "../stream/types";

function csvCell(value: Value | undefined): string {
  const text = value === undefined ? "" : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

/** Returns CSV (RFC 4180) with the fields' names as its header and the values as the API has them. */
export function toCsv(rows: readonly Row[], fields: readonly string[]): string {
  const lines = rows.map((row) => fields.map((field) => csvCell(row[field])).join(","));
  return [fields.join(","), ...lines].map((line) => `${line}\r\n`).join("");
}

/** Returns columns separated by tabs, as spreadsheets paste them. */
export function toTabs(rows: readonly Row[], fields: readonly string[]): string {
  const cell = (value: Value | undefined): string => (value === undefined ? "" : String(value).replace(/[\t\r\n]+/g, " "));
  return [fields, ...rows.map((row) => fields.map((field) => cell(row[field])))].map((cells) => cells.join("\t")).join("\n");
}

export interface Source {
  /** A built-in list's name, or "" for a custom scan. */
  list: string;
  filter?: string;
  order_by?: string;
  limit?: number;
}

export interface ApiCall {
  /** An address that gives the rows by itself: for a scan, as a stream. */
  link: string;
  curl: string;
}

function shellQuoted(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}

/** Returns the call of the REST API that gives the same rows; `rows` is how many the list may have. */
export function apiCall(source: Source, origin: string, rows: number, hasKey: boolean): ApiCall {
  const key = hasKey ? ' -H "x-api-key: $TRADEUL_KEY"' : "";
  if (source.list) {
    const link = `${origin}/api/v1/scanner/lists/${encodeURIComponent(source.list)}?limit=${rows}`;
    return { link, curl: `curl${key} ${shellQuoted(link)}` };
  }
  const { filter = "", order_by = "", limit = rows } = source;
  const query = new URLSearchParams({ filter, order_by, limit: String(limit) });
  const body = JSON.stringify({ filter, order_by, limit });
  return {
    link: `${origin}/api/v1/scanner/scans:watch?${query}`,
    curl: `curl${key} ${shellQuoted(`${origin}/api/v1/scanner/scans:query`)} -H 'content-type: application/json' -d ${shellQuoted(body)}`,
  };
}
