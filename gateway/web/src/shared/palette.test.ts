// @vitest-environment node
import { describe, expect, it } from "vitest";
import { luminance, mix, withAlpha } from "./palette";

describe("colours", () => {
  it("are mixed by share", () => {
    expect(mix("#000000", "#ffffff", 0)).toBe("#000000");
    expect(mix("#000000", "#ffffff", 1)).toBe("#ffffff");
    expect(mix("#102030", "#304050", 0.5)).toBe("#203040");
  });

  it("have an opacity", () => expect([withAlpha("#102030", 0), withAlpha("#102030", 1)]).toEqual(["#10203000", "#102030ff"]));

  it("have the luminance of WCAG", () => {
    expect(luminance("#000000")).toBe(0);
    expect(luminance("#ffffff")).toBeCloseTo(1, 6);
    expect(luminance("#767676")).toBeCloseTo(0.1812, 3);
  });
});
