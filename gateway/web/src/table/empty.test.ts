import { expect, test } from "vitest";
import { whyEmpty, type Circumstances } from "./empty";

const LOADED: Circumstances = { state: "open", reason: "", refusal: "", isLoaded: true, hidden: 0, session: "MARKET_OPEN", isWatch: false };

test.each<[Partial<Circumstances>, string]>([
  [{ refusal: "there is no list 'x'" }, "there is no list 'x'"],
  [{ state: "waiting", reason: "no answer" }, "No connection: no answer. The rows come when it is back."],
  [{ isLoaded: false }, "Waiting for the first rows."],
  [{ hidden: 2 }, "All 2 rows are of symbols on your exclusion list."],
  [{ isWatch: true }, "The watch list is empty. Add a symbol above, or from the menu of a row in any list."],
  [{ definition: { list: "halts", title: "Halts", limit: 100 } }, "No symbol is halted now."],
  [{ definition: { list: "post_market", title: "Post-market", limit: 100 } }, "This list fills after the regular close."],
  [
    { definition: { list: "winners", title: "Winners", limit: 100, filter: "rvol > 2", uses_scanner_filters: true } },
    "No symbol matches now: rvol > 2, and the base and scanner filters.",
  ],
  [{ filter: "price < 0", session: "CLOSED" }, "No symbol matches now: price < 0. The market is closed."],
  [{ filter: "" }, "No symbol matches now."],
])("%j", (circumstances, text) => expect(whyEmpty({ ...LOADED, ...circumstances })).toBe(text));
