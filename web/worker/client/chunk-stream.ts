/** Chunks of an answer as an async iterator. */
import type { ChatCompletionChunk } from "../shared/openai.ts";

type End = { error: unknown } | "done";

/** Iterate it once. Leaving the loop early aborts the answer. */
export class ChunkStream implements AsyncIterableIterator<ChatCompletionChunk> {
  readonly #chunks: ChatCompletionChunk[] = [];
  readonly #abort: () => void;
  #end: End | null = null;
  #wake: () => void = () => {};

  /** `abort` is called if nobody wants the rest. */
  constructor(abort: () => void) {
    this.#abort = abort;
  }

  push(chunk: ChatCompletionChunk): void {
    this.#chunks.push(chunk);
    this.#wake();
  }

  end(): void {
    this.#end ??= "done";
    this.#wake();
  }

  fail(error: unknown): void {
    this.#end ??= { error };
    this.#wake();
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async next(): Promise<IteratorResult<ChatCompletionChunk>> {
    for (;;) {
      const value = this.#chunks.shift();
      if (value) return { value, done: false };
      if (this.#end === "done") return { value: undefined, done: true };
      if (this.#end) {
        const { error } = this.#end;
        this.#end = "done";
        throw error;
      }
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
  }

  async return(): Promise<IteratorResult<ChatCompletionChunk>> {
    if (!this.#end) this.#abort();
    this.#end = "done";
    this.#chunks.length = 0;
    return { value: undefined, done: true };
  }
}
