/** Requests that are repeated while somebody looks at their answer. */

export interface Poll {
  /** Ends the request under way and begins anew at once. */
  again(): void;
  /** Ends the request under way, and the repetition. */
  stop(): void;
}

/**
 * Calls `read` at once, and again `pause` milliseconds after it has ended, or after those that it returns.
 *
 * `read` passes the signal on to its request. The message of its error goes to `fail`, unless `again` or `stop` ended it.
 */
export function poll(
  pause: number,
  read: (signal: AbortSignal) => Promise<number | void>,
  fail: (message: string) => void,
): Poll {
  let ended = new AbortController();
  let timer = 0;

  async function run(signal: AbortSignal): Promise<void> {
    let wait = pause;
    try {
      wait = (await read(signal)) ?? pause;
    } catch (error) {
      if (!signal.aborted) fail((error as Error).message);
    }
    if (!signal.aborted) timer = window.setTimeout(() => void run(signal), wait);
  }

  function stop(): void {
    ended.abort();
    clearTimeout(timer);
  }

  function again(): void {
    stop();
    ended = new AbortController();
    void run(ended.signal);
  }

  void run(ended.signal);
  return { again, stop };
}
