import { afterEach, expect, test, vi } from "vitest";
import { dryRun, sourceText, type DryRun } from "./dry_run";

const EVENTS = [
  { opened: { rule: {}, days: ["2026-03-09", "2026-03-10"] } },
  { progress: { date: "2026-03-10", step: "events", percent: 41.2, alerts: 3 } },
  { day: { date: "2026-03-10", source: "TRADES", alerts: 5, symbols: [{ symbol: "A", alerts: 5 }], problem: "", lacks: [] } },
  { day: { date: "2026-03-09", source: "SOURCE_UNSPECIFIED", alerts: 0, symbols: [], problem: "there are no data", lacks: [] } },
  { ended: { alerts: 5 } },
];

function answer(text: string, pieces: number, status = 200): void {
  const bytes = new TextEncoder().encode(text);
  const size = Math.ceil(bytes.length / pieces);
  const body = new ReadableStream<Uint8Array>({
    start(controller) {
      for (let at = 0; at < bytes.length; at += size) controller.enqueue(bytes.slice(at, at + size));
      controller.close();
    },
  });
  vi.stubGlobal("fetch", vi.fn(() => Promise.resolve(new Response(body, { status }))));
}

async function last(): Promise<DryRun | undefined> {
  let newest: DryRun | undefined;
  for await (const run of dryRun({ when: "rises(halted)" }, 2, new AbortController().signal)) newest = run;
  return newest;
}

afterEach(() => vi.unstubAllGlobals());

test.each([1, 7, 400])("days come by date, however the stream is cut (%i pieces)", async (pieces) => {
  answer(EVENTS.map((event) => `data: ${JSON.stringify(event)}\n\n`).join(""), pieces);
  const run = await last();
  expect(run?.days.map(({ date, alerts }) => [date, alerts])).toEqual([
    ["2026-03-09", 0],
    ["2026-03-10", 5],
  ]);
  expect([run?.wanted, run?.step]).toEqual([2, ""]);
});

test("what cannot be run says why", async () => {
  answer(JSON.stringify({ message: "there are no data of any past day", details: [{ reason: "NO_PAST_DAYS" }] }), 1, 404);
  await expect(last()).rejects.toThrow("there are no data of any past day");
  answer(`data: ${JSON.stringify(EVENTS[0])}\n\n`, 1);
  await expect(last()).rejects.toThrow("broke off");
});

test("what is worth how much is said", () => {
  expect(sourceText("RECORDING")).toBe("recorded stream");
  expect(sourceText("SOURCE_UNSPECIFIED")).toBe("no data");
});
