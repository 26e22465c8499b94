/**
 * When what shows a list is drawn: everything in each frame while the browser is fast enough, otherwise in turns.
 *
 * Browsers that draw without a graphics processor take longer for painting than for everything else, and the longer the
 * more of the screen has changed. There, a part of the tables is drawn in each frame, and nothing moves by itself.
 */

export interface Drawn {
  /** Shows what has changed. `isSlow`: animations are to be left out. */
  draw(isSlow: boolean): void;
}

/** A frame of 60/s is 17 ms, and one of 30/s is 33 ms. */
const SLOW_MS = 28;
const FAST_MS = 20;
/** Frames that decide; what a frame takes differs from one to the next. */
const FRAMES = 20;
/** How long a slow browser is slow at least. What it is spared would else make it fast, and slow again at once. */
const SLOW_FOR_MS = 60_000;
/** A pause of the page, and no frame. */
const LONGEST_FRAME_MS = 1_000;
/** In how many parts everything is drawn when frames are slow. */
const TURNS = 4;

export class Pace {
  isSlow = false;
  /** In the order in which they were made, so that neighbours are drawn together: less of the screen has changed then. */
  private readonly drawn: Drawn[] = [];
  private readonly waiting = new Set<Drawn>();
  private next = 0;
  private frame = 0;
  private lastAt = 0;
  private hasDrawn = false;
  private mean = 0;
  private frames = 0;
  private slowUntil = 0;

  constructor(private readonly window: Pick<Window, "requestAnimationFrame">) {}

  add(drawn: Drawn): void {
    this.drawn.push(drawn);
  }

  remove(drawn: Drawn): void {
    const at = this.drawn.indexOf(drawn);
    if (at >= 0) this.drawn.splice(at, 1);
    this.waiting.delete(drawn);
  }

  /** Draws it in one of the next frames. */
  request(drawn: Drawn): void {
    this.waiting.add(drawn);
    this.schedule();
  }

  /** It was drawn meanwhile. */
  cancel(drawn: Drawn): void {
    this.waiting.delete(drawn);
  }

  private schedule(): void {
    if (this.frame === 0) this.frame = this.window.requestAnimationFrame((now) => this.draw(now));
  }

  private draw(now: number): void {
    this.frame = 0;
    // The time between frames is what the one before took, if it has drawn anything.
    if (this.hasDrawn) this.measure(now - this.lastAt, now);
    this.lastAt = now;
    this.hasDrawn = this.waiting.size > 0;
    if (!this.hasDrawn) return;
    for (const drawn of this.turn()) {
      this.waiting.delete(drawn);
      drawn.draw(this.isSlow);
    }
    this.schedule();
  }

  private turn(): Drawn[] {
    if (!this.isSlow) return [...this.waiting];
    const share = Math.ceil(this.drawn.length / TURNS);
    const turn: Drawn[] = [];
    const first = this.next;
    for (let step = 0; step < this.drawn.length && turn.length < share; step += 1) {
      const at = (first + step) % this.drawn.length;
      const drawn = this.drawn[at] as Drawn;
      if (!this.waiting.has(drawn)) continue;
      turn.push(drawn);
      this.next = at + 1;
    }
    return turn;
  }

  private measure(milliseconds: number, now: number): void {
    if (milliseconds > LONGEST_FRAME_MS) return;
    this.frames += 1;
    this.mean += (milliseconds - this.mean) / Math.min(this.frames, FRAMES);
    if (this.frames < FRAMES) return;
    if (!this.isSlow && this.mean > SLOW_MS) {
      this.isSlow = true;
      this.slowUntil = now + SLOW_FOR_MS;
    } else if (this.isSlow && this.mean < FAST_MS && now > this.slowUntil) {
      this.isSlow = false;
      this.frames = 0;
    }
  }
}

const paces = new WeakMap<object, Pace>();

/** The pace of a window: one that was popped out has frames of its own. */
export function paceOf(window: Window): Pace {
  let pace = paces.get(window);
  if (!pace) paces.set(window, (pace = new Pace(window)));
  return pace;
}
