/** What a stream has been given, so that an answer that is written anew goes on where it was. */
import { EngineError } from "../shared/errors.ts";
import type { ChatCompletionChunk, ContentLogprob } from "../shared/openai.ts";

type ChunkChoice = ChatCompletionChunk["choices"][number];
type Head = Pick<ChatCompletionChunk, "id" | "created">;

class Given {
  text = "";
  logprobs = 0;
  hasRole = false;
  finish: string | null = null;
}

/** How far the answer that is written now has come, in characters and in entries. */
interface Written {
  text: number;
  logprobs: number;
}

export class Delivery {
  /** By index, what was given. */
  readonly #given = new Map<number, Given>();
  /** By index. */
  #written = new Map<number, Written>();
  #head: Head | null = null;
  #hasUsage = false;

  /** The answer is written anew from its beginning. */
  restart(): void {
    this.#written = new Map();
  }

  /**
   * What of a chunk hasn't been given yet; null if all of it was. Throws EngineError "interrupted" where
   * the text isn't the one that was given.
   */
  take(chunk: ChatCompletionChunk): ChatCompletionChunk | null {
    this.#head ??= { id: chunk.id, created: chunk.created };
    const choices = chunk.choices.flatMap((choice) => this.#rest(choice) ?? []);
    if (choices.length === 0 && (chunk.choices.length > 0 || this.#hasUsage)) return null;
    if (chunk.choices.length === 0) this.#hasUsage = true;
    return { ...chunk, ...this.#head, choices };
  }

  #rest(choice: ChunkChoice): ChunkChoice | null {
    const given = this.#given.get(choice.index) ?? new Given();
    const from = this.#written.get(choice.index) ?? { text: 0, logprobs: 0 };
    const { content = "", role } = choice.delta;
    const entries = choice.logprobs?.content ?? [];
    const repeated = content.slice(0, Math.max(0, given.text.length - from.text));
    const isSame = repeated === "" || given.text.startsWith(repeated, from.text);
    const end = from.text + content.length;
    const endsEarly = choice.finish_reason !== null && end < given.text.length;
    if (!isSame || endsEarly) throw interrupted();
    this.#given.set(choice.index, given);
    this.#written.set(choice.index, { text: end, logprobs: from.logprobs + entries.length });
    const text = content.slice(repeated.length);
    const scored = entries.slice(Math.max(0, given.logprobs - from.logprobs));
    const isNew =
      text !== "" ||
      scored.length > 0 ||
      (role !== undefined && !given.hasRole) ||
      (choice.finish_reason !== null && given.finish === null);
    if (!isNew) return null;
    given.text += text;
    given.logprobs += scored.length;
    given.hasRole ||= role !== undefined;
    given.finish ??= choice.finish_reason;
    return {
      ...choice,
      delta: "content" in choice.delta ? { ...choice.delta, content: text } : choice.delta,
      logprobs: rest(choice.logprobs, scored),
    };
  }
}

function rest(logprobs: ChunkChoice["logprobs"], content: ContentLogprob[]): ChunkChoice["logprobs"] {
  return logprobs && content.length > 0 ? { ...logprobs, content } : null;
}

function interrupted(): EngineError {
  return new EngineError({
    code: "interrupted",
    message: "The tab that ran the engine was closed, and the answer came out differently when it was repeated.",
    remedy: "Ask again.",
  });
}
