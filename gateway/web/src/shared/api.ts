/** Requests to the REST API (docs/rest.md) of the gateway that has served this page. */

import { keyStore } from "./key";

/** An error of the API: `reason` is that of docs/protocol.md, `status` the HTTP status, 0 without an answer. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly reason: string,
    message: string,
    readonly metadata: Record<string, string> = {},
  ) {
    super(message);
  }
}

export type Query = Record<string, string | number | boolean | readonly string[] | undefined>;

export interface Options {
  method?: "GET" | "POST" | "PATCH" | "DELETE";
  query?: Query;
  body?: unknown;
  signal?: AbortSignal;
}

/** The address with its query, absolute, as a link for others. */
export function apiUrl(path: string, query: Query = {}): string {
  const url = new URL(path, location.origin);
  for (const [name, value] of Object.entries(query)) {
    if (value === undefined) continue;
    if (Array.isArray(value)) for (const each of value) url.searchParams.append(name, each);
    else url.searchParams.set(name, String(value));
  }
  return url.href;
}

/** Returns the answer's JSON; throws ApiError, and AbortError when `signal` ends it. */
export async function api<T>(path: string, { method = "GET", query = {}, body, signal }: Options = {}): Promise<T> {
  const headers: Record<string, string> = {};
  const key = keyStore.get();
  if (key) headers["x-api-key"] = key;
  if (body !== undefined) headers["content-type"] = "application/json";
  const request: RequestInit = { method, headers };
  if (body !== undefined) request.body = JSON.stringify(body);
  if (signal) request.signal = signal;
  let answer: Response;
  try {
    answer = await fetch(apiUrl(path, query), request);
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(0, "UNREACHABLE", "the gateway does not answer");
  }
  const text = await answer.text();
  if (answer.ok) return JSON.parse(text) as T;
  throw toError(answer.status, text);
}

function toError(status: number, text: string): ApiError {
  try {
    const { message, details } = JSON.parse(text) as {
      message: string;
      details?: { reason?: string; metadata?: Record<string, string> }[];
    };
    const info = details?.find((each) => each.reason);
    return new ApiError(status, info?.reason ?? "UNKNOWN", message, info?.metadata);
  } catch {
    return new ApiError(status, "UNKNOWN", `HTTP status ${status}`);
  }
}
