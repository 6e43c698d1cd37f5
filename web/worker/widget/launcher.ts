/** The button that opens the widget, and the frame that it opens. */
import { button, el, icon } from "../ui/dom.ts";
import controls from "../ui/style/controls.css" with { type: "text" };
import tokens from "../ui/style/tokens.css" with { type: "text" };
import { sheet } from "./sheet.ts";
import { LAUNCHER, type Language, type LauncherStrings } from "./strings/launcher.ts";
import styles from "./style/launcher.css" with { type: "text" };

interface LauncherOptions {
  floating: boolean;
  language: Language;
  direction: "ltr" | "rtl";
  strings: Partial<LauncherStrings>;
}

let sheets: CSSStyleSheet[] | null = null;

export class Launcher {
  readonly root: ShadowRoot;
  readonly button: HTMLButtonElement;
  readonly frame: HTMLElement;
  readonly #floating: boolean;
  readonly #strings: LauncherStrings;

  constructor(root: ShadowRoot, { floating, language, direction, strings }: LauncherOptions, toggle: () => void) {
    sheets ??= [tokens, controls, styles].map(sheet);
    this.root = root;
    this.#floating = floating;
    this.#strings = { ...LAUNCHER[language], ...strings };
    const { title, open } = this.#strings;
    const name = floating ? "launcher" : "button primary start";
    this.button = el("button", { type: "button", class: name, part: "launcher", "aria-expanded": "false" }, icon("chat"));
    if (!floating) this.button.append(open);
    this.button.addEventListener("click", toggle);
    this.frame = el("section", { class: "frame", part: "panel", "aria-label": title, tabindex: "-1" });
    if (floating) this.frame.setAttribute("role", "dialog");
    const kind = floating ? "floating" : "inline";
    root.adoptedStyleSheets = sheets;
    root.replaceChildren(el("div", { class: `widget ${kind}`, lang: language, dir: direction }, this.frame, this.button));
    this.hide();
  }

  show(): void {
    this.frame.hidden = false;
    this.button.hidden = !this.#floating;
    this.#name(true);
  }

  hide(): void {
    this.frame.hidden = true;
    this.button.hidden = false;
    this.#name(false);
  }

  /** While the rest is loaded. */
  wait(): void {
    this.frame.replaceChildren(el("p", { class: "status", role: "status" }, this.#strings.opening));
  }

  fail(retry: () => void): void {
    const { openFailed, tryAgain } = this.#strings;
    const again = button({ icon: "retry", text: tryAgain, onClick: retry });
    this.frame.replaceChildren(el("div", { class: "status", role: "alert" }, el("p", {}, openFailed), again));
  }

  #name(isOpen: boolean): void {
    const { open, close } = this.#strings;
    const name = isOpen ? close : open;
    this.button.setAttribute("aria-expanded", String(isOpen));
    if (!this.#floating) return;
    this.button.setAttribute("aria-label", name);
    this.button.title = name;
    this.button.replaceChildren(icon(isOpen ? "chevron" : "chat"));
  }
}
