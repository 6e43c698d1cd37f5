/** The library: run a compiled language model in a browser, with OpenAI's API. */
export { EngineClient } from "./client.ts";
export { capabilities, createEngine } from "./create-engine.ts";
export type { BackendOption } from "./backends.ts";
export type { CapabilityOptions } from "./capabilities.ts";
export type { ConsentRequest, RemoteBackend } from "./remote.ts";
export type { EngineOptions } from "./engine-options.ts";
export type { CallOptions, Completions, Endpoint, StateOptions } from "./client.ts";
export type { ChunkStream } from "./chunk-stream.ts";
export { createLanguageModel, installLanguageModel } from "../prompt-api/language-model.ts";
export type * from "../prompt-api/types.ts";
export { EngineError } from "../shared/errors.ts";
export type * from "../shared/openai.ts";
export type {
  AdapterDescription,
  Backend,
  BackendEvent,
  BackendKind,
  ContextPolicy,
  DeletedFiles,
  DeletedLeftovers,
  DeviceEvent,
  EngineEvent,
  ErrorCode,
  ErrorData,
  FitReport,
  LeftBackend,
  LoadedModel,
  LoadOptions,
  LoadProgress,
  LoadStage,
  LocalBackend,
  ModelEvent,
  SavedState,
  SpeedEstimate,
  StorageEvent,
  StoredBundle,
  StoredContents,
} from "../shared/protocol.ts";
export type { StorageEstimateBytes } from "./persistence.ts";
