/** Calls of tools as they come in a stream, piece by piece. */
import type { ToolUse } from "../ui/types.ts";

/** https://platform.openai.com/docs/api-reference/chat-streaming/streaming */
export interface ToolDelta {
  index: number;
  id?: string | null;
  function?: { name?: string | null; arguments?: string | null } | null;
}

export function joinTools(tools: ToolUse[], deltas: readonly ToolDelta[]): void {
  for (const { index, id, function: part } of deltas) {
    const tool = (tools[index] ??= { id: "", name: "", arguments: "" });
    if (id) tool.id = id;
    tool.name += part?.name ?? "";
    tool.arguments += part?.arguments ?? "";
  }
}
