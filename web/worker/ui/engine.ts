/** The part of the engine's client that the chat uses. Types only. */
import type { FinishReason, Usage as WholeUsage } from "../shared/openai.ts";
import type {
  ContextPolicy,
  DeletedFiles,
  DeletedLeftovers,
  EngineEvent,
  FitReport as WholeFitReport,
  LoadedModel as WholeLoadedModel,
  StoredContents,
} from "../shared/protocol.ts";
import type { Sampling } from "../shared/sampling-defaults.ts";

/** `missingBytes` are those of the download that aren't stored yet. */
export type FitReport = Pick<WholeFitReport, "fits" | "downloadBytes" | "missingBytes" | "memoryBytes"> & {
  target: string | null;
  problems: { code: string; message: string; remedy: string }[];
};

export type LoadedModel = Pick<WholeLoadedModel, "id" | "target" | "contextWindowSize" | "adapter"> & {
  /** What its files name; null where that isn't known. */
  sampling: Sampling | null;
};

/** What the browser keeps of models. */
export interface EngineStorage {
  list(): Promise<StoredContents>;
  delete(bundleUrl: string): Promise<DeletedFiles>;
  deleteLeftovers(): Promise<DeletedLeftovers>;
  update(bundleUrl: string): Promise<unknown>;
  estimate(): Promise<{ usage: number; quota: number; persisted: boolean }>;
  requestPersistence(): Promise<boolean>;
}

export interface ChatRequest {
  messages: { role: "system" | "user" | "assistant"; content: string }[];
  stream: true;
  stream_options: { include_usage: true };
  temperature?: number;
  top_p?: number;
  min_p?: number;
  max_tokens?: number;
  seed?: number;
  /** The last message is the beginning of the answer. */
  continue_final_message?: true;
}

/** A daemon or another server may tell less than the engine. */
export type Usage = Pick<WholeUsage, "prompt_tokens" | "completion_tokens"> &
  Partial<Pick<WholeUsage, "prompt_tokens_details">> & { extra?: Partial<WholeUsage["extra"]> };

export interface AnswerChunk {
  choices: {
    delta: { content?: string | null; reasoning_content?: string | null };
    finish_reason: FinishReason | null;
  }[];
  usage?: Usage | null;
}

export interface ChatEngine {
  readonly storage: EngineStorage;
  onEvent(listener: (event: EngineEvent) => void): () => void;
  check(bundleUrl: string): Promise<FitReport>;
  load(
    bundleUrl: string,
    options: { signal?: AbortSignal; contextPolicy?: ContextPolicy; replace?: boolean },
    contextWindowSize?: number,
  ): Promise<LoadedModel>;
  /** Gives the device's memory back. */
  unload(): Promise<void>;
  chat: {
    completions: {
      create(
        request: ChatRequest,
        options: { signal: AbortSignal },
      ): Promise<AsyncIterable<AnswerChunk>>;
    };
  };
}
