import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { poll } from "./poll";

/** A request that the test answers. */
class Requests {
  readonly signals: AbortSignal[] = [];
  private readonly answers: { resolve: (wait: number | void) => void; reject: (error: Error) => void }[] = [];

  readonly read = (signal: AbortSignal): Promise<number | void> => {
    this.signals.push(signal);
    return new Promise((resolve, reject) => {
      this.answers.push({ resolve, reject });
      signal.addEventListener("abort", () => reject(new Error("aborted")));
    });
  };

  async answer(wait?: number): Promise<void> {
    this.answers.at(-1)!.resolve(wait);
    await vi.advanceTimersByTimeAsync(0);
  }

  async refuse(message: string): Promise<void> {
    this.answers.at(-1)!.reject(new Error(message));
    await vi.advanceTimersByTimeAsync(0);
  }
}

describe("poll", () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  it("asks at once, and again a pause after each answer or the wait that it returns", async () => {
    const requests = new Requests();
    const { stop } = poll(1000, requests.read, () => expect.unreachable());
    expect(requests.signals).toHaveLength(1);
    await vi.advanceTimersByTimeAsync(5000);
    expect(requests.signals).toHaveLength(1);
    await requests.answer();
    await vi.advanceTimersByTimeAsync(999);
    expect(requests.signals).toHaveLength(1);
    await vi.advanceTimersByTimeAsync(1);
    expect(requests.signals).toHaveLength(2);
    await requests.answer(50);
    await vi.advanceTimersByTimeAsync(50);
    expect(requests.signals).toHaveLength(3);
    stop();
  });

  it("shows an error, and asks again", async () => {
    const requests = new Requests();
    const messages: string[] = [];
    const { stop } = poll(1000, requests.read, (message) => messages.push(message));
    await requests.refuse("the gateway does not answer");
    expect(messages).toEqual(["the gateway does not answer"]);
    await vi.advanceTimersByTimeAsync(1000);
    expect(requests.signals).toHaveLength(2);
    stop();
  });

  it("has one request at a time, however often it is begun anew", async () => {
    const requests = new Requests();
    const { again, stop } = poll(1000, requests.read, () => expect.unreachable());
    again();
    again();
    expect(requests.signals.map((signal) => signal.aborted)).toEqual([true, true, false]);
    await requests.answer();
    await vi.advanceTimersByTimeAsync(1000);
    expect(requests.signals).toHaveLength(4);
    stop();
  });

  it("is silent once it is stopped", async () => {
    const requests = new Requests();
    const { stop } = poll(1000, requests.read, () => expect.unreachable());
    stop();
    await vi.advanceTimersByTimeAsync(5000);
    expect(requests.signals.map((signal) => signal.aborted)).toEqual([true]);
  });
});
