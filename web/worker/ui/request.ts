/** From what the page keeps to what the engine takes, and back. */
import { chatSampling, type Sampling } from "../shared/sampling-defaults.ts";
import type { ChatRequest, Usage } from "./engine.ts";
import type { AnswerStats, ChatSettings, Message, ToolUse } from "./types.ts";

/** The request for the answer that follows `messages`, or that goes on where the last of them ends; `named` is what the model's files name. */
export function toRequest(
  settings: ChatSettings,
  messages: readonly Message[],
  named: Sampling | null,
): ChatRequest {
  const turns: ChatRequest["messages"] = toTurns(messages);
  if (settings.systemPrompt) turns.unshift({ role: "system", content: settings.systemPrompt });
  const request: ChatRequest = {
    messages: turns,
    stream: true,
    stream_options: { include_usage: true },
    ...(named && chatSampling(named)),
  };
  if (settings.temperature !== null) request.temperature = settings.temperature;
  if (settings.topP !== null) request.top_p = settings.topP;
  if (settings.minP !== null) request.min_p = settings.minP;
  if (settings.maxTokens !== null) request.max_tokens = settings.maxTokens;
  if (settings.seed !== null) request.seed = settings.seed;
  if (turns.at(-1)?.role === "assistant") request.continue_final_message = true;
  return request;
}

/** The conversation as requests have it. Tools that nobody answered are left out. */
export function toTurns(messages: readonly Message[]): ChatRequest["messages"] {
  const turns: ChatRequest["messages"] = [];
  for (const { role, content, tools } of messages) {
    const last = turns.at(-1);
    if (tools?.length && tools.every(({ result }) => result !== undefined)) {
      turns.push(...toolTurns(content, tools));
    } else if (content === "") continue;
    // Templates want turns to alternate; an answer that failed leaves two questions in a row.
    else if (last?.role === role && !("tool_calls" in last)) last.content += `\n\n${content}`;
    else turns.push({ role, content });
  }
  return turns;
}

function toolTurns(content: string, tools: ToolUse[]): ChatRequest["messages"] {
  const tool_calls = tools.map(({ id, name, arguments: given }) => ({
    id,
    type: "function",
    function: { name, arguments: given },
  }));
  const results = tools.map(({ id, result }) => ({ role: "tool", tool_call_id: id, content: result }));
  return [{ role: "assistant", content, tool_calls }, ...results] as unknown as ChatRequest["messages"];
}

/** Whether an answer has words, and more of them could follow. */
export function isCutShort({ role, content, state, problem }: Message): boolean {
  if (role !== "assistant" || content.trim() === "") return false;
  if (state === "error") return problem?.code !== "context_length_exceeded";
  return state === "length" || state === "abort" || state === "open";
}

export function toStats(usage: Usage): AnswerStats {
  const { extra } = usage;
  return {
    promptTokens: usage.prompt_tokens,
    cachedTokens: usage.prompt_tokens_details?.cached_tokens ?? extra?.cached_tokens ?? 0,
    answerTokens: usage.completion_tokens,
    firstTokenSeconds: extra?.time_to_first_token_s ?? null,
    prefillTokensPerSecond: extra?.prefill_tokens_per_s ?? null,
    decodeTokensPerSecond: extra?.decode_tokens_per_s ?? null,
    totalSeconds: extra?.e2e_latency_s ?? null,
  };
}

/** The first line of a message, short enough for a list. */
export function titleOf(text: string): string {
  const line = text.trim().split("\n", 1)[0] ?? "";
  return line.length > 60 ? `${line.slice(0, 59).trimEnd()}…` : line;
}
