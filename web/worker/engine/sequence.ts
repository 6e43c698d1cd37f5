/** Feeds what the KV cache lacks of a text and returns the logits; keeps other texts for later. */
import { isAbort } from "../shared/errors.ts";
import type { Bytes } from "../shared/hash.ts";
import type { Drawn, DrawRequest } from "./drawing.ts";
import { KvCache, UNREAD } from "./kv-cache.ts";
import type { ModelRunner } from "./model-runner.ts";

/** A chunk of a prompt may take so long: between chunks the page paints and answers can be aborted. */
const CHUNK_MS = 100;
const FIRST_CHUNK = 32;
const SMALLEST_CHUNK = 8;
/** Steps that draw, given to the device before the host has read the first one's token. */
const STEPS_IN_FLIGHT = 2;

/** A prompt and what was drawn after it so far. */
export interface Text {
  readonly tokens: readonly number[];
  readonly promptLength: number;
  /** The same bits whatever was computed before. */
  readonly deterministic: boolean;
}

/** A text that goes on. */
export interface OpenText extends Text {
  /**
   * How a device draws the token that comes `ahead` of the next; null where that depends on those before it, or
   * none comes. Never null for 0.
   */
  drawing(ahead: number): DrawRequest | null;
}

export interface Step<T = Float32Array> {
  /** float32[vocabulary] after the last token, or what was drawn by them. */
  readonly logits: T;
  /** Tokens that the KV cache held already. */
  readonly cached: number;
}

/** Keys and values of a sequence. */
export interface ComputedState {
  /** So many of the first tokens were computed in whole chunks of the grid. */
  readonly onGrid: number;
  readonly layers: AsyncIterable<Bytes>;
}

type Forward<T> = (chunk: readonly number[], sequence: number) => Promise<T>;

/** Tokens that the device draws one from the other, at the end of the growing sequence. */
interface Flight {
  readonly text: OpenText;
  /** The next token's first. */
  readonly steps: Promise<Drawn>[];
  /** Tokens of the text that are in the KV cache; what comes after them may be none of it. */
  known: number;
}

export class Sequence {
  readonly #runner: ModelRunner;
  readonly #cache: KvCache;
  readonly #largestChunk: number;
  #chunk: number;
  /** What the device took for one of its last chunk. */
  #msPerToken = Infinity;
  /** Given to the device, which isn't done with them. */
  #tokensUnderWay = 0;
  #flight: Flight | null = null;

  constructor(runner: ModelRunner) {
    this.#runner = runner;
    this.#largestChunk = runner.metadata.prefill_chunk_size;
    this.#cache = new KvCache(runner.sequences, this.#largestChunk);
    this.#chunk = Math.min(FIRST_CHUNK, this.#largestChunk);
  }

