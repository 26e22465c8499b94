/** Called by bench/table_bench.py: measures one contestant after the other, several times, in one page. */

import { OurTable, Perspective, PlainTable, type Contestant } from "./contestants";
import { makeWorkload, type Workload } from "./workload";

interface Result {
  name: string;
  /** Deltas in a second, each of them shown before the next. */
  perSecond: number;
  /** Deltas in a second that arrive in bursts of `BURST`, as after a pause; shown after each burst. */
  burstPerSecond: number;
}

const BURST = 100;

async function measure(contestant: Contestant, { rows, deltas, last }: Workload): Promise<Result> {
  const place = document.createElement("div");
  place.className = "place";
  document.body.append(place);
  await contestant.begin(place, rows);
  const half = deltas.length / 2;
  const start = performance.now();
  for (const delta of deltas.slice(0, half)) {
    contestant.apply(delta);
    await contestant.show();
  }
  const middle = performance.now();
  for (let at = half; at < deltas.length; at += BURST) {
    for (const delta of deltas.slice(at, at + BURST)) contestant.apply(delta);
    await contestant.show();
  }
  const end = performance.now();
  const symbols = await contestant.symbols();
  const expected = last.map(({ symbol }) => symbol);
  if (symbols.join(" ") !== expected.join(" ")) throw new Error(`${contestant.name} shows other rows than were sent`);
  await contestant.end();
  place.remove();
  return { name: contestant.name, perSecond: (half / (middle - start)) * 1000, burstPerSecond: (half / (end - middle)) * 1000 };
}

async function run(rowCount: number, deltaCount: number, turns: number): Promise<Result[]> {
  const results: Result[] = [];
  for (let turn = 0; turn < turns; turn += 1) {
    const workload = makeWorkload(rowCount, deltaCount, turn + 1);
    for (const contestant of [new OurTable(), new PlainTable(), new Perspective()]) results.push(await measure(contestant, workload));
  }
  return results;
}

Object.assign(window, { run });
