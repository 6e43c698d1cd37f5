/** The widget's conversation: what sending, stopping and redoing do. */
import type { AnswerChunk, ChatRequest } from "../ui/engine.ts";
import { newId } from "../ui/ids.ts";
import { isAbort, losesModel, problemOf } from "../ui/problems.ts";
import { toTurns } from "../ui/request.ts";
import { AnswerWriter } from "../ui/thinking.ts";
import type { Transcript } from "../ui/transcript.ts";
import type { Message, Problem, ToolUse } from "../ui/types.ts";
import type { Backend } from "./backends.ts";
import { toCall, toWidgetMessages } from "./messages.ts";
import { joinTools, type ToolDelta } from "./tools.ts";
import type { Dispatch, WidgetOptions } from "./types.ts";

export interface ConversationParts {
  transcript: Transcript;
  options(): WidgetOptions;
  dispatch: Dispatch;
  /** The backend that is ready; waits for one while people must decide. */
  ready(signal: AbortSignal): Promise<Backend>;
  /** Shown in the place of an answer that has no text yet. */
  thinking: string;
  /** Makes an error one that people can read. */
  explain(problem: Problem): Problem;
  /** Called when the messages or the state of the answer changed. */
  onChange(): void;
  /** Called when the answer has grown. */
  onGrow(): void;
  onEnd(answer: Message): void;
}

type Chunk = AnswerChunk & { choices: { delta: { tool_calls?: ToolDelta[] | null } }[] };

export class Conversation {
  readonly #parts: ConversationParts;
  #messages: Message[] = [];
  #abort: AbortController | null = null;
  /** What the answer that is written takes the place of, until its first word. */
  #former: Message[] = [];
  #isEnded = false;

  constructor(parts: ConversationParts) {
    this.#parts = parts;
  }

  get messages(): readonly Message[] {
    return this.#messages;
  }

