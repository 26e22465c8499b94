/** The sessions of a trading day. */

import { newYorkTime, toWall } from "../shared/newyork";
import type { Session } from "../shared/session";

/** A trading day's hours in UTC seconds. */
export interface DayHours {
  date: string;
  start: number;
  open: number;
  close: number;
  end: number;
}

export type SessionName = "pre" | "regular" | "post";

/** Returns the hours of the session's trading day, or of another day with the usual hours. */
export function dayHours(session: Session, date = session.trading_date): DayHours {
  const same = date === session.trading_date;
  const at = (usual: string, given: string) => newYorkTime(date, same ? given : usual);
  return {
    date,
    start: at("04:00", session.pre_market_start),
    open: at("09:30", session.market_open),
    close: at("16:00", session.market_close),
    end: at("20:00", session.post_market_end),
  };
}

/** Returns the spans to shade, in the seconds of the chart's axis (New York's wall clock). */
export function shading(hours: DayHours): { session: SessionName; from: number; to: number }[] {
  const span = (session: SessionName, from: number, to: number) => ({ session, from: toWall(from), to: toWall(to) });
  return [
    span("pre", hours.start, hours.open),
    span("regular", hours.open, hours.close),
    span("post", hours.close, hours.end),
  ];
}

/** Returns the session of a time in UTC seconds, undefined outside of the day's hours. */
export function sessionAt(hours: DayHours, utc: number): SessionName | undefined {
  if (utc < hours.start || utc >= hours.end) return undefined;
  return utc < hours.open ? "pre" : utc < hours.close ? "regular" : "post";
}

/** Returns the times of an axis without holes: every interval from the first bar to the last. */
export function axisTimes(first: number, last: number, seconds: number): number[] {
  const times = [];
  for (let time = first; time <= last; time += seconds) times.push(time);
  return times;
}
