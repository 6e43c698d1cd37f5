/** The open widget's elements, with the ids that the parts of a conversation look for. */
import { button, el, icon } from "../ui/dom.ts";
import type { WidgetStrings } from "./strings/table.ts";

export interface MarkupActions {
  clear(): void;
  close(): void;
}

export function markup(strings: WidgetStrings, closable: boolean, actions: MarkupActions): Node[] {
  return [
    header(strings, closable, actions),
    el("div", { id: "notices", class: "notices", role: "region", "aria-label": strings.notices }),
    scroller(strings),
    dock(strings),
    el("div", { id: "toasts", class: "toasts" }),
    el("div", { id: "announcer", class: "visually-hidden", role: "status", "aria-live": "polite" }),
  ];
}

function header(strings: WidgetStrings, closable: boolean, actions: MarkupActions): HTMLElement {
  const className = "icon-button";
  const title = el("h2", { id: "title" }, el("slot", { name: "header" }, strings.title));
  const clear = button({ icon: "plus", label: strings.clear, className, onClick: () => actions.clear() });
  clear.id = "clear";
  clear.hidden = true;
  const bar = el("div", { class: "bar", part: "header" }, title, clear);
  if (closable) bar.append(button({ icon: "close", label: strings.close, className, onClick: () => actions.close() }));
  return bar;
}

function scroller(strings: WidgetStrings): HTMLElement {
  const greeting = [el("h3", { id: "welcome-title" }, strings.welcome), el("p", { id: "privacy" }), el("p", { id: "exception", hidden: "" })];
  const starters = el("ul", { id: "starters", class: "examples", "aria-label": strings.starters });
  const empty = el("slot", { name: "empty" }, ...greeting);
  return el(
    "div",
    { id: "scroller", class: "scroller", tabindex: "-1" },
    el("section", { id: "welcome", class: "welcome", part: "empty" }, empty, starters),
    el("div", { id: "log", class: "log", part: "log", role: "log", "aria-label": strings.messages, "aria-live": "off" }),
  );
}

function dock(strings: WidgetStrings): HTMLElement {
  const jump = button({ icon: "down", text: strings.latest, className: "button jump" });
  jump.id = "jump";
  jump.hidden = true;
  const card = el("section", { id: "card", class: "model-card", part: "consent", "aria-label": strings.title, hidden: "" });
  const hint = el("p", { class: "hint composer-hint", part: "footer" });
  hint.append(el("slot", { name: "footer" }, el("span", { id: "hint" })));
  return el("div", { class: "dock" }, jump, card, composer(strings), hint);
}

function composer(strings: WidgetStrings): HTMLFormElement {
  const { message, placeholder, send, stop } = strings;
  const box = el("textarea", { id: "message", rows: "1", dir: "auto", "aria-label": message, placeholder, enterkeyhint: "send" });
  const round = "round-button";
  const submit = el("button", { id: "send", class: round, type: "submit", "aria-label": send }, icon("send"));
  const halt = el("button", { id: "stop", class: round, type: "button", "aria-label": stop, "aria-keyshortcuts": "Escape" });
  halt.append(icon("stop"));
  halt.hidden = true;
  return el("form", { id: "composer", class: "composer", part: "composer", autocomplete: "off" }, box, submit, halt);
}