  /** What outlives this page: before the first word of an answer that is written anew, the former one. */
  get lasting(): readonly Message[] {
    return this.#former.length > 0 && isWordless(this.#messages.at(-1))
      ? [...this.#messages.slice(0, -1), ...this.#former]
      : this.#messages;
  }

  get isAnswering(): boolean {
    return this.#abort !== null;
  }

  /** Takes over what became of this conversation elsewhere, while no answer is written. */
  adopt(messages: readonly Message[]): void {
    const stays = this.#messages.filter(({ id }) => messages.some((message) => message.id === id));
    const isLonger = stays.every(({ id }, index) => messages[index]?.id === id);
    this.#messages = [...messages];
    if (isLonger) this.#parts.transcript.update(this.#messages, null);
    else this.#parts.transcript.show(this.#messages, null);
  }

  /** Takes another conversation in the place of this one. */
  replace(messages: readonly Message[]): void {
    this.stop();
    this.#abort = null;
    this.#former = [];
    this.#messages = [...messages];
    this.#parts.transcript.show(this.#messages, null);
    this.#parts.onChange();
  }

  /** Nothing more is asked for, whoever still holds a tool's `respond`; what is left of it. */
  end(): Message[] {
    const open = this.isAnswering ? this.#messages.at(-1) : null;
    this.#isEnded = true;
    this.stop();
    return this.lasting.map((message) => (message === open ? { ...message, state: "abort" } : message));
  }

  /** The answer to a message that takes the place of those from `at` on; null if nothing was sent: while another one is written, or if somebody prevented it. */
  send(text: string, at = this.#messages.length): Promise<Message> | null {
    if (this.#isBusy || !this.#parts.dispatch("message", { role: "user", content: text }, true)) return null;
    this.#messages.splice(at, Infinity, { id: newId(), role: "user", content: text, createdAt: Date.now() });
    return this.#answer();
  }

  stop(): void {
    this.#abort?.abort(new DOMException("Stopped.", "AbortError"));
  }

  /** Writes the last answer anew. */
  regenerate(): Promise<Message> | null {
    const lastUser = this.#messages.findLastIndex(({ role }) => role === "user");
    if (lastUser < 0 || this.#isBusy) return null;
    this.#former = this.#messages.splice(lastUser + 1);
    return this.#answer();
  }

  /** Replaces a message of the user and all that followed it. */
  edit(message: Message, text: string): void {
    const at = this.#messages.findIndex(({ id }) => id === message.id);
    if (at >= 0) void this.send(text, at);
  }

  get #isBusy(): boolean {
    return this.#isEnded || this.#abort !== null;
  }

  async #answer(): Promise<Message> {
    const { transcript, onChange, onEnd } = this.#parts;
    const answer: Message = { id: newId(), role: "assistant", content: "", createdAt: Date.now(), state: "open" };
    const request = this.#request();
    const abort = new AbortController();
    this.#messages.push(answer);
    this.#abort = abort;
    transcript.update(this.#messages, answer.id);
    transcript.toEnd();
    onChange();
    await this.#run(answer, request, abort.signal);
    // Another conversation may have taken this one's place.
    if (this.#abort !== abort) return answer;
    if (isWordless(answer)) this.#putBack(answer);
    this.#abort = null;
    this.#former = [];
    transcript.update(this.#messages, null);
    onEnd(answer);
    this.#tell(answer);
    onChange();
    return answer;
  }

  /** The former answer in the place of one that didn't come, with what went wrong with that. */
  #putBack({ problem }: Message): void {
    const last = this.#former.at(-1);
    if (!last) return;
    if (problem) this.#former.splice(-1, 1, { ...last, state: "error", problem });
    this.#messages.splice(-1, 1, ...this.#former);
  }

  /** Runs to the answer's end; how it ended is in `answer.state`. Never throws. */
  async #run(answer: Message, request: ChatRequest, signal: AbortSignal): Promise<void> {
    const { ready, transcript, thinking, explain } = this.#parts;
    let backend: Backend | null = null;
    try {
      backend = await ready(signal);
      transcript.wait(answer, thinking);
      await this.#stream(answer, await backend.create(request, signal), signal);
    } catch (error) {
      if (isAbort(error) || signal.aborted) {
        answer.state = "abort";
        return;
      }
      const problem = problemOf(error);
      this.#parts.dispatch("error", problem);
      answer.state = "error";
      answer.problem = explain(problem);
      if (losesModel(problem.code)) backend?.forget();
    }
  }

  async #stream(answer: Message, chunks: AsyncIterable<AnswerChunk>, signal: AbortSignal): Promise<void> {
    const tools: ToolUse[] = [];
    const writer = new AnswerWriter(answer);
    const tell = (content: string) => {
      this.#parts.transcript.grow(answer);
      if (content === "") return;
      this.#parts.dispatch("delta", { content });
      this.#parts.onGrow();
    };
    let finish: string | null = null;
    for await (const chunk of chunks as AsyncIterable<Chunk>) {
      signal.throwIfAborted();
      const choice = chunk.choices[0];
      const { content, reasoning_content: reasoning } = choice?.delta ?? {};
      if (choice && (content || reasoning)) tell(writer.add(choice.delta));
      joinTools(tools, choice?.delta.tool_calls ?? []);
      finish = choice?.finish_reason ?? finish;
    }
    tell(writer.end());
    answer.state = finish === "length" || finish === "abort" ? finish : "stop";
    if (tools.length === 0) return;
    answer.tools = tools;
    answer.state = "tools";
  }

  #request(): ChatRequest {
    const { systemPrompt, tools, responseFormat } = this.#parts.options();
    const turns = toTurns(this.#messages);
    if (systemPrompt) turns.unshift({ role: "system", content: systemPrompt });
    return {
      messages: turns,
      stream: true,
      stream_options: { include_usage: true },
      ...(tools?.length && { tools }),
      ...(responseFormat && { response_format: responseFormat }),
    };
  }

  #tell(answer: Message): void {
    const { dispatch } = this.#parts;
    const [told] = toWidgetMessages([answer]);
    if (told && answer.state !== "error") dispatch("message", told);
    if (answer.state === "tools") this.#callTools(answer);
  }

  #callTools(answer: Message): void {
    const tools = answer.tools ?? [];
    const respond = (id: string, content: string): void => {
      const tool = tools.find((tool) => tool.id === id);
      if (!tool) throw new RangeError(`The answer called no tool with the id ${id}.`);
      tool.result = content;
      const isLast = this.#messages.at(-1) === answer && !this.#isBusy;
      if (isLast && tools.every(({ result }) => result !== undefined)) void this.#answer();
    };
    this.#parts.dispatch("toolcall", { calls: tools.map(toCall), respond });
  }
}

function isWordless(message: Message | undefined): boolean {
  return message?.role === "assistant" && message.content === "" && !message.tools;
}
