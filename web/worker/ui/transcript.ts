/** The log of messages: shows the latest, grows the open one once a frame, stays at the end. */
import { button, byId, type Root } from "./dom.ts";
import { MessageView, type MessageActions, type Redo } from "./message-view.ts";
import type { ConversationStrings } from "./strings.ts";
import type { TextViews } from "./text-view.ts";
import type { Message } from "./types.ts";

/** Messages shown at first, and added with each "Show earlier messages". */
const PAGE = 40;
/** Closer than this to the end counts as reading along, in CSS pixels. */
const NEAR_END = 80;
/** Of the main thread's time, for drawing an answer that grows. */
const MAX_SHARE = 0.2;

export class Transcript {
  readonly #log: HTMLElement;
  readonly #scroller: HTMLElement;
  readonly #welcome: HTMLElement;
  readonly #jump: HTMLButtonElement;
  readonly #actions: MessageActions;
  readonly #strings: ConversationStrings;
  readonly #texts: TextViews;
  readonly #views = new Map<string, MessageView>();
  #messages: readonly Message[] = [];
  #first = 0;
  #atEnd = true;
  #scrolledTo = 0;
  #frame = 0;
  /** A long list or table costs more than a frame has. */
  #restsUntil = 0;

  /** @param texts shows what the model writes. */
  constructor(root: Root, strings: ConversationStrings, actions: MessageActions, texts: TextViews) {
    this.#log = byId("log", HTMLElement, root);
    this.#scroller = byId("scroller", HTMLElement, root);
    this.#welcome = byId("welcome", HTMLElement, root);
    this.#jump = byId("jump", HTMLButtonElement, root);
    this.#actions = actions;
    this.#strings = strings;
    this.#texts = texts;
    this.#scroller.addEventListener("scroll", () => this.#watch(), { passive: true });
    new ResizeObserver(() => this.#follow()).observe(this.#log);
    new ResizeObserver(() => this.#follow()).observe(this.#scroller);
    this.#jump.addEventListener("click", () => {
      this.toEnd();
      byId("message", HTMLTextAreaElement, root).focus();
    });
    this.#log.addEventListener("click", (event) => void copyCode(event, strings));
  }

  /** Shows a conversation; `live` is the id of an answer that is being written. */
  show(messages: readonly Message[], live: string | null): void {
    cancelAnimationFrame(this.#frame);
    this.#first = Math.max(0, messages.length - PAGE);
    this.#views.clear();
    this.#log.replaceChildren();
    this.update(messages, live);
    this.#offerEarlier();
    this.toEnd();
  }

  /** Shows what became of the conversation; messages that stay keep their elements. */
  update(messages: readonly Message[], live: string | null): void {
    this.#messages = [...messages];
    this.#first = Math.min(this.#first, messages.length);
    this.#welcome.hidden = messages.length > 0;
    const shown = messages.slice(this.#first);
    const ids = new Set(shown.map(({ id }) => id));
    for (const [id, view] of this.#views) {
      if (ids.has(id)) continue;
      view.element.remove();
      this.#views.delete(id);
    }
    // What stays comes first: branches differ from some message on.
    for (const message of shown) {
      if (!this.#views.has(message.id)) this.#log.append(this.#make(message).element);
    }
    this.settle(live);
  }

  /** Shows new text of the open answer at the next frame, or at one that leaves most of the time to others. */
  grow(message: Message): void {
    cancelAnimationFrame(this.#frame);
    this.#frame = requestAnimationFrame((now) => {
      if (now < this.#restsUntil) {
        this.grow(message);
        return;
      }
      const start = performance.now();
      this.#views.get(message.id)?.grow(message);
      this.#restsUntil = performance.now() + (performance.now() - start) / MAX_SHARE;
    });
  }

  /** What a message says, as it is shown; "" if it isn't. */
  textOf({ id }: Message): string {
    return this.#views.get(id)?.text ?? "";
  }

  wait(message: Message, reason: string): void {
    this.#views.get(message.id)?.wait(reason);
  }

  /** Gives all messages but the live one their buttons; only the last two can be redone, unless versions are kept. */
  settle(live: string | null): void {
    cancelAnimationFrame(this.#frame);
    const lastUser = this.#messages.findLastIndex(({ role }) => role === "user");
    this.#messages.forEach((message, index) => {
      const view = this.#views.get(message.id);
      if (!view) return;
      if (message.id === live) view.grow(message);
      else view.settle(message, live === null ? this.#redo(index >= lastUser) : "no");
    });
    // What shrinks and grows between two frames has not changed its size, for observers.
    this.#follow();
  }

  #redo(isLast: boolean): Redo {
    if (isLast) return "now";
    return this.#actions.versions ? "beside" : "no";
  }

  /** Where a person goes on who looks through versions by keyboard. */
  focusVersion({ id }: Message, step: 1 | -1): void {
    this.#views.get(id)?.focusVersion(step);
  }

  toEnd(): void {
    this.#atEnd = true;
    this.#scrollDown();
    this.#jump.hidden = true;
  }

  #make(message: Message): MessageView {
    const view = new MessageView(message, this.#actions, this.#strings, this.#texts);
    this.#views.set(message.id, view);
    return view;
  }

  #offerEarlier(): void {
    if (this.#first === 0) return;
    const more = button({
      text: this.#strings.showEarlier,
      className: "button small earlier",
      onClick: () => {
        more.remove();
        this.#prepend();
      },
    });
    this.#log.prepend(more);
  }

  #prepend(): void {
    const from = Math.max(0, this.#first - PAGE);
    const below = this.#scroller.scrollHeight - this.#scroller.scrollTop;
    const older = this.#messages.slice(from, this.#first).map((message) => {
      const view = this.#make(message);
      view.settle(message, this.#redo(false));
      return view.element;
    });
    this.#log.prepend(...older);
    this.#first = from;
    this.#offerEarlier();
    this.#scroller.scrollTop = this.#scroller.scrollHeight - below;
    const newest = older.at(-1);
    newest?.setAttribute("tabindex", "-1");
    newest?.focus({ preventScroll: true });
  }

  #watch(): void {
    const { scrollTop, scrollHeight, clientHeight } = this.#scroller;
    if (scrollHeight - scrollTop - clientHeight < NEAR_END) this.#atEnd = true;
    // What grows below leaves the end behind, and people don't.
    else if (scrollTop < this.#scrolledTo) this.#atEnd = false;
    this.#scrolledTo = scrollTop;
    this.#jump.hidden = this.#atEnd || this.#messages.length === 0;
  }

  #follow(): void {
    if (this.#atEnd) this.#scrollDown();
    else this.#watch();
  }

  #scrollDown(): void {
    // What greets people begins at its beginning.
    this.#scroller.scrollTop = this.#messages.length > 0 ? this.#scroller.scrollHeight : 0;
    this.#scrolledTo = this.#scroller.scrollTop;
  }
}

async function copyCode(event: MouseEvent, strings: ConversationStrings): Promise<void> {
  const copy = (event.target as Element).closest<HTMLElement>("[data-copy-code]");
  const label = copy?.lastChild;
  if (!copy || !label) return;
  const code = copy.closest(".code")?.querySelector("pre")?.textContent ?? "";
  const copied = await copyText(code);
  label.textContent = copied ? strings.copied : strings.copyDenied;
  setTimeout(() => (label.textContent = strings.copy), 2_000);
}

/** Puts text on the clipboard; false where the browser doesn't let the page. */
export async function copyText(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
}
