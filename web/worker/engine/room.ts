/** The room that models have on the device together: who makes it for whom, and who waits for it. */
import { unlessAborted } from "../shared/aborts.ts";
import { TOLD_MEMORY_GIB } from "./fit.ts";
import type { Client, Resident } from "./resident.ts";

/** Which models are there, for whom, and how one of them goes. */
export interface Occupants {
  readonly clients: Iterable<Client>;
  readonly residents: Iterable<Resident>;
  evict(resident: Resident): void;
}

export class Room {
  readonly #occupants: Occupants;
  /** Those who wait for a model to become idle or to go, or for a load to get its room. */
  #waiting: (() => void)[] = [];
  /** Loads that wait for room, and the bytes that each needs. */
  readonly #seekers = new Map<Resident, number>();

  constructor(occupants: Occupants) {
    this.#occupants = occupants;
  }

  /** Whether a load waits that gets its room once the loaded models are idle. */
  get isSought(): boolean {
    const lasting = [...this.#occupants.residents].filter(({ session }) => session === null);
    return [...this.#seekers.values()].some((bytes) => !this.#isTight(bytes, lasting));
  }

  /**
   * Gives a model that is about to load its room, once that can be had. Idle models make it only if it
   * is enough then. Throws the signal's reason.
   */
  async make(resident: Resident, bytes: number, signal: AbortSignal): Promise<void> {
    signal.throwIfAborted();
    resident.bytes = 0;
    this.#seekers.set(resident, bytes);
    try {
      while (this.#isTight(bytes, this.#occupants.residents)) {
        const idle = this.#idle(resident);
        const others = [...this.#occupants.residents].filter((other) => !idle.includes(other));
        if (idle[0] && !this.#isTight(bytes, others)) this.#occupants.evict(idle[0]);
        else await this.change(signal);
      }
      signal.throwIfAborted();
      resident.bytes = bytes;
    } finally {
      this.#seekers.delete(resident);
      this.changed();
    }
  }

  /** Makes room for what a model takes beyond what was reckoned. */
  trim(resident: Resident): void {
    while (this.#isTight(0, this.#occupants.residents)) {
      if (!this.free(resident)) return;
    }
  }

  /** Evicts the model that was idle the longest; whether there was one. */
  free(except: Resident): boolean {
    const [idle] = this.#idle(except);
    if (idle) this.#occupants.evict(idle);
    return idle !== undefined;
  }

  /** Until `changed` is called. Throws the signal's reason. */
  change(signal: AbortSignal): Promise<void> {
    return unlessAborted(new Promise<void>((resolve) => this.#waiting.push(resolve)), signal);
  }

  /** To be called when a model has become idle, has gone, or has loaded. */
  changed(): void {
    for (const wake of this.#waiting.splice(0)) wake();
  }

  /** Whether there is less room than for so many bytes beside these; one model alone may take what it needs. */
  #isTight(bytes: number, residents: Iterable<Resident>): boolean {
    const taken = [...residents].map((resident) => resident.bytes).filter((taken) => taken > 0);
    if (taken.length + (bytes > 0 ? 1 : 0) < 2) return false;
    return taken.reduce((sum, taken) => sum + taken, bytes) > this.#budget();
  }

  /** Bytes that all models may take together, if it is more than one. */
  #budget(): number {
    const stated = [...this.#occupants.clients].flatMap(({ memoryBudget }) => memoryBudget ?? []);
    const { deviceMemory = TOLD_MEMORY_GIB } = navigator as { deviceMemory?: number };
    return stated.length > 0 ? Math.min(...stated) : deviceMemory * 2 ** 30;
  }

  /** Models that may go, the longest unused first. */
  #idle(except: Resident): Resident[] {
    return [...this.#occupants.residents]
      .filter((other) => other !== except && other.session !== null && other.uses === 0)
      .sort((a, b) => a.lastUse - b.lastUse);
  }
}
