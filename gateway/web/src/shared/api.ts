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
export async function api<T>(path: string, options: Options = {}): Promise<T> {
  const answer = await request(path, options);
  return (await answer.json()) as T;
}

/** Yields the JSON of each server-sent event; throws as `api` does. */
export async function* eventsOf<T>(path: string, options: Options = {}): AsyncGenerator<T, void, undefined> {
  const answer = await request(path, options);
  const reader = (answer.body as ReadableStream<Uint8Array>).pipeThrough(new TextDecoderStream() as TransformStream<Uint8Array, string>).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const lines = (rest + value).split("\n");
      rest = lines.pop() ?? "";
      for (const line of lines) if (line.startsWith("data:")) yield JSON.parse(line.slice("data:".length)) as T;
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}

async function request(path: string, { method = "GET", query = {}, body, signal }: Options): Promise<Response> {
  const headers: Record<string, string> = {};
  const key = keyStore.get();
  if (key) headers["x-api-key"] = key;
  if (body !== undefined) headers["content-type"] = "application/json";
  const sent: RequestInit = { method, headers };
  if (body !== undefined) sent.body = JSON.stringify(body);
  if (signal) sent.signal = signal;
  let answer: Response;
  try {
    answer = await fetch(apiUrl(path, query), sent);
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(0, "UNREACHABLE", "the gateway does not answer");
  }
  if (!answer.ok) throw toError(answer.status, await answer.text());
  return answer;
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
