/** Messages between pages and the engine's worker. Types only. */
import type { ChatCompletion, ChatCompletionChunk, ChatCompletionParams, ChatMessage } from "./openai.ts";
import type { Sampling } from "./sampling-defaults.ts";

export type ErrorCode =
  | "webgpu_unavailable"
  | "adapter_unsuitable"
  | "out_of_memory"
  | "quota_exceeded"
  | "device_lost"
  | "self_test_failed"
  | "bundle_invalid"
  | "integrity_error"
  | "network_error"
  | "context_length_exceeded"
  | "invalid_request"
  | "model_not_loaded"
  | "queue_full"
  | "interrupted"
  | "abi_mismatch"
  /** A remote server's: the key is wrong; too many requests; any other error that it tells. */
  | "unauthorized"
  | "rate_limited"
  | "remote_error"
  /** Messages may not be sent to a remote server. */
  | "consent_declined"
  | "internal";

/** Where a model runs on this device. */
export type LocalBackend = "webgpu-f16" | "webgpu-f32" | "wasm";
export type BackendKind = LocalBackend | "remote";

/** A backend that isn't used, and why. */
export interface LeftBackend {
  kind: BackendKind;
  /** Null where the bundle has no target for it. */
  target: string | null;
  code: ErrorCode;
  reason: string;
}

/** Where a model runs, and why there. */
export interface Backend {
  kind: BackendKind;
  /** Of the bundle; null for a remote server. */
  target: string | null;
  /** Null where no GPU computes. */
  adapter: AdapterDescription | null;
  /** Where messages are sent to; null where nothing leaves the device. */
  origin: string | null;
  reason: string;
  /** Those that came before it, in the order in which they were tried. */
  tried: LeftBackend[];
}

/** An error as it crosses the border. */
export interface ErrorData {
  code: ErrorCode;
  message: string;
  /** What the user can do. */
  remedy: string;
  /** Name of the offending request parameter, as in OpenAI's errors. */
  param?: string;
  /** Backends that were left, if that is what went wrong. */
  tried?: LeftBackend[];
}

/** What to do with a prompt that is longer than the context. */
export type ContextPolicy = "error" | "truncate-oldest";

export type LoadStage =
  | "check"
  | "download"
  | "library"
  | "upload"
  | "pipelines"
  | "self-test"
  | "ready";

export interface LoadProgress {
  kind: "progress";
  stage: LoadStage;
  loadedBytes: number;
  totalBytes: number;
  bytesPerSecond: number;
  /** Kernels of the stage "pipelines" that are ready, and all of them. */
  done?: number;
  total?: number;
}

export interface DeviceEvent {
  kind: "device";
  state: "lost" | "recovering" | "recovered";
  reason: string;
}

export type UnkeptReason = "no-room" | "deleted" | "denied";

export type StorageEvent =
  /**
   * A file, or what is missing of a bundle's files, is loaded and not kept: the next visit downloads it
   * again. There is no room for so many bytes, what was stored was deleted while it was in use, or the
   * browser lets the page keep nothing.
   */
  | { kind: "storage"; state: "memory-only"; url: string; neededBytes: number; reason: UnkeptReason }
  /** Bytes didn't match their hash; they were dropped and are fetched again. */
  | { kind: "storage"; state: "damaged"; url: string; source: "network" | "cache" }
  /** The host has another version of a stored bundle; `storage.update` stores it beside the old one. */
  | { kind: "storage"; state: "update-available"; bundleUrl: string; id: string; neededBytes: number };

/** A model that this page has loaded came or went without having been asked. */
export interface ModelEvent {
  kind: "model";
  /**
   * "unloaded": others needed its memory, and the next request loads it again; "loaded": it is back;
   * "dropped": it is gone and must be loaded anew.
   */
  state: "unloaded" | "loaded" | "dropped";
  id: string;
  /** Of the device, as it is now. */
  memoryBytes: number;
}

/** Tells of each backend that is left, then of the one that is used. */
export type BackendEvent =
  | ({ kind: "backend"; state: "left"; left: LeftBackend })
  | ({ kind: "backend"; state: "chosen"; chosen: Backend });

