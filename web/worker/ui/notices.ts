/** Banners that stay, toasts that pass, and what screen readers are told. */
import { button, byId, el, icon, type Root } from "./dom.ts";
import { type ConversationStrings, filled } from "./strings.ts";

interface Action {
  text: string;
  run(): void;
}

interface Notice {
  level: "info" | "warning";
  text: string;
  action?: Action;
}

const TOAST_MS = 8_000;
const ACTION_TOAST_MS = 20_000;

export class Notices {
  readonly #root: Root;
  readonly #strings: ConversationStrings;
  readonly #banners: HTMLElement;
  readonly #toasts: HTMLElement;
  readonly #announcer: HTMLElement;
  readonly #fallbackFocus: () => void;

  /** `fallbackFocus` is called when a banner or toast vanishes with the focus in it. */
  constructor(root: Root, strings: ConversationStrings, fallbackFocus: () => void) {
    this.#root = root;
    this.#strings = strings;
    this.#banners = byId("notices", HTMLElement, root);
    this.#toasts = byId("toasts", HTMLElement, root);
    this.#announcer = byId("announcer", HTMLElement, root);
    this.#fallbackFocus = fallbackFocus;
  }

  /** Says a finished thing once, politely; never call it for parts of an answer. */
  announce(text: string): void {
    // Cleared first, or the same text twice in a row would be silent.
    this.#announcer.textContent = "";
    requestAnimationFrame(() => {
      this.#announcer.textContent = text;
    });
  }

  /** Shows a banner until it is dismissed; the same key replaces it. */
  show(key: string, notice: Notice): void {
    const banner = el("div", { class: `notice ${notice.level}`, "data-key": key });
    banner.append(icon(notice.level), el("p", {}, notice.text));
    if (notice.action) {
      const { text, run } = notice.action;
      banner.append(button({ text, className: "button small", onClick: run }));
    }
    const dismiss = () => this.#remove(banner);
    banner.append(
      button({ icon: "close", label: this.#strings.dismiss, className: "icon-button", onClick: dismiss }),
    );
    this.hide(key);
    this.#banners.append(banner);
    this.announce(notice.text);
  }

  hide(key: string): void {
    for (const banner of this.#banners.querySelectorAll<HTMLElement>("[data-key]")) {
      if (banner.dataset.key === key) this.#remove(banner);
    }
  }

  /** Shows a passing message; with an action it takes the focus if `focus` is set. */
  toast(text: string, action?: Action & { focus?: boolean }): void {
    // What could be undone still can.
    for (const passing of [...this.#toasts.children]) if (!passing.querySelector("button")) passing.remove();
    const toast = el("div", { class: "toast" }, el("p", {}, text));
    const close = () => this.#remove(toast);
    if (action) {
      const act = button({ text: action.text, className: "button small", onClick: () => (action.run(), close()) });
      toast.append(act);
      this.#toasts.append(toast);
      if (action.focus) act.focus();
    } else this.#toasts.append(toast);
    const { available } = this.#strings;
    this.announce(action ? `${text} ${filled(available, { action: action.text })}` : text);
    this.#closeLater(toast, action ? ACTION_TOAST_MS : TOAST_MS);
  }

  #closeLater(toast: HTMLElement, delayMs: number): void {
    const timer = setTimeout(() => {
      // Nobody loses a button under the pointer or the focus.
      if (toast.matches(":hover, :focus-within")) this.#closeLater(toast, delayMs);
      else this.#remove(toast);
    }, delayMs);
    if (!toast.isConnected) clearTimeout(timer);
  }

  #remove(element: HTMLElement): void {
    const focused = element.contains(this.#root.activeElement);
    element.remove();
    if (focused) this.#fallbackFocus();
  }
}
