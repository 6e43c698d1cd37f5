/** An engine without a model: what it answers, and when, is scripted by the test. */
import type { EngineEvent } from "../../../web/worker/shared/protocol.ts";
import type { AnswerChunk, ChatEngine, ChatRequest, FitReport, LoadedModel, Usage } from "../../../web/worker/ui/engine.ts";
import type { Problem } from "../../../web/worker/ui/types.ts";
import { FakeStorage, type StorageScript } from "./storage.ts";

/** What a test wants to happen; everything is optional. */
export interface Script extends StorageScript {
  /** Answers in the order of the requests; a problem is thrown. The last is used again. */
  answers?: (string | Problem)[];
  /** Answers come piece by piece as the test calls `push` and `finish`. */
  manualAnswer?: boolean;
  /** Loading waits until the test calls `finishLoad`. */
  manualLoad?: boolean;
  /** Thrown by the first loads, in this order. */
  loadProblems?: Problem[];
  /** What `check` finds wrong, by a part of the bundle's address. */
  misfits?: Record<string, Problem>;
  isSoftware?: boolean;
  /** What the model's files name; without it, that it is greedy. */
  sampling?: LoadedModel["sampling"];
  /** What each answer took. */
  usage?: Usage;
}

type Piece = { text: string } | { end: "stop" | "length" } | { problem: Problem };

class FakeError extends Error {
  readonly code: string;
  readonly remedy: string;

  constructor({ code, message, remedy }: Problem) {
    super(message);
    this.code = code;
    this.remedy = remedy;
  }
}

export class FakeEngine implements ChatEngine {
  readonly requests: ChatRequest[] = [];
  readonly storage: FakeStorage;
  unloads = 0;
  readonly loads: { url: string; policy: string | undefined; replace: boolean }[] = [];
  readonly #script: Script;
  readonly #listeners = new Set<(event: EngineEvent) => void>();
  readonly #pieces: Piece[] = [];
  #wake: () => void = () => {};
  #finishLoad: () => void = () => {};
  readonly chat = {
    completions: {
      create: async (request: ChatRequest, { signal }: { signal: AbortSignal }) => {
        this.requests.push(structuredClone(request));
        return this.#answer(signal);
      },
    },
  };

  constructor(script: Script) {
    this.#script = script;
    this.storage = new FakeStorage(script);
  }

  onEvent(listener: (event: EngineEvent) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  emit(event: EngineEvent): void {
    for (const listener of this.#listeners) listener(event);
  }

  async check(url: string): Promise<FitReport> {
    const problem = Object.entries(this.#script.misfits ?? {}).find(([part]) => url.includes(part))?.[1];
    const downloadBytes = url.includes("big") ? 1_200_000_000 : 2_400_000;
    return {
      fits: !problem,
      target: "webgpu-f32",
      problems: problem ? [problem] : [],
      downloadBytes,
      missingBytes: downloadBytes,
      memoryBytes: downloadBytes * 2,
    };
  }

  async unload(): Promise<void> {
    this.unloads += 1;
  }

  async load(
    url: string,
    { signal, contextPolicy, replace = false }: Parameters<ChatEngine["load"]>[1],
  ): Promise<LoadedModel> {
    this.loads.push({ url, policy: contextPolicy, replace });
    const problem = this.#script.loadProblems?.shift();
    if (this.#script.manualLoad) {
      await new Promise<void>((resolve, reject) => {
        this.#finishLoad = resolve;
        signal?.addEventListener("abort", () => reject(signal.reason));
      });
    }
    if (problem) throw new FakeError(problem);
    return {
      id: url.split("/").at(-2) ?? "",
      target: "webgpu-f32",
      contextWindowSize: 1024,
      sampling: this.#script.sampling === undefined ? { temperature: 0 } : this.#script.sampling,
      adapter: {
        vendor: "test",
        architecture: "test",
        description: "",
        isSoftware: this.#script.isSoftware ?? false,
      },
    };
  }

  finishLoad(): void {
    this.#finishLoad();
  }

  push(text: string): void {
    this.#give({ text });
  }

  finish(end: "stop" | "length" = "stop"): void {
    this.#give({ end });
  }

  break(problem: Problem): void {
    this.#give({ problem });
  }

  #give(piece: Piece): void {
    this.#pieces.push(piece);
    this.#wake();
  }

  async *#answer(signal: AbortSignal): AsyncGenerator<AnswerChunk> {
    if (!this.#script.manualAnswer) this.#scriptAnswer();
    signal.addEventListener("abort", () => this.#wake());
    for (;;) {
      if (signal.aborted) {
        this.#pieces.length = 0;
        throw new DOMException("Aborted.", "AbortError");
      }
      const piece = this.#pieces.shift();
      if (!piece) {
        await new Promise<void>((resolve) => {
          this.#wake = resolve;
        });
      } else if ("text" in piece) yield chunk(piece.text, null);
      else if ("problem" in piece) throw new FakeError(piece.problem);
      else {
        yield chunk("", piece.end);
        yield { choices: [], usage: this.#script.usage ?? USAGE };
        return;
      }
    }
  }

  #scriptAnswer(): void {
    const answers = this.#script.answers ?? ["Hello! How can I help you?"];
    const answer = answers.length > 1 ? answers.shift() : answers[0];
    if (typeof answer === "object") this.#pieces.push({ problem: answer });
    else {
      for (const text of answer?.match(/.{1,7}/gs) ?? []) this.#pieces.push({ text });
      this.#pieces.push({ end: "stop" });
    }
  }
}

function chunk(content: string, finish: string | null): AnswerChunk {
  return { choices: [{ delta: { content }, finish_reason: finish }] };
}

const USAGE: Usage = {
  prompt_tokens: 42,
  completion_tokens: 9,
  prompt_tokens_details: { cached_tokens: 30 },
  extra: {
    prefill_tokens_per_s: 210,
    decode_tokens_per_s: 12.34,
    time_to_first_token_s: 0.351,
    cached_tokens: 30,
    e2e_latency_s: 1.2,
  },
};
