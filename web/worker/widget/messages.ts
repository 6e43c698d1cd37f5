/** The conversation as sites read and write it. */
import { newId } from "../ui/ids.ts";
import type { Message, ToolUse } from "../ui/types.ts";
import type { ToolCall, WidgetMessage } from "./types.ts";

/** As OpenAI's API has them; answers that failed before their first word are left out. */
export function toWidgetMessages(messages: readonly Message[]): WidgetMessage[] {
  return messages.flatMap(({ role, content, tools }): WidgetMessage[] => {
    if (role === "user") return [{ role, content }];
    if (!tools) return content === "" ? [] : [{ role, content }];
    const results = tools.flatMap(({ id, result }): WidgetMessage[] =>
      result === undefined ? [] : [{ role: "tool", tool_call_id: id, content: result }],
    );
    return [{ role, content, tool_calls: tools.map(toCall) }, ...results];
  });
}

/** Throws TypeError for what isn't a message of the user or the assistant with text. */
export function fromWidgetMessages(given: unknown): Message[] {
  if (!Array.isArray(given)) throw new TypeError("messages must be an array");
  return given.map((entry: { role?: unknown; content?: unknown } | null, position) => {
    const { role, content } = entry ?? {};
    const known = role === "user" || role === "assistant";
    if (!known || typeof content !== "string") {
      throw new TypeError(`messages[${position}] must be { role: "user" or "assistant", content: a string }`);
    }
    return { id: newId(), role, content, createdAt: Date.now(), state: "stop" };
  });
}

export function toCall({ id, name, arguments: given }: ToolUse): ToolCall {
  return { id, type: "function", function: { name, arguments: given } };
}
