/** One conversation by the Prompt API: its messages, in turns that wait for each other. */
import { unlessAborted } from "../shared/aborts.ts";
import type { ChatMessage } from "../shared/openai.ts";
import { promptError, quotaExceeded } from "./errors.ts";
import type { EngineHost } from "./host.ts";
import { checkPromptOptions, joined, readPrompt, SAMPLING } from "./messages.ts";
import type {
  LanguageModel,
  LanguageModelPrompt,
  LanguageModelPromptOptions,
  LanguageModelSamplingMode,
} from "./types.ts";

/** Room for an answer, in tokens, that a long conversation makes: a quarter of the window at most. */
const RESERVE = 256;

export interface SessionState {
  readonly host: EngineHost;
  readonly samplingMode: LanguageModelSamplingMode;
  readonly initial: readonly ChatMessage[];
  /** What each prompt added, with its answer; the oldest go when there is no room. */
  exchanges: ChatMessage[][];
  /** In tokens. */
  usage: number;
}

type Handler = ((event: Event) => void) | null;
type OnText = (text: string) => void;

export class Session extends EventTarget implements LanguageModel {
  readonly #state: SessionState;
  readonly #destruction = new AbortController();
  #last: Promise<unknown> = Promise.resolve();
  oncontextoverflow: Handler = null;
  onquotaoverflow: Handler = null;

  constructor(state: SessionState) {
    super();
    this.#state = state;
    this.addEventListener("contextoverflow", (event) => this.oncontextoverflow?.call(this, event));
    this.addEventListener("quotaoverflow", (event) => this.onquotaoverflow?.call(this, event));
  }

  get contextUsage(): number {
    return this.#state.usage;
  }

  get contextWindow(): number {
    return this.#state.host.contextWindow;
  }

  get samplingMode(): LanguageModelSamplingMode {
    return this.#state.samplingMode;
  }

  get inputUsage(): number {
    return this.contextUsage;
  }

  get inputQuota(): number {
    return this.contextWindow;
  }

