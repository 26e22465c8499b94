/** Why a list shows no rows, in one or two sentences. */

import type { ListDefinition } from "../scan/catalog";
import type { ConnectionState } from "../stream/types";

export interface Circumstances {
  state: ConnectionState;
  /** Why there is no connection. */
  reason: string;
  /** Why the server refused the subscription, or "". */
  refusal: string;
  /** True once the rows have been received. */
  isLoaded: boolean;
  /** Rows of excluded symbols. */
  hidden: number;
  session: string;
  definition?: ListDefinition | undefined;
  /** A custom scan's filter. */
  filter?: string | undefined;
  isWatch: boolean;
}

export function whyEmpty({ state, reason, refusal, isLoaded, hidden, session, definition, filter, isWatch }: Circumstances): string {
  if (refusal) return refusal;
  if (isWatch && filter === undefined) return "The watch list is empty. Add a symbol above, or from the menu of a row in any list.";
  if (state !== "open") return `No connection${reason ? `: ${reason}` : ""}. The rows come when it is back.`;
  if (!isLoaded) return "Waiting for the first rows.";
  if (hidden > 0) return `All ${hidden} ${hidden === 1 ? "row is" : "rows are"} of symbols on your exclusion list.`;
  const closed = session === "CLOSED" ? " The market is closed." : "";
  if (isWatch) return `None of the watched symbols is known to the market.${closed}`;
  if (definition?.list === "halts") return `No symbol is halted now.${closed}`;
  if (definition?.list === "post_market" && session !== "POST_MARKET") return "This list fills after the regular close.";
  const condition = (definition ? definition.filter : filter)?.trim();
  const others = definition?.uses_scanner_filters ? ", and the base and scanner filters" : "";
  return condition ? `No symbol matches now: ${condition}${others}.${closed}` : `No symbol matches now.${closed}`;
}
