/**
 * The Prompt API as far as this engine speaks it: text, and no tools. Types only.
 *
 * https://webmachinelearning.github.io/prompt-api/
 */

export type Availability = "unavailable" | "downloadable" | "downloading" | "available";
export type LanguageModelSamplingMode =
  | "most-predictable"
  | "predictable"
  | "balanced"
  | "creative"
  | "most-creative";
export type LanguageModelMessageRole = "system" | "user" | "assistant";
export type LanguageModelMessageType = "text" | "image" | "audio" | "tool-call" | "tool-response";

export interface LanguageModelMessageContent {
  type: LanguageModelMessageType;
  value: unknown;
}

export interface LanguageModelMessage {
  role: LanguageModelMessageRole;
  content: string | LanguageModelMessageContent[];
  /** Not supported: an answer can't be begun for the model. */
  prefix?: boolean;
}

export type LanguageModelPrompt = string | LanguageModelMessage[];

export interface LanguageModelExpected {
  type: LanguageModelMessageType;
  /** BCP 47; whether a model knows a language isn't judged. */
  languages?: string[];
}

export interface LanguageModelCreateCoreOptions {
  samplingMode?: LanguageModelSamplingMode;
  expectedInputs?: LanguageModelExpected[];
  expectedOutputs?: LanguageModelExpected[];
  /** Not supported, unless empty. */
  tools?: object[];
}

export interface LanguageModelCreateOptions extends LanguageModelCreateCoreOptions {
  /** Ends the creation, and later destroys the session. */
  signal?: AbortSignal;
  /** Is given what fires "downloadprogress". */
  monitor?: (monitor: EventTarget & { ondownloadprogress: ((event: ProgressEvent) => void) | null }) => void;
  initialPrompts?: LanguageModelMessage[];
}

export interface LanguageModelPromptOptions {
  /** Not supported. */
  responseConstraint?: object;
  omitResponseConstraintInput?: boolean;
  signal?: AbortSignal;
}

export interface LanguageModel extends EventTarget {
  prompt(input: LanguageModelPrompt, options?: LanguageModelPromptOptions): Promise<string>;
  promptStreaming(input: LanguageModelPrompt, options?: LanguageModelPromptOptions): ReadableStream<string>;
  append(input: LanguageModelPrompt, options?: { signal?: AbortSignal }): Promise<void>;
  /** In tokens; of a remote server guessed from the text's length. */
  measureContextUsage(input: LanguageModelPrompt, options?: LanguageModelPromptOptions): Promise<number>;
  readonly contextUsage: number;
  /** In tokens; infinite where a remote server doesn't tell. */
  readonly contextWindow: number;
  readonly samplingMode: LanguageModelSamplingMode;
  /** The oldest prompts and answers were dropped to make room. */
  oncontextoverflow: ((event: Event) => void) | null;
  clone(options?: { signal?: AbortSignal }): Promise<LanguageModel>;
  destroy(): void;
  /** @deprecated `measureContextUsage` */
  measureInputUsage(input: LanguageModelPrompt, options?: LanguageModelPromptOptions): Promise<number>;
  /** @deprecated `contextUsage` */
  readonly inputUsage: number;
  /** @deprecated `contextWindow` */
  readonly inputQuota: number;
  /** @deprecated `oncontextoverflow` */
  onquotaoverflow: ((event: Event) => void) | null;
}

export interface LanguageModelConstructor {
  readonly prototype: LanguageModel;
  availability(options?: LanguageModelCreateCoreOptions): Promise<Availability>;
  create(options?: LanguageModelCreateOptions): Promise<LanguageModel>;
}