  async prompt(input: LanguageModelPrompt, options: LanguageModelPromptOptions = {}): Promise<string> {
    let text = "";
    await this.#prompt(input, options, (part) => {
      text += part;
    });
    return text;
  }

  promptStreaming(
    input: LanguageModelPrompt,
    options: LanguageModelPromptOptions = {},
  ): ReadableStream<string> {
    const left = new AbortController();
    const signal = options.signal ? AbortSignal.any([options.signal, left.signal]) : left.signal;
    return new ReadableStream({
      start: (controller) => {
        const onText: OnText = (text) => controller.enqueue(text);
        this.#prompt(input, { ...options, signal }, onText).then(
          () => controller.close(),
          (error: unknown) => controller.error(error),
        );
      },
      cancel: () => left.abort(),
    });
  }

  async append(input: LanguageModelPrompt, options: { signal?: AbortSignal } = {}): Promise<void> {
    await this.#turn(options.signal, async (signal) => {
      const messages = readPrompt(input, this.#isEmpty);
      const usage = await this.#makeRoom(messages, 0, signal);
      signal.throwIfAborted();
      this.#state.usage = usage;
      this.#state.exchanges.push(messages);
    });
  }

  async measureContextUsage(
    input: LanguageModelPrompt,
    options: LanguageModelPromptOptions = {},
  ): Promise<number> {
    checkPromptOptions(options);
    const { host, exchanges, initial, usage } = this.#state;
    const messages = readPrompt(input, true);
    const before = messages[0]?.role === "system" ? [] : [...initial, ...exchanges.flat()];
    return this.#unlessEnded(options.signal, async (signal) => {
      const all = await host.count(joined([...before, ...messages]), signal);
      return Math.max(1, before.length > 0 ? all - usage : all);
    });
  }

  measureInputUsage(input: LanguageModelPrompt, options?: LanguageModelPromptOptions): Promise<number> {
    return this.measureContextUsage(input, options);
  }

  async clone(options: { signal?: AbortSignal } = {}): Promise<LanguageModel> {
    return this.#unlessEnded(options.signal, async () => this.copy());
  }

  destroy(): void {
    this.end(new DOMException("The session was destroyed.", "AbortError"));
  }

  /** Destroys it for this reason. */
  protected end(reason: unknown): void {
    if (this.#destruction.signal.aborted) return;
    this.#destruction.abort(reason);
    this.#state.host.release();
  }

  protected copy(): Session {
    const { host, exchanges, ...state } = this.#state;
    host.share();
    return this.made({ ...state, host, exchanges: [...exchanges] });
  }

  protected made(state: SessionState): Session {
    return new Session(state);
  }

  get #isEmpty(): boolean {
    return this.#state.initial.length === 0 && this.#state.exchanges.length === 0;
  }

  /** What is aborted leaves the session as it was, but for what had to make room. */
  async #prompt(
    input: LanguageModelPrompt,
    options: LanguageModelPromptOptions,
    onText: OnText,
  ): Promise<void> {
    checkPromptOptions(options);
    await this.#turn(options.signal, async (signal) => {
      const messages = readPrompt(input, this.#isEmpty);
      await this.#makeRoom(messages, RESERVE, signal);
      const { initial, exchanges } = this.#state;
      const { text, usage } = await this.#answer([...initial, ...exchanges.flat(), ...messages], onText, signal);
      signal.throwIfAborted();
      exchanges.push([...messages, { role: "assistant", content: text }]);
      this.#state.usage = usage;
    });
  }

  async #answer(
    messages: ChatMessage[],
    onText: OnText,
    signal: AbortSignal,
  ): Promise<{ text: string; usage: number }> {
    const { host, samplingMode } = this.#state;
    const request = {
      messages: joined(messages),
      ...(host.model && { model: host.model }),
      ...SAMPLING[samplingMode],
      stream: true as const,
      stream_options: { include_usage: true },
    };
    const stream = await host.engine.chat.completions.create(request, { signal });
    let text = "";
    let usage: number | null = null;
    for await (const chunk of stream) {
      const part = chunk.choices[0]?.delta?.content;
      if (part) onText(part);
      text += part ?? "";
      usage = chunk.usage?.total_tokens ?? usage;
    }
    const answered = joined([...messages, { role: "assistant", content: text }]);
    return { text, usage: usage ?? (await host.count(answered, signal)) };
  }

  /**
   * Drops the oldest exchanges until these messages fit; tokens that all have then.
   *
   * Throws QuotaExceededError, and drops nothing, if they never do.
   */
  async #makeRoom(messages: readonly ChatMessage[], reserve: number, signal: AbortSignal): Promise<number> {
    const { host, initial, exchanges } = this.#state;
    const window = host.contextWindow;
    const room = window - Math.min(reserve, Math.floor(window / 4));
    const count = (dropped: number): Promise<number> =>
      host.count(joined([...initial, ...exchanges.slice(dropped).flat(), ...messages]), signal);
    const whole = await count(0);
    let tokens = whole;
    let dropped = 0;
    while (tokens > room && dropped < exchanges.length) tokens = await count(++dropped);
    if (tokens >= window) throw quotaExceeded(whole, window);
    if (dropped === 0) return tokens;
    this.#state.exchanges = exchanges.slice(dropped);
    this.dispatchEvent(new Event("contextoverflow"));
    this.dispatchEvent(new Event("quotaoverflow"));
    return tokens;
  }

  /** Runs `work` after all earlier turns; an abort before its turn takes it out of the queue. */
  #turn<T>(signal: AbortSignal | undefined, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const earlier = this.#last;
    const turn = this.#unlessEnded(signal, async (either) => {
      await earlier;
      either.throwIfAborted();
      return work(either);
    });
    this.#last = Promise.all([earlier, turn.catch(() => undefined)]);
    return turn;
  }

  /** Throws the signal's reason, or that of the session's end, as soon as there is one. */
  async #unlessEnded<T>(
    signal: AbortSignal | undefined,
    work: (signal: AbortSignal) => Promise<T>,
  ): Promise<T> {
    const either = AbortSignal.any([this.#destruction.signal, ...(signal ? [signal] : [])]);
    either.throwIfAborted();
    try {
      return await unlessAborted(work(either), either);
    } catch (error) {
      either.throwIfAborted();
      throw promptError(error);
    }
  }
}
