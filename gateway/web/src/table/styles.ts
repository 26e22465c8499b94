/** The table's styles, in whichever document or shadow root it is: a window of its own has none of the page's. */

import css from "./table.css?inline";

const sheets = new WeakMap<DocumentOrShadowRoot, CSSStyleSheet>();

/** Adopts the styles where `element` is connected; does nothing the second time. */
export function ensureStyles(element: Element): void {
  const root = element.getRootNode() as Document | ShadowRoot;
  const view = element.ownerDocument.defaultView;
  if (!("adoptedStyleSheets" in root) || !view) return;
  const known = sheets.get(root);
  if (known && root.adoptedStyleSheets.includes(known)) return;
  // A sheet belongs to the document that made it.
  const sheet = new (view as Window & typeof globalThis).CSSStyleSheet();
  sheet.replaceSync(css);
  sheets.set(root, sheet);
  root.adoptedStyleSheets.push(sheet);
}
