/** One device, one job at a time: jobs run in the order in which they came. */

type Job<T> = () => Promise<T>;

export class Scheduler {
  #last: Promise<unknown> = Promise.resolve();

  /** Runs `job` after all earlier ones. A job whose signal is aborted before its turn never starts. */
  run<T>(job: Job<T>, signal: AbortSignal): Promise<T> {
    const turn = this.#last.then(() => {
      signal.throwIfAborted();
      return job();
    });
    this.#last = turn.catch(() => undefined);
    return Promise.race([turn, whenAborted(signal, turn)]);
  }
}

/** Rejects on abort, so that a waiting caller needn't wait for its turn. */
function whenAborted(signal: AbortSignal, turn: Promise<unknown>): Promise<never> {
  return new Promise((_, reject) => {
    const abort = (): void => reject(signal.reason);
    signal.addEventListener("abort", abort, { once: true });
    void turn.catch(() => undefined).then(() => signal.removeEventListener("abort", abort));
  });
}
