/** /tradeul-list.js: the element `<tradeul-list>` (table/element.ts) for pages without the dashboard, also of other origins. */

// Elements that are in the page already open the stream while their class is defined.
import "./stream/other_origin";
import "./table/element";
import { stream } from "./stream/client";

export { TradeulList } from "./table/element";

/** Sets the key of a gateway that requires one, for as long as the page is open. */
export function setKey(key: string): void {
  stream().useKey(key);
}
