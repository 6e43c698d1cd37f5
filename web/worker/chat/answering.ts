/** One answer being written: waits for a model, streams, and ends in one of a few ways. */
import { isAbort, losesModel, problemOf } from "../ui/problems.ts";
import { toRequest, toStats } from "../ui/request.ts";
import type { Conversation, Message } from "../ui/types.ts";
import type { ChatEngine, LoadedModel } from "./engine.ts";
import type { Models } from "./models.ts";

export class Answering {
  readonly conversation: Conversation;
  /** All messages of the conversation, the answer last. */
  readonly messages: Message[];
  readonly answer: Message;
  /** Set when the conversation was deleted meanwhile: nothing is kept then. */
  discarded = false;
  /** True until the model is ready. */
  waiting = true;
  readonly #abort = new AbortController();

  constructor(conversation: Conversation, messages: Message[]) {
    this.conversation = conversation;
    this.messages = messages;
    this.answer = {
      conversationId: conversation.id,
      position: (messages.at(-1)?.position ?? -1) + 1,
      role: "assistant",
      content: "",
      createdAt: Date.now(),
      state: "open",
    };
    messages.push(this.answer);
  }

  stop(): void {
    this.#abort.abort(new DOMException("Stopped.", "AbortError"));
  }

  /** Runs to the answer's end; how it ended is in `answer.state`. Never throws. */
  async run(engine: ChatEngine, models: Models, onGrowth: () => void): Promise<void> {
    try {
      const { contextPolicy } = this.conversation.settings;
      const model = await models.ready(contextPolicy, this.#abort.signal);
      this.waiting = false;
      this.answer.model = model.id;
      onGrowth();
      await this.#stream(engine, model, onGrowth);
    } catch (error) {
      this.#end(error, models);
    }
  }

  async #stream(engine: ChatEngine, { sampling }: LoadedModel, onGrowth: () => void): Promise<void> {
    const request = toRequest(this.conversation.settings, this.messages, sampling);
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
