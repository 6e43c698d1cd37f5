/** Lets messages in, such as an abort, while a long computation goes on. */

const MAX_BUSY_MS = 50;

export class Pauses {
  readonly #signal: AbortSignal;
  #since = performance.now();

  constructor(signal: AbortSignal) {
    this.#signal = signal;
  }

  /** To be awaited between steps; throws the signal's reason if it is aborted. */
  async take(): Promise<void> {
    if (performance.now() - this.#since > MAX_BUSY_MS) {
      await new Promise((resolve) => setTimeout(resolve));
      this.#since = performance.now();
    }
    this.#signal.throwIfAborted();
  }
}
