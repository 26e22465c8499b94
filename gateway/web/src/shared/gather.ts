/** Collects what comes within a time, to hand it on together. */
export class Gather<T> {
  private items: T[] = [];
  private timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly milliseconds: number,
    private readonly take: (items: T[]) => void,
  ) {}

  add(...items: T[]): void {
    if (items.length === 0) return;
    this.items.push(...items);
    this.timer ??= setTimeout(() => {
      const together = this.items;
      this.stop();
      this.take(together);
    }, this.milliseconds);
  }

  /** Forgets what was collected. */
  stop(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    this.items = [];
  }
}