  /** Brings the KV cache to hold the text, which may share a prefix with what it holds already. */
  logitsAfter(text: Text, signal: AbortSignal): Promise<Step> {
    return this.#explained(async () => {
      const forward: Forward<Float32Array> = (chunk, sequence) => this.#runner.forward(chunk, sequence);
      const { result, cached } = await this.#feed(text, signal, forward);
      return { logits: await this.#sound(result), cached };
    });
  }

  /**
   * The same where the device draws the next token, if the library can. It goes on from what it drew by itself: if
   * the text then has that token, the one after it is on its way.
   */
  drawAfter(text: OpenText, signal: AbortSignal): Promise<Step<Float32Array | Drawn>> {
    if (!this.#runner.draws) return this.logitsAfter(text, signal);
    return this.#explained(async () => {
      const { length } = text.tokens;
      let flight = this.#flightOf(text);
      let cached = length - 1;
      if (flight) signal.throwIfAborted();
      else {
        const fed = await this.#feed(text, signal, this.#drawing(text, 0) as Forward<Drawn>);
        cached = fed.cached;
        this.#flight = flight = { text, steps: [fed.result], known: length };
      }
      flight.known = length;
      this.#fill(flight);
      const drawn = await this.#sound(flight.steps.shift() as Promise<Drawn>);
      if (flight.steps.length > 0) this.#cache.learn(length, drawn.token.id);
      return { logits: drawn, cached };
    });
  }

  /** Forgets all texts. */
  clear(): void {
    this.#flight = null;
    this.#cache.clear();
  }

  /** Computes the tokens so that every text can take them over; gives what is on the device then. */
  async compute(tokens: readonly number[], signal: AbortSignal): Promise<ComputedState> {
    await this.logitsAfter({ tokens, promptLength: tokens.length, deterministic: true }, signal);
    return { onGrid: this.#cache.onGrid, layers: this.#runner.readState(this.#cache.sequence) };
  }

  /** Whether the tokens are computed, as many on the grid as that. */
  holds(tokens: readonly number[], onGrid: number): boolean {
    return this.#cache.holds(tokens, onGrid);
  }

  /** Takes over what `compute` gave for the tokens; nothing of it if `layers` throws. */
  adopt(tokens: readonly number[], { onGrid, layers }: ComputedState): Promise<void> {
    return this.#explained(async () => {
      if (this.#flight) await this.#land(this.#flight);
      this.#cache.adopt(tokens, onGrid);
      try {
        await this.#runner.writeState(this.#cache.sequence, layers);
      } catch (error) {
        this.#cache.drop();
        throw error;
      }
    });
  }

  /** A lost device shows wherever TVM is called next, in the bookkeeping of the KV cache, too. */
  async #explained<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw isAbort(error) ? error : await this.#runner.gpu.explain(error);
    }
  }

  /** Gives the device all that it lacks of the text, and what `last` makes of the last chunk once all is done. */
  async #feed<T>(text: Text, signal: AbortSignal, last: Forward<T>): Promise<{ result: Promise<T>; cached: number }> {
    if (this.#flight) await this.#land(this.#flight);
    const { tokens, deterministic } = text;
    const cached = this.#cache.begin(tokens, { onGrid: deterministic, owner: text });
    const append: Forward<void> = (some, sequence) => this.#runner.append(some, sequence);
    const running: Promise<void>[] = [];
    for (;;) {
      if (signal.aborted) await this.#sound(Promise.all(running));
      signal.throwIfAborted();
      const chunk = tokens.slice(this.#cache.length, this.#chunkEnd(text));
      if (this.#cache.length + chunk.length === tokens.length) {
        const all = Promise.all([this.#launch(chunk, last), ...running] as const);
        return { result: watched(all.then(([result]) => result)), cached };
      }
      running.push(this.#launch(chunk, append));
      // A device that is quick gets the next chunk before it is done; a slow one can be stopped after each.
      const ahead = chunk.length * this.#msPerToken <= CHUNK_MS ? 1 : 0;
      while (running.length > ahead) await this.#sound(running.shift() as Promise<void>);
    }
  }

  #launch<T>(chunk: readonly number[], forward: Forward<T>): Promise<T> {
    this.#cache.makeRoom(chunk.length);
    this.#tokensUnderWay += chunk.length;
    const tokens = this.#tokensUnderWay;
    const start = performance.now();
    const done = forward(chunk, this.#cache.sequence).finally(() => {
      this.#tokensUnderWay -= chunk.length;
      if (chunk.length > 1) this.#adapt((performance.now() - start) / tokens);
    });
    this.#cache.append(chunk);
    return watched(done);
  }

  #drawing(text: OpenText, ahead: number): Forward<Drawn> | null {
    const request = text.drawing(ahead);
    if (!request) return null;
    return (chunk, sequence) => this.#runner.draw(chunk[0] === UNREAD ? null : chunk, sequence, request);
  }

  /** Lets the device go on from what it drew. */
  #fill({ text, steps }: Flight): void {
    while (steps.length < STEPS_IN_FLIGHT) {
      const drawing = this.#drawing(text, steps.length);
      if (!drawing) return;
      steps.push(this.#launch([UNREAD], drawing));
    }
  }

  /** What is under way, if that begins with the text's next token. */
  #flightOf(text: OpenText): Flight | null {
    const flight = this.#flight;
    if (flight?.text !== text || flight.steps.length === 0) return null;
    const next = text.tokens.length - 1;
    return flight.known === next && this.#cache.at(next) === text.tokens[next] ? flight : null;
  }

  /** Waits for what is under way, and drops what it appends. */
  async #land({ steps, known }: Flight): Promise<void> {
    this.#flight = null;
    if (steps.length === 0) return;
    const ended = await Promise.allSettled(steps);
    if (ended.some(({ status }) => status === "rejected")) this.#cache.drop();
    else this.#cache.cutTo(known);
  }

  /** Waits for steps; what failed ones leave of the growing sequence is unknown. */
  async #sound<T>(steps: Promise<T>): Promise<T> {
    try {
      return await steps;
    } catch (error) {
      this.#flight = null;
      this.#cache.drop();
      throw error;
    }
  }

  #chunkEnd({ promptLength, deterministic }: Text): number {
    const { length: start, grid } = this.#cache;
    if (!deterministic) return start + this.#chunk;
    if (start >= promptLength) return start + 1;
    return Math.min(start - (start % grid) + grid, promptLength);
  }

  /** Sizes are powers of two, so that the device's allocator meets few of them. */
  #adapt(msPerToken: number): void {
    this.#msPerToken = msPerToken;
    const fitting = 2 ** Math.floor(Math.log2(CHUNK_MS / Math.max(msPerToken, 0.001)));
    const next = Math.min(fitting, 4 * this.#chunk, this.#largestChunk);
    this.#chunk = Math.max(next, Math.min(SMALLEST_CHUNK, this.#largestChunk));
  }
}

/** Somebody waits for it later, or for others that fail with it. */
function watched<T>(work: Promise<T>): Promise<T> {
  work.catch(() => undefined);
  return work;
}
