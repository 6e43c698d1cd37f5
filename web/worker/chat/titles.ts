/** Titles that the model gives to conversations, once it has nothing else to do. */
import type { ChatEngine, ChatRequest } from "../ui/engine.ts";
import { titleOf, toRequest } from "../ui/request.ts";
import type { Models } from "./models.ts";
import type { Thread } from "./thread.ts";

/** Models of fewer bytes write nonsense. */
const MIN_BYTES = 50_000_000;
const MAX_TOKENS = 16;
const MAX_CHARACTERS = 60;
const MAX_WORDS = 10;
const KEY = "mlc-edge.titles";

/** The conversation's messages are the beginning, which the engine still knows. */
const INSTRUCTION =
  "Give this conversation a title of at most six words, in its language. Answer with the title alone.";

export function namesChats(): boolean {
  try {
    return localStorage.getItem(KEY) !== "off";
  } catch {
    return true;
  }
}

export function setNamesChats(on: boolean): void {
  try {
    if (on) localStorage.removeItem(KEY);
    else localStorage.setItem(KEY, "off");
  } catch {
    // Without storage the choice can't be kept.
  }
}

export class Titles {
  readonly #engine: ChatEngine;
  readonly #models: Models;
  readonly #onTitle: (thread: Thread) => void;
  #abort = new AbortController();

  /** `onTitle` is called with a conversation that has a new title. */
  constructor(engine: ChatEngine, models: Models, onTitle: (thread: Thread) => void) {
    this.#engine = engine;
    this.#models = models;
    this.#onTitle = onTitle;
    models.onChange(() => {
      if (models.state.kind !== "ready") this.cancel();
    });
  }

  /** Gives way to whatever else the model is wanted for. */
  cancel(): void {
    this.#abort.abort(new DOMException("Not now.", "AbortError"));
  }

  /** Names a conversation whose first answer has ended, and that has its first line for a name. */
  async consider(thread: Thread): Promise<void> {
    const { state } = this.#models;
    if (state.kind !== "ready" || state.bundle.bytes < MIN_BYTES || !namesChats() || !isUnnamed(thread)) return;
    this.cancel();
    const { signal } = (this.#abort = new AbortController());
    const written = await this.#ask(thread, signal).catch(() => "");
    const title = cleanTitle(written);
    if (signal.aborted || title === null || !isUnnamed(thread)) return;
    thread.change({ title });
    this.#onTitle(thread);
  }

  /** "" for a title that had no end. */
  async #ask(thread: Thread, signal: AbortSignal): Promise<string> {
    const { settings } = thread.conversation;
    const request: ChatRequest = {
      ...toRequest(settings, thread.branch, this.#models.sampling),
      temperature: 0,
      max_tokens: MAX_TOKENS,
    };
    delete request.continue_final_message;
    request.messages.push({ role: "user", content: INSTRUCTION });
    let text = "";
    for await (const { choices } of await this.#engine.chat.completions.create(request, { signal })) {
      text += choices[0]?.delta.content ?? "";
      if (choices[0]?.finish_reason === "length" && !text.trim().includes("\n")) return "";
    }
    return text;
  }
}

/** Whether it has one question and its whole answer, and a title that nobody chose. */
function isUnnamed({ branch, conversation, isTemporary }: Thread): boolean {
  const [question, answer] = branch;
  if (isTemporary || conversation.named || branch.length !== 2 || !question || !answer) return false;
  const isWhole = answer.state === "stop" || answer.state === "length";
  return isWhole && answer.content !== "" && conversation.title === titleOf(question.content);
}

/** What a model wrote, as a title; null if it is none. */
export function cleanTitle(written: string): string | null {
  const [line = ""] = written.trim().split("\n", 1);
  const title = line
    .replace(/^[\s#*_>"'“”„«»「『]+/u, "")
    .replace(/^\p{L}{2,8}\s*[:：]\s*/u, (label) => (TITLE_LABEL.test(label) ? "" : label))
    .replace(/^[\s*_"'“”„«»「『]+|[\s*_"'“”„«»」』.。]+$/gu, "")
    .replace(/\s+/g, " ");
  const isShort = title.length <= MAX_CHARACTERS && title.split(" ").length <= MAX_WORDS;
  return isShort && /[\p{L}\p{N}]/u.test(title) && !/[<>:：]$|^</u.test(title) ? title : null;
}

const TITLE_LABEL = /^(title|titel|título|titre|titolo|название|标题|標題|タイトル|제목|العنوان)/iu;
