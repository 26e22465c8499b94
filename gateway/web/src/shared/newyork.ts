/** New York times. The mesh's timestamps are UTC; everything that a trader reads is New York time. */

const FIELDS = new Intl.DateTimeFormat("en-US", {
  timeZone: "America/New_York",
  hourCycle: "h23",
  year: "numeric",
  month: "2-digit",
  day: "2-digit",
  hour: "2-digit",
  minute: "2-digit",
  second: "2-digit",
});
const HOUR = 3600;
const offsets = new Map<number, number>();

/** Returns New York's offset from UTC in seconds (negative) at a time in UTC seconds. It changes on whole hours only. */
export function offsetSeconds(utc: number): number {
  const hour = Math.floor(utc / HOUR);
  let offset = offsets.get(hour);
  if (offset === undefined) {
    const field: Record<string, number> = {};
    for (const part of FIELDS.formatToParts(hour * HOUR * 1000)) field[part.type] = Number(part.value);
    offset =
      Date.UTC(field.year!, field.month! - 1, field.day!, field.hour!, field.minute!, field.second!) / 1000 -
      hour * HOUR;
    offsets.set(hour, offset);
  }
  return offset;
}

/** Returns the New York wall clock as seconds, as if New York were at UTC: what a time axis without time zones shows. */
export function toWall(utc: number): number {
  return utc + offsetSeconds(utc);
}

/** Returns the UTC seconds of a wall clock's seconds; of two possible times in autumn, the earlier. */
export function fromWall(wall: number): number {
  // The offset before a change is larger (summer time) or smaller by an hour; try both, the earlier result first.
  for (const hours of [4, 5]) {
    const utc = wall + hours * HOUR;
    if (toWall(utc) === wall) return utc;
  }
  return wall + 5 * HOUR; // a wall clock that is skipped in spring
}

/** Returns the UTC seconds of a New York date (YYYY-MM-DD) and time of day (HH:MM or HH:MM:SS). */
export function newYorkTime(date: string, clock: string): number {
  return fromWall(Date.parse(`${date}T${clock.length === 5 ? `${clock}:00` : clock}Z`) / 1000);
}

/** Returns the New York date (YYYY-MM-DD) of a time in UTC seconds. */
export function newYorkDate(utc: number): string {
  return new Date(toWall(utc) * 1000).toISOString().slice(0, 10);
}

/** Returns the New York time of day of a time in UTC seconds: 09:31, or 09:31:05 with seconds. */
export function newYorkClock(utc: number, seconds = false): string {
  return new Date(Math.floor(toWall(utc)) * 1000).toISOString().slice(11, seconds ? 19 : 16);
}

/** Returns the UTC seconds, with fractions, of an RFC 3339 timestamp; NaN for anything else. */
export function utcSeconds(timestamp: string | undefined): number {
  return timestamp === undefined ? NaN : Date.parse(timestamp) / 1000;
}

/** Returns a duration for a countdown: 4:05, 1:04:05, or 2 d 03:04:05. Negative ones are 0:00. */
export function countdown(seconds: number): string {
  const left = Math.max(0, Math.ceil(seconds));
  const two = (value: number) => String(value).padStart(2, "0");
  const [days, hours, minutes] = [Math.floor(left / 86400), Math.floor(left / HOUR) % 24, Math.floor(left / 60) % 60];
  if (days > 0) return `${days} d ${two(hours)}:${two(minutes)}:${two(left % 60)}`;
  return hours > 0 ? `${hours}:${two(minutes)}:${two(left % 60)}` : `${minutes}:${two(left % 60)}`;
}
