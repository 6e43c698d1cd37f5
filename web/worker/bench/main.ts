/** The benchmark's page: loads a bundle, asks, and measures what a person would wait for. */
import { EngineClient } from "../client/index.ts";
import type { LoadedModel } from "../shared/protocol.ts";

export interface BenchmarkOptions {
  bundleUrl: string;
  target?: string;
  promptWords: number;
  maxTokens: number;
  repeats: number;
}

/** Times in milliseconds; `tpotMs` is (last - first token) / (tokens - 1). */
export interface Answer {
  promptTokens: number;
  completionTokens: number;
  ttftMs: number;
  tpotMs: number;
  prefillTokensPerS: number;
  decodeTokensPerS: number;
}

export interface BenchmarkResult {
  model: LoadedModel;
  loadMs: number;
  warmLoadMs: number;
  answers: Answer[];
}

async function measureAnswer(
  engine: EngineClient,
  options: BenchmarkOptions,
  round: number,
): Promise<Answer> {
  // A different first word each time, so that no answer finds its prompt in the KV cache.
  const words = Array.from({ length: options.promptWords }, (_, i) => (i ? "story" : `r${round}`));
  const start = performance.now();
  let first = 0;
  let last = 0;
  let answer: Answer | undefined;
  const stream = await engine.chat.completions.create({
    messages: [{ role: "user", content: words.join(" ") }],
    stream: true,
    stream_options: { include_usage: true },
    temperature: 0,
    max_tokens: options.maxTokens,
    ignore_eos: true,
  });
  for await (const chunk of stream) {
    if (chunk.choices[0]?.delta.content) {
      last = performance.now();
      first ||= last;
    }
    if (chunk.usage) {
      const { prompt_tokens, completion_tokens, extra } = chunk.usage;
      answer = {
        promptTokens: prompt_tokens,
        completionTokens: completion_tokens,
        ttftMs: (extra.time_to_first_token_s ?? 0) * 1000,
        tpotMs: (last - first) / Math.max(1, completion_tokens - 1),
        prefillTokensPerS: extra.prefill_tokens_per_s ?? 0,
        decodeTokensPerS: extra.decode_tokens_per_s ?? 0,
      };
    }
  }
  if (!answer) throw new Error(`no usage after ${performance.now() - start} ms`);
  return answer;
}

async function load(options: BenchmarkOptions): Promise<[EngineClient, LoadedModel, number]> {
  const workerUrl = document.querySelector<HTMLMetaElement>("meta[name=mlc-edge-worker]")?.content;
  if (!workerUrl) throw new Error("the page names no engine");
  const engine = new EngineClient({ workerUrl });
  const start = performance.now();
  const model = await engine.load(options.bundleUrl, { target: options.target });
  return [engine, model, performance.now() - start];
}

async function run(options: BenchmarkOptions): Promise<BenchmarkResult> {
  const [cold, , loadMs] = await load(options);
  cold.dispose();
  const [engine, model, warmLoadMs] = await load(options);
  const answers: Answer[] = [];
  for (let round = 0; round <= options.repeats; round++) {
    const answer = await measureAnswer(engine, options, round);
    // The first answer still creates what is created on first use.
    if (round > 0) answers.push(answer);
  }
  engine.dispose();
  return { model, loadMs, warmLoadMs, answers };
}

declare global {
  interface Window {
    runBenchmark: typeof run;
  }
}
window.runBenchmark = run;
