/** What a model thinks before it answers: written in front of the answer in tags, or sent beside it. */
import type { Message } from "./types.ts";

const OPENING = ["<think>", "<thinking>"];

export interface Divided {
  thinking: string;
  answer: string;
}

/** Divides what a model has written; until it `isComplete`, what may yet become a tag belongs to neither part. */
export function divideThinking(text: string, isComplete: boolean): Divided {
  const start = text.trimStart();
  const opening = OPENING.find((tag) => start.startsWith(tag));
  if (!opening) {
    const mayOpen = !isComplete && OPENING.some((tag) => tag.startsWith(start));
    return { thinking: "", answer: mayOpen ? "" : text };
  }
  const closing = opening.replace("<", "</");
  const inside = start.slice(opening.length);
  const end = inside.indexOf(closing);
  if (end >= 0) return { thinking: inside.slice(0, end).trim(), answer: inside.slice(end + closing.length).trimStart() };
  let cut = isComplete ? 0 : closing.length - 1;
  while (!inside.endsWith(closing.slice(0, cut))) cut -= 1;
  return { thinking: inside.slice(0, inside.length - cut).trim(), answer: "" };
}

/** As in OpenAI's chunks; engines that divide it themselves send `reasoning_content`. */
export interface TextDelta {
  content?: string | null;
  reasoning_content?: string | null;
}

/** Writes a message as its pieces come; what it says already stays before them. */
export class AnswerWriter {
  readonly #message: Message;
  readonly #before: string;
  #text = "";
  #reasoning = "";
  #began: number | null = null;

  constructor(message: Message) {
    this.#message = message;
    this.#before = message.content;
  }

  /** Adds a piece; what the answer itself has grown by. */
  add({ content, reasoning_content: reasoning }: TextDelta): string {
    this.#text += content ?? "";
    this.#reasoning += reasoning ?? "";
    return this.#write(false);
  }

  /** Nothing more will come. */
  end(): string {
    return this.#write(true);
  }

  #write(isComplete: boolean): string {
    const message = this.#message;
    // An answer that goes on has been thought about.
    const { thinking, answer } = this.#before ? { thinking: "", answer: this.#text } : divideThinking(this.#text, isComplete);
    const thought = this.#reasoning + thinking;
    if (thought && message.content === "") {
      this.#began ??= performance.now();
      message.thinking = { text: thought, seconds: (performance.now() - this.#began) / 1000 };
    }
    const grown = (this.#before + answer).slice(message.content.length);
    message.content += grown;
    return grown;
  }
}
