/** The chart of a day: candles, VWAP, volume, sessions and levels. Loaded when the first chart is opened. */

import {
  CandlestickSeries,
  createChart,
  HistogramSeries,
  LineSeries,
  LineStyle,
  type AutoscaleInfo,
  type CandlestickData,
  type HistogramData,
  type IChartApi,
  type IPanePrimitive,
  type IPriceLine,
  type IPrimitivePaneRenderer,
  type ISeriesApi,
  type LineData,
  type Logical,
  type UTCTimestamp,
  type WhitespaceData,
} from "lightweight-charts";
import { newYorkClock, fromWall, toWall } from "../shared/newyork";
import { paletteOf, withAlpha, type Palette } from "../shared/palette";
import { aggregate, vwapLine, type Bar, type DayTotal } from "./bars";
import type { Level } from "./levels";
import { axisTimes, shading, type DayHours, type SessionName } from "./sessions";

type Whitespace = WhitespaceData<UTCTimestamp>;

/** What the legend shows: the bar under the crosshair, otherwise the newest. */
export interface Legend {
  bar: Bar;
  vwap: number | undefined;
  /** Close of the bar before. */
  previous: number | undefined;
  isNewest: boolean;
}

const SESSION_NAMES: Record<SessionName, string> = { pre: "Premarket", regular: "", post: "After hours" };

/** Draws the sessions behind the candles. */
class SessionShading implements IPanePrimitive<UTCTimestamp> {
  /** The spans in positions of the time axis. */
  spans: { session: SessionName; from: number; to: number }[] = [];
  colors: Record<SessionName, string> = { pre: "transparent", regular: "transparent", post: "transparent" };
  textColor = "";
  private readonly views;

  constructor(chart: IChartApi) {
    const renderer: IPrimitivePaneRenderer = {
      draw: (target) =>
        target.useBitmapCoordinateSpace(({ context, bitmapSize, horizontalPixelRatio: ratio }) => {
          const scale = chart.timeScale();
          // A bar is drawn around its position: a session begins half a bar before its first.
          const half = scale.options().barSpacing / 2;
          for (const { session, from, to } of this.spans) {
            const left = scale.logicalToCoordinate(from as Logical);
            const right = scale.logicalToCoordinate(to as Logical);
            if (left === null || right === null) continue;
            const x = Math.max(0, Math.round((left - half) * ratio));
            const width = Math.min(bitmapSize.width, Math.round((right - half) * ratio)) - x;
            if (width <= 0) continue;
            context.fillStyle = this.colors[session];
            context.fillRect(x, 0, width, bitmapSize.height);
            if (SESSION_NAMES[session] && width > 90 * ratio) {
              context.fillStyle = this.textColor;
              context.font = `${11 * ratio}px system-ui, sans-serif`;
              context.fillText(SESSION_NAMES[session], x + 6 * ratio, bitmapSize.height - 8 * ratio);
            }
          }
        }),
    };
    this.views = [{ zOrder: () => "bottom" as const, renderer: () => renderer }];
  }

  paneViews() {
    return this.views;
  }
}

/** A chart in an element, which it fills. */
export class DayChart {
  private readonly chart: IChartApi;
  private readonly candles: ISeriesApi<"Candlestick">;
  private readonly volume: ISeriesApi<"Histogram">;
  private readonly vwap: ISeriesApi<"Line">;
  private readonly sessions: SessionShading;
  private palette!: Palette;
  private interval = 60;
  private hours: DayHours | undefined;
  private minutes: readonly Bar[] = [];
  private total: DayTotal | undefined;
  private bars: Bar[] = [];
  private indices = new Map<number, number>();
  private averages = new Map<number, number>();
  private levels: Level[] = [];
  private lines: IPriceLine[] = [];
  private drawn = { first: 0, count: 0 };

