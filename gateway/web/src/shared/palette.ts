/** The theme's colours for what is drawn on a canvas, which knows no custom properties. */

const NAMES = ["up", "down", "text", "text-dim", "line", "background", "surface", "raised", "accent", "warning", "danger"] as const;

export type Palette = Record<(typeof NAMES)[number], string>;

/** Returns the colours that apply to the element, as #rrggbb. */
export function paletteOf(element: Element): Palette {
  const style = getComputedStyle(element);
  return Object.fromEntries(NAMES.map((name) => [name, style.getPropertyValue(`--${name}`).trim() || "#808080"])) as Palette;
}

/** Calls `changed` when the theme changes, by the page or by the system; returns what ends that. */
export function onThemeChange(element: Element, changed: () => void): () => void {
  const document = element.ownerDocument;
  const observer = new MutationObserver(changed);
  observer.observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
  const system = matchMedia("(prefers-color-scheme: light)");
  system.addEventListener("change", changed);
  return () => {
    observer.disconnect();
    system.removeEventListener("change", changed);
  };
}

/** Returns a #rrggbb colour with an opacity from 0 to 1. */
export function withAlpha(color: string, opacity: number): string {
  return color + Math.round(opacity * 255).toString(16).padStart(2, "0"); // prettier-ignore
}

/** Returns the colour between two #rrggbb colours, the first at 0 and the second at 1. */
export function mix(from: string, to: string, share: number): string {
  const channels = (color: string) => [1, 3, 5].map((at) => parseInt(color.slice(at, at + 2), 16));
  const [a, b] = [channels(from), channels(to)];
  return "#" + a.map((each, at) => Math.round(each + (b[at]! - each) * share).toString(16).padStart(2, "0")).join(""); // prettier-ignore
}

/** Returns the relative luminance of a #rrggbb colour (WCAG 2), from 0 to 1. */
export function luminance(color: string): number {
  const linear = [1, 3, 5].map((at) => {
    const channel = parseInt(color.slice(at, at + 2), 16) / 255;
    return channel <= 0.04045 ? channel / 12.92 : ((channel + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * linear[0]! + 0.7152 * linear[1]! + 0.0722 * linear[2]!;
}
