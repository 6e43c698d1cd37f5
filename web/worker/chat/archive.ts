/** Conversations with all their branches, as a file that can be taken back. */
import { filled } from "../ui/strings.ts";
import type { AnswerState, AnswerStats, Conversation, Problem, Thinking } from "../ui/types.ts";
import { record } from "./record.ts";
import { restoreSettings } from "./settings.ts";
import { STRINGS } from "./strings.ts";
import type { StoredMessage } from "./tree.ts";

export interface Archived {
  conversation: Conversation;
  messages: StoredMessage[];
}

const FORMAT = "mlc-edge-conversations";
const VERSION = 2;
const STATES: Record<AnswerState, true> = { open: true, stop: true, length: true, abort: true, error: true, tools: true };

/** `indent`: spaces, for people who look into it. */
export function toArchive(all: readonly Archived[], indent = 2): string {
  const conversations = all.map(({ conversation, messages }) => {
    const { createdAt, updatedAt, leafId: leaf, ...rest } = conversation;
    return { ...rest, created: iso(createdAt), updated: iso(updatedAt), leaf, messages: messages.map(toEntry) };
  });
  return `${JSON.stringify({ format: FORMAT, version: VERSION, conversations }, null, indent)}\n`;
}

function toEntry({ conversationId: _, parentId: parent, createdAt, ...rest }: StoredMessage): object {
  return { ...rest, parent, created: iso(createdAt) };
}

/** Throws Error, for people, if it is no such archive; `source` is what they gave. Fields that it hasn't, or that are of another kind, are left out. */
export function parseArchive(text: string, source = STRINGS.thisFile): Archived[] {
  const { format, version, conversations } = record(parsed(text));
  if (format !== FORMAT || !Array.isArray(conversations)) {
    throw new Error(filled(STRINGS.noConversations, { source }));
  }
  if (version !== VERSION) {
    throw new Error(filled(STRINGS.otherVersion, { source, version: String(version), known: String(VERSION) }));
  }
  return conversations.map((entry, at) => toArchived(entry, at, source));
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function toArchived(entry: unknown, at: number, source: string): Archived {
  const { id, title, named, pinned, created, updated, settings, leaf, messages } = record(entry);
  if (!isId(id) || !Array.isArray(messages)) {
    throw new Error(filled(STRINGS.damagedConversation, { source, conversation: String(at + 1) }));
  }
  const read = messages.map((message, index) => {
    const taken = toMessage(message, id);
    if (taken) return taken;
    const place = { message: String(index + 1), conversation: String(at + 1) };
    throw new Error(filled(STRINGS.damagedMessage, { source, ...place }));
  });
  const conversation = {
    id,
    title: typeof title === "string" ? title : STRINGS.importedChat,
    named: named === true,
    pinned: pinned === true,
    createdAt: time(created),
    updatedAt: time(updated),
    settings: restoreSettings(settings),
    leafId: isId(leaf) ? leaf : null,
  };
  return { conversation, messages: read };
}

function toMessage(entry: unknown, conversationId: string): StoredMessage | null {
  const { id, parent, role, content, created, state, model, stats, problem, thinking } = record(entry);
  if (!isId(id) || (parent !== null && !isId(parent)) || (role !== "user" && role !== "assistant") || typeof content !== "string") {
    return null;
  }
  const message: StoredMessage = { id, conversationId, parentId: parent, role, content, createdAt: time(created) };
  if (typeof state === "string" && Object.hasOwn(STATES, state)) message.state = state as AnswerState;
  if (typeof model === "string") message.model = model;
  const counted = toStats(stats);
  if (counted) message.stats = counted;
  const told = toProblem(problem);
  if (told) message.problem = told;
  const thought = toThinking(thinking);
  if (thought) message.thinking = thought;
  return message;
}

function toStats(stats: unknown): AnswerStats | null {
  const found = record(stats);
  const count = (name: keyof AnswerStats) => (typeof found[name] === "number" ? found[name] : null);
  const [promptTokens, cachedTokens, answerTokens] = [count("promptTokens"), count("cachedTokens"), count("answerTokens")];
  if (promptTokens === null || cachedTokens === null || answerTokens === null) return null;
  return {
    promptTokens,
    cachedTokens,
    answerTokens,
    firstTokenSeconds: count("firstTokenSeconds"),
    prefillTokensPerSecond: count("prefillTokensPerSecond"),
    decodeTokensPerSecond: count("decodeTokensPerSecond"),
    totalSeconds: count("totalSeconds"),
  };
}

function toProblem(problem: unknown): Problem | null {
  const { code, message, remedy } = record(problem);
  const texts = [code, message, remedy].every((text) => typeof text === "string");
  return texts ? ({ code, message, remedy } as Problem) : null;
}

function toThinking(thinking: unknown): Thinking | null {
  const { text, seconds } = record(thinking);
  return typeof text === "string" && typeof seconds === "number" ? { text, seconds } : null;
}

const iso = (milliseconds: number): string => new Date(milliseconds).toISOString();
const time = (text: unknown): number => Date.parse(String(text)) || Date.now();
const isId = (value: unknown): value is string => typeof value === "string" && /^[\w-]{1,100}$/.test(value);
