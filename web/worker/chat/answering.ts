/** One answer being written: waits for a model, streams, and ends in one of a few ways. */
import type { ChatEngine, LoadedModel } from "../ui/engine.ts";
import { isAbort, losesModel, problemOf } from "../ui/problems.ts";
import { toRequest, toStats } from "../ui/request.ts";
import { AnswerWriter } from "../ui/thinking.ts";
import type { Message } from "../ui/types.ts";
import type { Models } from "./models.ts";
import type { Thread } from "./thread.ts";
import type { StoredMessage } from "./tree.ts";

/** Held by the tab that writes a message. */
export const writingLock = ({ id }: Pick<Message, "id">): string => `mlc-edge-chat writes ${id}`;

export class Answering {
  readonly thread: Thread;
  readonly answer: StoredMessage;
  /** True until the model is ready. */
  waiting = true;
  /** How many characters were there before. */
  readonly #from: number;
  /** Tokens that were written before. */
  readonly #tokensBefore: number;
  readonly #abort = new AbortController();

  private constructor(thread: Thread, answer: StoredMessage) {
    this.thread = thread;
    this.answer = answer;
    this.#from = answer.content.length;
    this.#tokensBefore = answer.stats?.answerTokens ?? 0;
    thread.live = answer;
  }

  /** Adds an answer to this message. */
  static of(thread: Thread, question: StoredMessage): Answering {
    return new Answering(thread, thread.add("assistant", question.id, { state: "open" }));
  }

  /** Goes on where an answer ended. */
  static on(thread: Thread, answer: StoredMessage): Answering {
    answer.state = "open";
    delete answer.problem;
    thread.touch(answer);
    thread.change({ updatedAt: Date.now() });
    return new Answering(thread, answer);
  }

  /** What was written by now. */
  get written(): string {
    return this.answer.content.slice(this.#from);
  }

  /** Whether it goes on where it had ended. */
  get isContinued(): boolean {
    return this.#from > 0;
  }

  /** Whether there is a word to be shown, or a thought. */
  get hasBegun(): boolean {
    return this.written !== "" || (!this.isContinued && this.answer.thinking !== undefined);
  }

  stop(): void {
    this.#abort.abort(new DOMException("Stopped.", "AbortError"));
  }

  /** Runs to the answer's end; how it ended is in `answer.state`. Never throws. */
  async run(engine: ChatEngine, models: Models, onGrowth: () => void): Promise<void> {
    try {
      const { contextPolicy } = this.thread.conversation.settings;
      const model = await models.ready(contextPolicy, this.#abort.signal);
      this.waiting = false;
      this.answer.model = model.id;
      onGrowth();
      await this.#stream(engine, model, onGrowth);
    } catch (error) {
      this.#end(error, models);
    } finally {
      this.thread.live = null;
      this.thread.touch(this.answer);
    }
  }

  async #stream(engine: ChatEngine, { sampling }: LoadedModel, onGrowth: () => void): Promise<void> {
    const asked = this.thread.branchTo(this.answer);
    const request = toRequest(this.thread.conversation.settings, asked, sampling);
    const { signal } = this.#abort;
    const writer = new AnswerWriter(this.answer);
    let finish: string | null = null;
    try {
      for await (const chunk of await engine.chat.completions.create(request, { signal })) {
        const choice = chunk.choices[0];
        if (choice?.delta.content || choice?.delta.reasoning_content) {
          writer.add(choice.delta);
          onGrowth();
        }
        finish = choice?.finish_reason ?? finish;
        if (!chunk.usage) continue;
        const stats = toStats(chunk.usage);
        this.answer.stats = { ...stats, answerTokens: this.#tokensBefore + stats.answerTokens };
      }
    } finally {
      writer.end();
    }
    this.answer.state = finish === "length" || finish === "abort" ? finish : "stop";
  }

  #end(error: unknown, models: Models): void {
    if (isAbort(error) || this.#abort.signal.aborted) {
      this.answer.state = "abort";
      return;
    }
    const problem = problemOf(error);
    this.answer.state = "error";
    this.answer.problem = problem;
    if (losesModel(problem.code)) models.forget();
  }
}
