/** One sequence, one job at a time: clients take turns, and each client's jobs run as they came. */

type Job<T> = () => Promise<T>;

interface Waiting {
  readonly client: object;
  start(): Promise<unknown>;
}

export class Scheduler {
  readonly #waiting: Waiting[] = [];
  /** When each client last had a turn, counted in turns. */
  readonly #turns = new WeakMap<object, number>();
  #turn = 0;
  #running = false;

  /** Whether nothing runs or waits. */
  get idle(): boolean {
    return !this.#running && this.#waiting.length === 0;
  }

  /**
   * Runs `job` when it is this client's turn: that of the one whose last turn is the longest ago. An
   * abort before that rejects at once and the job never starts; once it runs, the job itself has to
   * heed the signal.
   */
  run<T>(client: object, job: Job<T>, signal: AbortSignal): Promise<T> {
    return new Promise((resolve, reject) => {
      if (signal.aborted) {
        reject(signal.reason);
        return;
      }
      const abort = (): void => {
        this.#waiting.splice(this.#waiting.indexOf(waiting), 1);
        reject(signal.reason);
      };
      const waiting: Waiting = {
        client,
        start: () => {
          signal.removeEventListener("abort", abort);
          const running = (async () => job())();
          running.then(resolve, reject);
          return running;
        },
      };
      signal.addEventListener("abort", abort);
      this.#waiting.push(waiting);
      this.#next();
    });
  }

  #next(): void {
    if (this.#running) return;
    const waiting = this.#longestWithoutTurn();
    if (!waiting) return;
    this.#waiting.splice(this.#waiting.indexOf(waiting), 1);
    this.#turns.set(waiting.client, (this.#turn += 1));
    this.#running = true;
    const done = (): void => {
      this.#running = false;
      this.#next();
    };
    waiting.start().then(done, done);
  }

  #longestWithoutTurn(): Waiting | undefined {
    const lastTurn = ({ client }: Waiting): number => this.#turns.get(client) ?? 0;
    const last = Math.min(...this.#waiting.map(lastTurn));
    return this.#waiting.find((waiting) => lastTurn(waiting) === last);
  }
}
