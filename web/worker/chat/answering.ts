/** One answer being written: waits for a model, streams, and ends in one of a few ways. */
import { isAbort, losesModel, problemOf } from "../ui/problems.ts";
import { toRequest, toStats } from "../ui/request.ts";
import type { ChatEngine, LoadedModel } from "./engine.ts";
import type { Models } from "./models.ts";
import type { Thread } from "./thread.ts";
import type { StoredMessage } from "./tree.ts";

export class Answering {
  readonly thread: Thread;
  readonly answer: StoredMessage;
  /** True until the model is ready. */
  waiting = true;
  /** What is asked: the messages down to the answer's parent. */
  readonly #asked: readonly StoredMessage[];
  readonly #abort = new AbortController();

  /** Adds an answer to this message. */
  constructor(thread: Thread, question: StoredMessage) {
    this.thread = thread;
    this.#asked = thread.branchTo(question);
    this.answer = thread.add("assistant", question.id, { state: "open" });
    thread.live = this.answer;
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
    const request = toRequest(this.thread.conversation.settings, this.#asked, sampling);
    const { signal } = this.#abort;
    let finish: string | null = null;
    for await (const chunk of await engine.chat.completions.create(request, { signal })) {
      const choice = chunk.choices[0];
      if (choice?.delta.content) {
        this.answer.content += choice.delta.content;
        onGrowth();
      }
      finish = choice?.finish_reason ?? finish;
      if (chunk.usage) this.answer.stats = toStats(chunk.usage);
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
