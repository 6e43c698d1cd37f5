/** From messages to the token ids that a model reads. */
import { Template } from "@huggingface/jinja";
import { EngineError } from "../shared/errors.ts";
import type { ContextPolicy } from "../shared/protocol.ts";
import { ControlTokens } from "./control-tokens.ts";
import type { ChatMessage } from "./protocol.ts";
import type { TokenizerJson } from "./vocabulary.ts";

/** For checkpoints without a template: base models, which weren't trained for chat anyway. */
const PLAIN_TEMPLATE =
  "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '\\n' }}" +
  "{% endfor %}{{ 'assistant:' }}";

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

  /** The prompt of an answer to `messages`; the template alone says which control tokens it has. */
  tokens(messages: readonly ChatMessage[]): number[] {
    const { messages: contents, strings } = this.#control.setApart(messages);
    return this.#control.encode(this.#render(contents), strings);
  }

  /**
   * The prompt, shortened by its oldest turns if the policy allows and it needs to be.
   *
   * Throws EngineError "context_length_exceeded" if no way leaves room for an answer.
   */
  fit(messages: readonly ChatMessage[], { window, policy, reserve }: ContextLimits): number[] {
    const whole = this.tokens(messages);
    const wanted = policy === "error" ? 1 : Math.min(reserve, Math.floor(window / 2));
    let kept = messages;
    let ids = whole;
    while (ids.length + wanted > window) {
      const shorter = policy === "error" ? null : withoutOldest(kept);
      if (!shorter) break;
      kept = shorter;
      ids = this.tokens(kept);
    }
    if (ids.length < window) return ids;
    throw new EngineError({
      code: "context_length_exceeded",
      message: `The conversation has ${whole.length} tokens, but this model reads at most ${window - 1}.`,
      remedy: "Start a new conversation or shorten the message.",
      param: "messages",
    });
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

/** Drops the oldest question with what followed it; null if only the last one is left. */
function withoutOldest(messages: readonly ChatMessage[]): ChatMessage[] | null {
  const start = messages.findIndex(({ role }) => role !== "system");
  const rest = messages.slice(start + 1);
  const next = rest.findIndex(({ role }) => role === "user");
  if (start < 0 || next < 0) return null;
  return [...messages.slice(0, start), ...rest.slice(next)];
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
