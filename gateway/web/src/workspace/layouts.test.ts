import { describe, expect, test } from "vitest";
import { layoutLink, linkedLayout, parseLayout, type Layout } from "./layouts";

const panel = (id: string): object => ({ id, contentComponent: "list", title: id, params: { parameters: { list: id } } });
const grid = { root: { type: "leaf", data: { id: "1", views: ["a"], activeView: "a" } }, width: 1, height: 1, orientation: "HORIZONTAL" };
const layout = { version: 1, title: "Mine", dock: { grid, panels: { a: panel("a") }, activeGroup: "1", floatingGroups: [] } };

describe("a layout", () => {
  test("survives a link", async () => {
    const link = await layoutLink(layout as unknown as Layout, "http://localhost:8000/#old");
    expect(link).toMatch(/^http:\/\/localhost:8000\/#layout=[\w-]+$/);
    expect(await linkedLayout(new URL(link).hash)).toEqual(layout);
  });

  test("of a link that is damaged, too large or of another kind is none", async () => {
    const huge = { ...layout, title: "x".repeat(300_000) };
    const link = await layoutLink(huge as unknown as Layout, "http://localhost:8000/");
    for (const fragment of ["", "#layout=", "#layout=AAAA", "#scan=abc", new URL(link).hash]) {
      expect(await linkedLayout(fragment), fragment.slice(0, 20)).toBeNull();
    }
  });

  test("of a stranger opens no windows and has nothing but panels", () => {
    const window = { data: { id: "2", views: ["b"] }, url: "javascript:alert(1)", position: null };
    const strange = {
      ...layout,
      dock: { ...layout.dock, panels: { a: { ...panel("a"), html: "<b>" }, b: panel("b") }, popoutGroups: [window] },
    };
    const parsed = parseLayout(strange);
    expect(JSON.stringify(parsed)).not.toContain("javascript");
    expect(JSON.stringify(parsed)).not.toContain("<b>");
    expect(parsed?.dock.floatingGroups).toHaveLength(1);
  });

  test("must have panels that name their kind", () => {
    for (const value of [null, {}, { ...layout, version: 2 }, { ...layout, dock: { grid, panels: { a: {} } } }]) {
      expect(parseLayout(value)).toBeNull();
    }
  });
});
