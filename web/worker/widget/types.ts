/** What sites see of the widget. */
import type { LoadProgress } from "../shared/protocol.ts";
import type { ChatEngine, FitReport } from "../ui/engine.ts";
import type { Problem } from "../ui/types.ts";

/**
 * "closed" until it was opened for the first time; "answering" once the model works at an answer; "elsewhere" while
 * a person is asked whether the conversation may go to the server.
 */
export type WidgetState =
  | "closed"
  | "checking"
  | "consent"
  | "loading"
  | "paused"
  | "ready"
  | "answering"
  | "elsewhere"
  | "error";

export interface ToolCall {
  id: string;
  type: "function";
  function: { name: string; arguments: string };
}

/** OpenAI's messages, without the system prompt. */
export type WidgetMessage =
  | { role: "user"; content: string }
  | { role: "assistant"; content: string; tool_calls?: ToolCall[] }
  | { role: "tool"; content: string; tool_call_id: string };

/** Where the conversation is kept: nowhere, as long as the tab, or until it is cleared. */
export type TranscriptStorage = "none" | "session" | "local";

/** `detail` of the element's events, which don't bubble. */
export interface MlcChatEvents {
  /** Cancelable: then nothing is asked, and the site calls `load()`. Bytes. */
  consent: CustomEvent<{ downloadBytes: number; memoryBytes: number }>;
  progress: CustomEvent<LoadProgress>;
  ready: CustomEvent<{ host: string | null }>;
  /** Of the user: cancelable, before it is sent. Of the assistant: when the answer is whole. */
  message: CustomEvent<WidgetMessage>;
  /** What an answer has grown by. */
  delta: CustomEvent<{ content: string }>;
  /** Give each call's result to `respond`; the answer goes on once all have one. */
  toolcall: CustomEvent<{ calls: ToolCall[]; respond(id: string, content: string): void }>;
  state: CustomEvent<{ state: WidgetState }>;
  error: CustomEvent<Problem>;
}

/** What the element was given, as properties and attributes. */
export interface WidgetOptions {
  src: string | null;
  server: string | null;
  workerURL: string | URL | null;
  autoLoad: boolean;
  storage: TranscriptStorage;
  storageKey: string;
  tools: readonly object[] | null;
  systemPrompt: string;
  responseFormat: object | null;
  starters: readonly string[];
}

/** Sends an event of the element; false if somebody prevented it. */
export type Dispatch = <K extends keyof MlcChatEvents>(
  type: K,
  detail: MlcChatEvents[K]["detail"],
  cancelable?: boolean,
) => boolean;

/** An engine that the site has made itself, such as createEngine's. */
export interface GivenEngine extends Pick<ChatEngine, "chat" | "onEvent"> {
  /** Where it answers: a null `origin`, or none of it, is this device. */
  readonly backend?: { readonly origin: string | null } | null;
}

/** Whether a model fits, and whether the browser would keep it. */
export interface DeviceFit extends FitReport {
  storage: { available: boolean };
}

export interface DeviceEngine extends Pick<ChatEngine, "chat" | "load" | "onEvent"> {
  check(bundleUrl: string): Promise<DeviceFit>;
}

/** What a person is writing. */
export interface Draft {
  text: string;
  /** Whether the widget has the focus, which a new panel then takes. */
  isFocused: boolean;
}
