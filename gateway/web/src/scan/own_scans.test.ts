import fc from "fast-check";
import { get } from "svelte/store";
import { beforeEach, expect, test } from "vitest";
import { deleteScan, importScans, ownScans, parseScan, saveScan, scanLink, scanOfFragment, scansFile, scansOfFile, streamIdOf, symbolsOf, watchScan, type OwnScan } from "./own_scans"; // prettier-ignore

const SCAN: OwnScan = { title: "Low float", filter: 'float_shares < 2e7 AND sector = "Energy"', order_by: "rvol desc", limit: 50 };

beforeEach(() => ownScans.set([]));

test("a link leads back to the scan, whatever is written in it", () => {
  fc.assert(
    fc.property(fc.string({ unit: "grapheme", maxLength: 60 }), fc.string({ unit: "grapheme" }), fc.integer({ min: 1, max: 500 }), (title, filter, limit) => {
      const scan = parseScan({ title, filter, order_by: "price", limit }) as OwnScan;
      expect(scanOfFragment(new URL(scanLink(scan, "http://localhost:8000/?a=b#old")).hash)).toEqual(scan);
    }),
  );
  expect(scanOfFragment("#layout=x")).toBeNull();
  expect(scanOfFragment("")).toBeNull();
});

test("equal scans have one id in the stream, others have their own", () => {
  expect(streamIdOf({ ...SCAN, title: "other" })).toBe(streamIdOf(SCAN));
  const ids = [{}, { filter: "" }, { order_by: "rvol" }, { limit: 51 }].map((more) => streamIdOf({ ...SCAN, ...more }));
  expect(new Set(ids).size).toBe(4);
  expect(ids[0]).toMatch(/^scan-[0-9a-f]{16}$/);
});

test("scans are saved by title, and kept by the browser", () => {
  saveScan(SCAN);
  saveScan({ ...SCAN, title: "A" });
  saveScan({ ...SCAN, limit: 10 });
  expect(get(ownScans).map(({ title, limit }) => [title, limit])).toEqual([["A", 50], ["Low float", 10]]); // prettier-ignore
  expect(JSON.parse(localStorage.getItem("tradeul.scans") ?? "")).toEqual(get(ownScans));
  deleteScan("A");
  expect(get(ownScans)).toHaveLength(1);
});

test("another window's change is seen", () => {
  localStorage.setItem("tradeul.scans", JSON.stringify([SCAN, { title: "none" }]));
  window.dispatchEvent(new StorageEvent("storage", { key: "tradeul.scans" }));
  expect(get(ownScans)).toEqual([SCAN]);
});

test("a file of scans is read back; any other file is refused in words", () => {
  importScans(scansOfFile(scansFile([SCAN])));
  expect(get(ownScans)).toEqual([SCAN]);
  expect(() => scansOfFile("{")).toThrow("expected a file of scans, was not JSON");
  expect(() => scansOfFile("null")).toThrow('expected "tradeul_scans" in the file');
  expect(() => scansOfFile('{"tradeul_scans": 3}')).toThrow('expected "tradeul_scans" in the file');
});

test("what is no scan is none, and limits are those of the API", () => {
  expect(parseScan({ title: "x" })).toBeNull();
  expect(parseScan({ filter: "a".repeat(2001) })).toBeNull();
  expect(parseScan({ filter: "", limit: "9999" })).toMatchObject({ title: "Scan", limit: 500 });
  expect(parseScan({ filter: "", limit: 0 })).toMatchObject({ limit: 1 });
});

test("symbols are read from any list of them, and make a scan", () => {
  expect(symbolsOf("aapl, TSLA;brk.b\nBACpL aapl <b> 5")).toEqual(["AAPL", "TSLA", "BRK.B", "BACpL"]);
  expect(watchScan(["AAPL", "BAC/WS"]).filter).toBe('symbol IN ("AAPL", "BAC/WS")');
});
