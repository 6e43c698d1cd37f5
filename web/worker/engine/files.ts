/** The small files of a bundle, and what the engine takes from them. */
import { understood, unusable } from "./bundle-errors.ts";
import type { Bundle } from "./bundle.ts";
import { Conversation, type TokenizerConfig } from "./conversation.ts";
import { NEUTRAL, namedSampling, type Sampling } from "../shared/sampling-defaults.ts";
import type { Progress } from "./progress.ts";
import type { SamplingDefaults } from "./request.ts";
import { CHAT_CONFIG, checkTextFiles, GENERATION, TOKENIZER, TOKENIZER_CONFIG } from "./text-files.ts";
import { Vocabulary, type TokenizerJson } from "./vocabulary.ts";

const TEMPLATE_FILE = "chat_template.jinja";

export interface ChatConfig extends Sampling {
  model_config: Record<string, unknown>;
  vocab_size: number;
  active_vocab_size?: number;
  eos_token_id?: number | number[] | null;
  conv_template?: { stop_token_ids?: number[] };
}

interface GenerationConfig extends Sampling {
  do_sample?: boolean;
  eos_token_id?: number | number[] | null;
}

/** Everything of a model that isn't on the device. */
export interface ModelText {
  readonly conversation: Conversation;
  readonly vocabulary: Vocabulary;
  readonly stopTokens: ReadonlySet<number>;
  /** Fields of requests that the files name; `defaults` are for all. */
  readonly sampling: Sampling;
  readonly defaults: SamplingDefaults;
  /** What shapes the model. */
  readonly modelConfig: Readonly<Record<string, unknown>>;
  /** Length of the logits. */
  readonly vocabSize: number;
  /** How many of them stand for tokens. */
  readonly activeVocabSize: number;
}

/** Throws EngineError "bundle_invalid" for files that can't be used. */
export async function readText(
  bundle: Bundle,
  progress: Progress,
  signal: AbortSignal,
): Promise<ModelText> {
  const read = <T extends object>(path: string): Promise<T> => bundle.readJson<T>(path, progress, signal);
  const has = (path: string): boolean => bundle.lock.files.has(path);
  const [chat, tokenizer, config, generation] = await Promise.all([
    read<ChatConfig>(CHAT_CONFIG),
    read<TokenizerJson>(TOKENIZER),
    read<TokenizerConfig>(TOKENIZER_CONFIG),
    has(GENERATION) ? read<GenerationConfig>(GENERATION) : ({} as GenerationConfig),
  ]);
  if (has(TEMPLATE_FILE)) {
    const bytes = await bundle.read(TEMPLATE_FILE, progress, signal);
    config.chat_template = new TextDecoder().decode(bytes);
  }
  checkTextFiles({ chat, generation, tokenizer, config });
  const sampling = namedSampling(chat, generation);
  const vocabulary = understood(TOKENIZER, () => new Vocabulary(tokenizer));
  if (vocabulary.size > chat.vocab_size) {
    throw unusable(`${TOKENIZER} has token ids up to ${vocabulary.size - 1}, and vocab_size is ${chat.vocab_size}`);
  }
  return {
    conversation: understood(`${TOKENIZER} with ${TOKENIZER_CONFIG}`, () => new Conversation(tokenizer, config)),
    vocabulary,
    stopTokens: new Set([
      ...(chat.conv_template?.stop_token_ids ?? []),
      ...[chat.eos_token_id ?? [], generation.eos_token_id ?? []].flat(),
    ]),
    sampling,
    defaults: defaultsOf(sampling),
    modelConfig: chat.model_config,
    vocabSize: chat.vocab_size,
    activeVocabSize: chat.active_vocab_size ?? chat.vocab_size,
  };
}

function defaultsOf(sampling: Sampling): SamplingDefaults {
  const given = { ...NEUTRAL, ...sampling };
  return {
    temperature: given.temperature,
    topP: given.top_p,
    topK: given.top_k > 0 ? given.top_k : null,
    minP: given.min_p,
    presencePenalty: given.presence_penalty,
    frequencyPenalty: given.frequency_penalty,
    repetitionPenalty: given.repetition_penalty,
  };
}
