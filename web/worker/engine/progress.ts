/** How far loading is, told a few times a second. */
import type { LoadProgress, LoadStage } from "../shared/protocol.ts";

const INTERVAL_MS = 100;
const SPEED_WINDOW_MS = 3000;

export class Progress {
  readonly #emit: (event: LoadProgress) => void;
  readonly #samples: { at: number; bytes: number }[] = [];
  #stage: LoadStage = "check";
  #loaded = 0;
  #total = 0;
  #steps: { done: number; total: number } | null = null;
  #toldAt = -Infinity;

  constructor(emit: (event: LoadProgress) => void) {
    this.#emit = emit;
  }

  /** Bytes that will be loaded from now on. */
  expect(bytes: number): void {
    this.#loaded = 0;
    this.#total = bytes;
  }

  enter(stage: LoadStage, steps: { done: number; total: number } | null = null): void {
    this.#stage = stage;
    this.#steps = steps;
    this.#tell();
  }

  /** `bytes` more have come; negative if they must come again. */
  loaded(bytes: number): void {
    this.#loaded += bytes;
    this.#tellSometimes();
  }

  /** `done` of the stage's steps are ready. */
  step(done: number, total: number): void {
    this.#steps = { done, total };
    if (done === total) this.#tell();
    else this.#tellSometimes();
  }

  #tellSometimes(): void {
    if (performance.now() - this.#toldAt >= INTERVAL_MS) this.#tell();
  }

  #tell(): void {
    const at = performance.now();
    this.#toldAt = at;
    this.#samples.push({ at, bytes: this.#loaded });
    while (at - (this.#samples[0]?.at ?? at) > SPEED_WINDOW_MS) this.#samples.shift();
    const first = this.#samples[0] ?? { at, bytes: 0 };
    const seconds = (at - first.at) / 1000;
    this.#emit({
      kind: "progress",
      stage: this.#stage,
      loadedBytes: this.#loaded,
      totalBytes: this.#total,
      bytesPerSecond: seconds > 0 ? Math.max(0, (this.#loaded - first.bytes) / seconds) : 0,
      ...this.#steps,
    });
  }
}
