/** The library: run a compiled language model in a browser, with OpenAI's API. */
export { EngineClient } from "./client.ts";
export { createEngine } from "./create-engine.ts";
export type { EngineOptions } from "./engine-options.ts";
export type { CallOptions, Completions, Endpoint, StateOptions } from "./client.ts";
export type { ChunkStream } from "./chunk-stream.ts";
export { EngineError } from "../shared/errors.ts";
export type * from "../shared/openai.ts";
export type {
  AdapterDescription,
  ContextPolicy,
  DeletedFiles,
  DeletedLeftovers,
  DeviceEvent,
  EngineEvent,
  ErrorCode,
  FitReport,
  LoadedModel,
  LoadOptions,
  LoadProgress,
  LoadStage,
  ModelEvent,
  SavedState,
  StorageEvent,
  StoredBundle,
  StoredContents,
} from "../shared/protocol.ts";
export type { StorageEstimateBytes } from "./persistence.ts";
