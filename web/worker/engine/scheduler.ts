/** One device, one job at a time: jobs run in the order in which they came. */

type Job<T> = () => Promise<T>;

export class Scheduler {
  #last: Promise<unknown> = Promise.resolve();

  /**
   * Runs `job` after all earlier ones. An abort before its turn rejects at once and the job never
   * starts; once it runs, the job itself has to heed the signal.
   */
  run<T>(job: Job<T>, signal: AbortSignal): Promise<T> {
    return new Promise((resolve, reject) => {
      const abort = (): void => reject(signal.reason);
      signal.addEventListener("abort", abort);
      const turn = this.#last.then(() => {
        signal.removeEventListener("abort", abort);
        signal.throwIfAborted();
        return job();
      });
      this.#last = turn.catch(() => undefined);
      turn.then(resolve, reject);
    });
  }
}
