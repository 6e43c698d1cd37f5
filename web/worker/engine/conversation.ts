/** From messages to the token ids that a model reads. */
import { Template } from "@huggingface/jinja";
import { EngineError } from "../shared/errors.ts";
import type { ContextPolicy } from "../shared/protocol.ts";
import { ControlTokens } from "./control-tokens.ts";
import { Pauses } from "./pauses.ts";
import type { ChatMessage } from "./request.ts";
import { cuts, firstTurn } from "./turns.ts";
import type { TokenizerJson } from "./vocabulary.ts";

/** For checkpoints without a template: base models, which weren't trained for chat anyway. */
const PLAIN_TEMPLATE =
  "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '\\n' }}" +
  "{% endfor %}{{ 'assistant:' }}";

/** Two ways to go on after an answer, and after a question: what prompts have in common ends before these. */
const ASKED = [[{ role: "user", content: "Why?" }], [{ role: "user", content: "7 and 3" }]] as const;
const ANSWERED = [
  [],
  [{ role: "assistant", content: "Yes." }, { role: "user", content: "7 and 3" }],
] as const;

export interface TokenizerConfig {
  chat_template?: string | { name: string; template: string }[] | null;
  [name: string]: unknown;
}

/** How long prompts may be, in tokens, and what to do with longer ones. */
export interface ContextLimits {
  readonly window: number;
  readonly policy: ContextPolicy;
  /** Room that "truncate-oldest" makes for the answer. */
  readonly reserve: number;
}

export class Conversation {
  readonly #template: Template;
  readonly #names: Record<string, string>;
  readonly #control: ControlTokens;

  constructor(tokenizerJson: TokenizerJson, config: TokenizerConfig) {
    const source = templateOf(config) ?? PLAIN_TEMPLATE;
    this.#template = new Template(source);
    this.#names = specialNames(config);
    const written = [source, ...Object.values(this.#names)].join("\n");
    this.#control = new ControlTokens(tokenizerJson, config, written);
  }

  /** The text's tokens, without any that mark its begin or end; names of control tokens become these. */
  encode(text: string): number[] {
    return this.#control.encode(text);
  }

  /**
   * The prompt of an answer to `messages`; the template alone says which control tokens it has. An answer that has
   * `begun` goes on where it was, whatever the template makes of past answers.
   */
  tokens(messages: readonly ChatMessage[], signal: AbortSignal, begun = ""): Promise<number[]> {
    return this.#tokens(messages, new Pauses(signal), begun);
  }

  /** What all prompts begin with whose messages begin with these. Throws the signal's reason. */
  async prefix(messages: readonly ChatMessage[], signal: AbortSignal): Promise<number[]> {
    const pauses = new Pauses(signal);
    const answered = messages.at(-1)?.role === "user";
    const [some, others] = answered ? ANSWERED : ASKED;
    const left = await this.#tokens([...messages, ...some], pauses);
    const right = await this.#tokens([...messages, ...others], pauses);
    const differing = left.findIndex((token, index) => token !== right[index]);
    return differing < 0 ? left : left.slice(0, differing);
  }

  /**
   * The prompt, shortened by its oldest exchanges if the policy allows and it needs to be.
   *
   * Throws EngineError "context_length_exceeded" if no way leaves room for an answer, and the signal's
   * reason.
   */
  async fit(
    messages: readonly ChatMessage[],
    { window, policy, reserve }: ContextLimits,
    signal: AbortSignal,
    begun = "",
  ): Promise<number[]> {
    const pauses = new Pauses(signal);
    const whole = await this.#tokens(messages, pauses, begun);
    const room = window - Math.min(reserve, Math.floor(window / 2));
    let ids = whole;
    if (policy === "truncate-oldest" && whole.length > room) {
      const lengths = await this.#lengths([...messages.map(({ content }) => content), begun], pauses);
      const prompt = room - (lengths.pop() ?? 0);
      const first = firstTurn(messages);
      for (const cut of cuts(messages, lengths, { window, prompt })) {
        ids = await this.#tokens([...messages.slice(0, first), ...messages.slice(cut)], pauses, begun);
        if (ids.length <= room) break;
      }
    }
    if (ids.length < window) return ids;
    throw contextFull(whole.length, window);
  }

  async #tokens(messages: readonly ChatMessage[], pauses: Pauses, begun = ""): Promise<number[]> {
    await pauses.take();
    const answer: ChatMessage = { role: "assistant", content: begun };
    const { messages: contents, strings } = this.#control.setApart([...messages, answer]);
    const ids: number[] = [];
    const goingOn = contents.pop()?.content ?? "";
    for (const text of [this.#render(contents), ...(goingOn ? [goingOn] : [])]) {
      for await (const part of this.#parts(text, strings, pauses)) {
        for (const id of part) ids.push(id);
      }
    }
    return ids;
  }

  async *#parts(
    text: string,
    strings: ReadonlyMap<string, string>,
    pauses: Pauses,
  ): AsyncGenerator<number[]> {
    for (const part of this.#control.encodeParts(text, strings)) {
      yield part;
      await pauses.take();
    }
  }

  /** How many tokens each text has by itself. */
  async #lengths(texts: readonly string[], pauses: Pauses): Promise<number[]> {
    const lengths: number[] = [];
    for (const text of texts) {
      let length = 0;
      for await (const part of this.#parts(text, new Map(), pauses)) length += part.length;
      lengths.push(length);
    }
    return lengths;
  }

  #render(messages: readonly ChatMessage[]): string {
    try {
      return this.#template.render({
        messages: messages.map((message) => ({ ...message })),
        add_generation_prompt: true,
        ...this.#names,
      });
    } catch (error) {
      throw new EngineError(
        {
          code: "invalid_request",
          message: `The model's chat template refuses these messages: ${String(error)}`,
          remedy: "Let user and assistant take turns, and begin with the user.",
          param: "messages",
        },
        { cause: error },
      );
    }
  }
}

export function contextFull(tokens: number, window: number): EngineError {
  return new EngineError({
    code: "context_length_exceeded",
    message: `The conversation has ${tokens} tokens, but this model reads at most ${window - 1}.`,
    remedy: "Start a new conversation or shorten the message.",
    param: "messages",
  });
}

function templateOf({ chat_template: template }: TokenizerConfig): string | undefined {
  if (!Array.isArray(template)) return template ?? undefined;
  return (template.find(({ name }) => name === "default") ?? template[0])?.template;
}

/** bos_token and the like, which templates use. */
function specialNames(config: TokenizerConfig): Record<string, string> {
  const names: Record<string, string> = {};
  for (const [name, value] of Object.entries(config)) {
    if (!/^(bos|eos|pad|unk|sep|cls|mask)_token$/.test(name) || !value) continue;
    const { content } = value as { content?: unknown };
    const text = typeof value === "string" ? value : content;
    if (typeof text === "string") names[name] = text;
  }
  return names;
}