  constructor(
    private readonly container: HTMLElement,
    private readonly onLegend: (legend: Legend | undefined) => void,
  ) {
    const wallClock = (time: unknown) => newYorkClock(fromWall(time as number));
    this.chart = createChart(container, {
      autoSize: true,
      // The page shows the library's attribution itself; the logo would need a <style> element.
      layout: { attributionLogo: false, fontSize: 11 },
      localization: { timeFormatter: wallClock, locale: "en-US" },
      timeScale: {
        timeVisible: true,
        barSpacing: 7,
        minBarSpacing: 0.2,
        rightOffset: 6,
        tickMarkFormatter: wallClock,
      },
      crosshair: { mode: 0 },
      rightPriceScale: { scaleMargins: { top: 0.12, bottom: 0.22 } },
    });
    this.volume = this.chart.addSeries(HistogramSeries, {
      priceScaleId: "volume",
      priceFormat: { type: "volume" },
      priceLineVisible: false,
      lastValueVisible: false,
    });
    this.volume.priceScale().applyOptions({ scaleMargins: { top: 0.82, bottom: 0 } });
    this.vwap = this.chart.addSeries(LineSeries, {
      lineWidth: 2,
      priceLineVisible: false,
      crosshairMarkerVisible: false,
      title: "VWAP",
    });
    this.candles = this.chart.addSeries(CandlestickSeries, {
      priceLineStyle: LineStyle.Dotted,
      autoscaleInfoProvider: (original: () => AutoscaleInfo | null) => this.withNearLevels(original()),
    });
    this.sessions = new SessionShading(this.chart);
    this.chart.panes()[0]!.attachPrimitive(this.sessions);
    this.chart.subscribeCrosshairMove((event) => this.showLegend(event.time as number | undefined));
    this.applyTheme();
  }

  /** Shows another day, without bars until there are some. */
  setDay(hours: DayHours): void {
    if (JSON.stringify(hours) === JSON.stringify(this.hours)) return;
    this.hours = hours;
    this.setBars([], undefined);
    this.chart.timeScale().resetTimeScale();
  }

  /** Sets the length of a candle in seconds: a multiple of a minute. */
  setInterval(seconds: number): void {
    if (seconds === this.interval) return;
    this.interval = seconds;
    this.setBars(this.minutes, this.total);
    this.chart.timeScale().resetTimeScale();
  }

  /**
   * Shows the day's minutes, oldest first. `total` is that of the whole day, including minutes that are not there.
   * After a tick, only the newest bar is drawn again.
   */
  setBars(minutes: readonly Bar[], total: DayTotal | undefined, isTick = false): void {
    this.minutes = minutes;
    this.total = total;
    this.bars = aggregate(minutes, this.interval, this.hours?.start ?? 0);
    this.indices = new Map(this.bars.map(({ time }, index) => [time, index]));
    this.averages = new Map(vwapLine(this.bars, total).map(({ time, value }) => [time, value]));
    const first = this.bars[0]?.time ?? 0;
    const last = this.bars.at(-1)?.time ?? 0;
    const times = this.bars.length > 0 ? axisTimes(first, last, this.interval) : [];
    const { drawn } = this;
    const isSame = isTick && drawn.first === first && drawn.count === times.length;
    const changed = isSame ? times.slice(-1) : times;
    const candles = changed.map((time) => this.candle(time, this.barAt(time)));
    const volumes = changed.map((time) => this.volumeBar(time, this.barAt(time)));
    const averages = changed.map((time) => this.vwapPoint(time));
    if (isSame && candles[0] !== undefined) {
      this.candles.update(candles[0]);
      this.volume.update(volumes[0]!);
      this.vwap.update(averages[0]!);
    } else if (!isSame) {
      this.candles.setData(candles);
      this.volume.setData(volumes);
      this.vwap.setData(averages);
      this.drawn = { first, count: times.length };
      this.shade(first);
    }
    this.showLegend(undefined);
  }

  setLevels(levels: Level[]): void {
    if (JSON.stringify(levels) === JSON.stringify(this.levels)) return;
    this.levels = levels;
    for (const line of this.lines) this.candles.removePriceLine(line);
    this.lines = levels.map(({ price, title, kind }) =>
      this.candles.createPriceLine({
        price,
        title,
        color: this.levelColor(kind),
        lineWidth: 1,
        lineStyle: kind === "band" ? LineStyle.LargeDashed : LineStyle.Dashed,
        axisLabelVisible: true,
      }),
    );
  }

  /** Shows the whole day so far. */
  fit(): void {
    this.chart.timeScale().fitContent();
  }

  /** Goes to the newest bar, at the usual width. */
  newest(): void {
    this.chart.timeScale().resetTimeScale();
  }