export type EngineEvent = LoadProgress | DeviceEvent | StorageEvent | ModelEvent | BackendEvent;

/** A bundle whose lock this browser keeps; its files may be stored in part. */
export interface StoredBundle {
  lockUrl: string;
  id: string;
  modelType: string;
  quantization: string;
  /** In tokens; 0 where the lock doesn't say. */
  contextWindowSize: number;
  /** Bytes of all files that the lock names, for all targets. */
  totalBytes: number;
  /** Bytes of them that are stored, unfinished downloads included. */
  storedBytes: number;
  /** Targets that load without a network: their library and all shared files are stored. */
  offlineTargets: string[];
  /** Its next version, which takes its place when it is stored whole. */
  update: { totalBytes: number; storedBytes: number } | null;
}

/** What a model computed of messages, kept for the next visit. */
export interface SavedState {
  name: string;
  /** Of the model that computed it. */
  bundleUrl: string;
  /** Tokens that needn't be computed. */
  tokens: number;
  bytes: number;
}

export interface StoredContents {
  bundles: StoredBundle[];
  /** The last saved last. */
  states: SavedState[];
  /** What no stored bundle names: left by crashes or by bundles whose lock was lost. */
  leftovers: { files: number; bytes: number };
}

export interface DeletedFiles {
  freedBytes: number;
  /** Files that stay because another stored bundle names them. */
  keptFiles: number;
}

export interface DeletedLeftovers {
  freedBytes: number;
  /** Nothing was deleted: a tab has a model loaded, whose files these may be. */
  modelsInUse: boolean;
}

/** What pages do with stored bundles; its replies in `StorageReplies`. */
export type StorageAction =
  | { action: "list" }
  | { action: "delete"; bundleUrl: string }
  | { action: "delete-state"; bundleUrl: string; name: string }
  | { action: "delete-leftovers" }
  | { action: "update"; bundleUrl: string };

export interface StorageReplies {
  list: StoredContents;
  delete: DeletedFiles;
  "delete-state": DeletedFiles;
  "delete-leftovers": DeletedLeftovers;
  update: null;
}

export interface LoadOptions {
  contextPolicy?: ContextPolicy;
  /** For requests that don't say: the same bits whatever was computed before. */
  deterministic?: boolean;
  /** Name of a target of the bundle; without it the best one that the adapter can run. */
  target?: string;
  /** Gives up this page's other models for it. */
  replace?: boolean;
}

/** As it reaches the worker. */
export interface LocalLoadOptions extends LoadOptions {
  /** In the order to try them in. */
  backends?: LocalBackend[];
}

export interface CheckOptions {
  /** In the order in which they would be tried; default: all. */
  backends?: LocalBackend[];
  /** Measures the adapter for some tenths of a second to tell `speed`. */
  measure?: boolean;
}

export interface AdapterDescription {
  vendor: string;
  architecture: string;
  description: string;
  /** Computes on the CPU: correct but slow. */
  isSoftware: boolean;
}

export interface LoadedModel {
  id: string;
  target: string;
  contextWindowSize: number;
  vocabSize: number;
  /** Fields of requests that the model's files name values for, which requests may leave out. */
  sampling: Sampling;
  adapter: AdapterDescription;
  backend: Backend;
  /** Bytes read from network or cache. */
  bytes: number;
  /** Of the device, weights and KV cache; 0 while other models need it: a request loads it again. */
  memoryBytes: number;
  downloadMs: number;
  uploadMs: number;
  pipelineMs: number;
}

/** What an answer is likely to take, in tokens/s: measured on the adapter, without the model. */
export interface SpeedEstimate {
  tokensPerSecond: number;
  /** A single answer's speed is hardly outside of these, early in a conversation. */
  low: number;
  high: number;
  /** What it follows from: bytes/s of weights that a kernel like the model's reads, and seconds that a launch takes. */
  bytesPerSecond: number;
  launchSeconds: number;
}

