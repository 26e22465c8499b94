import { expect, test } from "vitest";
import type { Row } from "../stream/types";
import { apiCall, toCsv, toTabs } from "./export";

const ROWS = [
  { symbol: "A", rank: 1, company_name: 'Acme, "Inc"', price: 1.5, halted: false },
  { symbol: "B", rank: 2, company_name: "Tab\there" },
] as unknown as Row[];

test("CSV quotes what it must, and absent values are empty", () => {
  expect(toCsv(ROWS, ["rank", "symbol", "company_name", "price", "halted"])).toBe(
    'rank,symbol,company_name,price,halted\r\n1,A,"Acme, ""Inc""",1.5,false\r\n2,B,Tab\there,,\r\n',
  );
});

test("what is pasted has one cell for each value", () => {
  expect(toTabs(ROWS, ["symbol", "company_name", "price"])).toBe('symbol\tcompany_name\tprice\nA\tAcme, "Inc"\t1.5\nB\tTab here\t');
});

test("a list's call is its address; a scan's is a request with its body", () => {
  expect(apiCall({ list: "winners" }, "http://localhost:8000", 100, false)).toEqual({
    link: "http://localhost:8000/api/v1/scanner/lists/winners?limit=100",
    curl: "curl 'http://localhost:8000/api/v1/scanner/lists/winners?limit=100'",
  });
  const scan = apiCall({ list: "", filter: 'symbol = "O\'X"', order_by: "price", limit: 5 }, "http://h", 100, true);
  expect(scan.link).toBe("http://h/api/v1/scanner/scans:watch?filter=symbol+%3D+%22O%27X%22&order_by=price&limit=5");
  expect(scan.curl).toBe(
    `curl -H "x-api-key: $TRADEUL_KEY" 'http://h/api/v1/scanner/scans:query' -H 'content-type: application/json' ` +
      `-d '{"filter":"symbol = \\"O'\\''X\\"","order_by":"price","limit":5}'`,
  );
});