  /** Moves by a number of bars, to the left if negative. */
  scroll(bars: number): void {
    const scale = this.chart.timeScale();
    scale.scrollToPosition(scale.scrollPosition() + bars, false);
  }

  /** Widens the bars by a factor. */
  zoom(factor: number): void {
    const scale = this.chart.timeScale();
    scale.applyOptions({ barSpacing: Math.min(60, Math.max(0.3, scale.options().barSpacing * factor)) });
  }

  applyTheme(): void {
    const palette = (this.palette = paletteOf(this.container));
    const grid = { color: withAlpha(palette.line, 0.5) };
    this.chart.applyOptions({
      layout: { background: { color: palette.surface }, textColor: palette["text-dim"] },
      grid: { vertLines: grid, horzLines: grid },
      timeScale: { borderColor: palette.line },
      rightPriceScale: { borderColor: palette.line },
    });
    const { up, down } = palette;
    this.candles.applyOptions({
      upColor: up,
      wickUpColor: up,
      borderUpColor: up,
      downColor: down,
      wickDownColor: down,
      borderDownColor: down,
    });
    this.vwap.applyOptions({ color: palette.warning });
    const shade = withAlpha(palette["text-dim"], 0.1);
    this.sessions.colors = { pre: shade, regular: "transparent", post: shade };
    this.sessions.textColor = palette["text-dim"];
    const { levels } = this;
    this.levels = [];
    this.setLevels(levels);
    this.setBars(this.minutes, this.total);
  }

  destroy(): void {
    this.chart.remove();
  }

  private barAt(time: number): Bar | undefined {
    return this.bars[this.indices.get(time) ?? -1];
  }

  private candle(time: number, bar: Bar | undefined): CandlestickData<UTCTimestamp> | Whitespace {
    const wall = toWall(time) as UTCTimestamp;
    return bar === undefined
      ? { time: wall }
      : { time: wall, open: bar.open, high: bar.high, low: bar.low, close: bar.close };
  }

  private volumeBar(time: number, bar: Bar | undefined): HistogramData<UTCTimestamp> | Whitespace {
    const wall = toWall(time) as UTCTimestamp;
    if (bar === undefined) return { time: wall };
    const color = withAlpha(bar.close >= bar.open ? this.palette.up : this.palette.down, 0.4);
    return { time: wall, value: bar.volume, color };
  }

  private vwapPoint(time: number): LineData<UTCTimestamp> | Whitespace {
    const wall = toWall(time) as UTCTimestamp;
    const value = this.averages.get(time);
    return value === undefined ? { time: wall } : { time: wall, value };
  }

  /** `first` is the axis's first time, 0 without one. */
  private shade(first: number): void {
    const wall = toWall(first);
    // Positions between bars have no coordinate.
    const position = (time: number) => Math.round((time - wall) / this.interval);
    this.sessions.spans =
      this.hours === undefined || first === 0
        ? []
        : shading(this.hours).map(({ session, from, to }) => ({ session, from: position(from), to: position(to) }));
  }

  /** Returns the range of the candles, widened to levels that are near. */
  private withNearLevels(info: AutoscaleInfo | null): AutoscaleInfo | null {
    if (info?.priceRange == null) return info;
    const { minValue, maxValue } = info.priceRange;
    const reach = 0.5 * (maxValue - minValue);
    const near = this.levels
      .map(({ price }) => price)
      .filter((price) => price > minValue - reach && price < maxValue + reach);
    return { ...info, priceRange: { minValue: Math.min(minValue, ...near), maxValue: Math.max(maxValue, ...near) } };
  }

  private showLegend(wall: number | undefined): void {
    const index = wall === undefined ? this.bars.length - 1 : (this.indices.get(fromWall(wall)) ?? -1);
    const bar = this.bars[index];
    this.onLegend(
      bar && {
        bar,
        vwap: this.averages.get(bar.time),
        previous: this.bars[index - 1]?.close,
        isNewest: index === this.bars.length - 1,
      },
    );
  }

  private levelColor(kind: Level["kind"]): string {
    const { text, accent, danger } = this.palette;
    const dim = this.palette["text-dim"];
    return { close: text, open: accent, premarket: dim, day: dim, band: danger }[kind];
  }
}