/** Whether a bundle would run here, found without downloading it. */
export interface FitReport {
  /** Id of the model. */
  id: string;
  /** Whether it runs on this device. */
  fits: boolean;
  /** Null if no target of the bundle runs here. */
  target: string | null;
  /** What would be used, as far as can be told without running it; null if nothing. */
  backend: Backend | null;
  problems: ErrorData[];
  /** Bytes of the files that it needs, and of those that aren't stored. */
  downloadBytes: number;
  missingBytes: number;
  /** Device memory of weights and KV cache. */
  memoryBytes: number;
  /** `available`: whether the browser lets the page keep anything. */
  storage: { usage: number; quota: number; persisted: boolean; available: boolean };
  /** Null where it wasn't asked for or can't be told. */
  speed: SpeedEstimate | null;
}

/** What the debugging door does; its replies in `DebugReplies`. */
export type DebugAction =
  | { action: "lose-device" }
  | { action: "logits"; tokenIds: number[] }
  | { action: "memory" };

export interface DebugReplies {
  "lose-device": null;
  /** float32[vocabulary]: logits after the last token, from an empty KV cache. */
  logits: Float32Array;
  /** Bytes allocated on the device, and of the wasm's memory, of all models, other pages' included. */
  memory: { deviceBytes: number; wasmBytes: number };
}

/** From the page. Every call has an `id` of its own; its replies carry the same. */
export type WorkerRequest =
  | { kind: "check"; id: number; bundleUrl: string; options: CheckOptions }
  | { kind: "load"; id: number; bundleUrl: string; options: LocalLoadOptions }
  /** One of the page's models; all of them without `model`. */
  | { kind: "unload"; id: number; model?: string }
  | { kind: "complete"; id: number; params: ChatCompletionParams }
  | { kind: "count"; id: number; messages: ChatMessage[]; model?: string }
  /** Without `messages` a state is loaded; `model` may be left out where the page has one. */
  | { kind: "state"; id: number; name: string; messages?: ChatMessage[]; model?: string }
  | ({ kind: "storage"; id: number } & StorageAction)
  | ({ kind: "debug"; id: number } & DebugAction)
  /** Ends the call of this `id`, which then replies with kind "aborted". */
  | { kind: "abort"; id: number };

/** A model that a page had from an engine that ended; the next engine loads it again. */
export interface HeldModel {
  id: string;
  bundleUrl: string;
  options: LocalLoadOptions;
  /** Whether it was on the device. */
  loaded: boolean;
}

/** A page that shares the engine, or states a budget; `lock` is a Web Lock that it holds as long as it lives. */
export interface Hello {
  kind: "hello";
  lock: string | null;
  models: HeldModel[];
  memoryBudget: number | null;
}

/** What comes before a page's calls, and has no reply of its own. */
export type Greeting =
  | Hello
  /** To a dedicated worker: pages knock on this BroadcastChannel. */
  | { kind: "serve"; lobby: string };

/** On the BroadcastChannel where pages find the worker that one of them runs. */
export type LobbyMessage =
  /** A page, which holds a Web Lock as long as it lives, waits on a channel. */
  | { kind: "knock"; channel: string; lock: string | null }
  /** There is a new worker. */
  | { kind: "serving" }
  /** There is none, and no open call will be answered. */
  | { kind: "failed"; error: ErrorData };

/** The value of the "result" that ends each kind of call. */
export interface CallResults {
  check: FitReport;
  load: LoadedModel;
  unload: null;
  /** Null after a stream, whose chunks came before. */
  complete: ChatCompletion | null;
  count: number;
  /** Null where there is none to load. */
  state: SavedState | null;
  storage: StorageReplies[StorageAction["action"]];
  debug: DebugReplies[DebugAction["action"]];
}

export type CallKind = keyof CallResults;

/** From the worker; "started" comes once, before all others. */
export type WorkerReply =
  /** `lock` is a Web Lock that the worker holds as long as it lives. */
  | { kind: "started"; webgpu: boolean; lock: string | null }
  | { kind: "chunk"; id: number; chunk: ChatCompletionChunk }
  | { kind: "result"; id: number; value: CallResults[CallKind] }
  | { kind: "error"; id: number; error: ErrorData }
  | { kind: "aborted"; id: number }
  | { kind: "event"; event: EngineEvent };
