/** Draws the volume curve with uPlot. Loaded when the first one is opened. */

import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { newYorkClock, fromWall } from "../shared/newyork";
import { paletteOf, withAlpha, type Palette } from "../shared/palette";
import { compact } from "../table/formats";
import { shading, type DayHours } from "./sessions";
import type { Curve } from "./volume_curve";

const HOUR = 3600;

/** The curve in an element, which it fills. */
export class CurveChart {
  private plot: uPlot | null = null;
  private palette: Palette;
  private curve: Curve | null = null;
  private hours: DayHours | null = null;
  private until = 0;
  private readonly observer: ResizeObserver;

  /** `onpoint` gets the minute under the pointer, null without one. */
  constructor(
    private readonly element: HTMLElement,
    private readonly onpoint: (minute: number | null) => void,
  ) {
    this.palette = paletteOf(element);
    this.observer = new ResizeObserver(() => this.plot?.setSize(this.size()));
    this.observer.observe(element);
  }

  /** Shows the curve until a time of its axis. */
  show(curve: Curve, hours: DayHours, until: number): void {
    this.curve = curve;
    this.hours = hours;
    this.until = until;
    if (this.plot === null) this.make();
    else this.plot.setData(this.data(curve));
  }

  applyTheme(): void {
    this.palette = paletteOf(this.element);
    this.plot?.destroy();
    this.plot = null;
    if (this.curve) this.make();
  }

  destroy(): void {
    this.observer.disconnect();
    this.plot?.destroy();
  }

  private data({ times, usual, today, estimated }: Curve): uPlot.AlignedData {
    return [times, usual, today, estimated];
  }

  private size(): { width: number; height: number } {
    return { width: Math.max(50, this.element.clientWidth), height: Math.max(50, this.element.clientHeight) };
  }

  private make(): void {
    const { palette } = this;
    const dim = palette["text-dim"];
    const axis: uPlot.Axis = {
      stroke: dim,
      font: "11px system-ui, sans-serif",
      grid: { stroke: withAlpha(palette.line, 0.6), width: 1 },
      ticks: { show: false },
    };
    this.plot = new uPlot(
      {
        ...this.size(),
        padding: [6, 10, 0, 20],
        legend: { show: false },
        cursor: { y: false, drag: { x: false, y: false }, points: { size: 6 } },
        scales: {
          x: { time: false, range: (_, low) => [low, this.until] },
          y: { range: (_, __, high) => [0, Math.max(1, high * 1.05)] },
        },
        axes: [
          {
            ...axis,
            size: 26,
            incrs: [HOUR / 2, HOUR, 2 * HOUR, 4 * HOUR],
            space: 60,
            values: (_, times) => times.map((time) => newYorkClock(fromWall(time))),
          },
          { ...axis, side: 1, size: 46, space: 34, values: (_, volumes) => volumes.map((volume) => compact(volume)) },
        ],
        series: [
          {},
          { label: "Usual", stroke: dim, width: 1.5, dash: [5, 4], points: { show: false } },
          {
            label: "Today",
            stroke: palette.accent,
            width: 2,
            fill: withAlpha(palette.accent, 0.12),
            points: { show: false },
          },
          { label: "Estimated", stroke: palette.accent, width: 1.5, dash: [2, 4], points: { show: false } },
        ],
        hooks: {
          drawClear: [(plot) => this.shade(plot)],
          setCursor: [({ cursor }) => this.onpoint(cursor.idx ?? null)],
        },
      },
      this.data(this.curve!),
      this.element,
    );
  }

  private shade({ ctx, bbox, valToPos }: uPlot): void {
    if (!this.hours) return;
    ctx.fillStyle = withAlpha(this.palette["text-dim"], 0.1);
    for (const { session, from, to } of shading(this.hours)) {
      if (session === "regular") continue;
      const left = Math.max(bbox.left, valToPos(from, "x", true));
      const right = Math.min(bbox.left + bbox.width, valToPos(to, "x", true));
      if (right > left) ctx.fillRect(left, bbox.top, right - left, bbox.height);
    }
  }
}
