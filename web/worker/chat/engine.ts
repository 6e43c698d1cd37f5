/** The part of the engine's client that the chat uses. Types only. */
import type {
  BackendEvent,
  DeletedFiles,
  DeletedLeftovers,
  ModelEvent,
  StorageEvent,
  StoredContents,
} from "../shared/protocol.ts";
import type { Sampling } from "../shared/sampling-defaults.ts";

export interface FitReport {
  fits: boolean;
  target: string | null;
  problems: { code: string; message: string; remedy: string }[];
  downloadBytes: number;
  /** Of them, those that aren't stored yet. */
  missingBytes: number;
  memoryBytes: number;
}

export interface LoadedModel {
  id: string;
  target: string;
  contextWindowSize: number;
  /** What its files name; null where that isn't known. */
  sampling: Sampling | null;
  adapter: { vendor: string; architecture: string; description: string; isSoftware: boolean };
}

export interface LoadProgress {
  kind: "progress";
  stage: "check" | "download" | "library" | "upload" | "pipelines" | "self-test" | "ready";
  loadedBytes: number;
  totalBytes: number;
  bytesPerSecond: number;
  done?: number;
  total?: number;
}

export type EngineEvent =
  | LoadProgress
  | { kind: "device"; state: "lost" | "recovering" | "recovered"; reason: string }
  | StorageEvent
  | ModelEvent
  | BackendEvent;

export type { DeletedFiles, StorageEvent, StoredBundle, StoredContents } from "../shared/protocol.ts";

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
}

export interface Usage {
  prompt_tokens: number;
  completion_tokens: number;
  prompt_tokens_details?: { cached_tokens?: number };
  extra?: {
    prefill_tokens_per_s?: number | null;
    decode_tokens_per_s?: number | null;
    time_to_first_token_s?: number | null;
    cached_tokens?: number;
    e2e_latency_s?: number | null;
  };
}

export interface AnswerChunk {
  choices: { delta: { content?: string | null }; finish_reason: string | null }[];
  usage?: Usage | null;
}

export interface ChatEngine {
  readonly storage: EngineStorage;
  onEvent(listener: (event: EngineEvent) => void): () => void;
  check(bundleUrl: string): Promise<FitReport>;
  load(
    bundleUrl: string,
    options: { signal?: AbortSignal; contextPolicy?: "error" | "truncate-oldest"; replace?: boolean },
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
