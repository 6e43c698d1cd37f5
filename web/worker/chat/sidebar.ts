/** The list of conversations: a column on wide screens, a drawer on a phone. */
import { button, byId, el, icon } from "../ui/dom.ts";
import type { IconName } from "../ui/icons.ts";
import type { Conversation } from "../ui/types.ts";

export interface SidebarActions {
  newChat(): void;
  rename(conversation: Conversation): void;
  remove(conversation: Conversation): void;
  exportAs(conversation: Conversation, format: "json" | "markdown"): void;
}

export class Sidebar {
  readonly #sidebar = byId("sidebar", HTMLElement);
  readonly #list = byId("conversations", HTMLUListElement);
  readonly #opener = byId("open-sidebar", HTMLButtonElement);
  readonly #main = document.querySelector("main") ?? document.body;
  readonly #actions: SidebarActions;
  readonly #phone = matchMedia("(max-width: 760px)");

  constructor(actions: SidebarActions) {
    this.#actions = actions;
    this.#opener.addEventListener("click", () => this.#toggle(true));
    byId("close-sidebar", HTMLButtonElement).addEventListener("click", () => this.#toggle(false));
    byId("scrim", HTMLButtonElement).addEventListener("click", () => this.#toggle(false));
    byId("new-chat", HTMLButtonElement).addEventListener("click", () => {
      this.close();
      this.#actions.newChat();
    });
    document.addEventListener("keydown", (event) => {
      const layered = document.querySelector("dialog[open], [popover]:popover-open");
      if (event.key === "Escape" && this.#open && !layered) this.#toggle(false);
    });
    this.#phone.addEventListener("change", () => this.#toggle(false));
    this.#toggle(false);
  }

  get #open(): boolean {
    return document.body.classList.contains("drawer-open");
  }

  render(conversations: readonly Conversation[], currentId: string): void {
    byId("no-conversations", HTMLElement).hidden = conversations.length > 0;
    const focused = this.#list.contains(document.activeElement) ? document.activeElement?.id : null;
    this.#list.replaceChildren(...conversations.map((c) => this.#item(c, c.id === currentId)));
    if (focused) document.getElementById(focused)?.focus();
  }

  /** Closes the drawer without moving the focus. */
  close(): void {
    if (this.#open) this.#toggle(false, false);
  }

  #item(conversation: Conversation, current: boolean): HTMLLIElement {
    const link = el("a", { href: `#${conversation.id}`, id: `open-${conversation.id}` }, conversation.title);
    link.title = conversation.title;
    if (current) link.setAttribute("aria-current", "page");
    link.addEventListener("click", () => this.close());
    const menu = this.#menu(conversation);
    const more = button({ icon: "more", label: `Options for ${conversation.title}`, className: "icon-button" });
    more.id = `more-${conversation.id}`;
    more.setAttribute("aria-expanded", "false");
    more.setAttribute("popovertarget", menu.id);
    menu.addEventListener("toggle", (event) => {
      more.setAttribute("aria-expanded", String((event as ToggleEvent).newState === "open"));
    });
    menu.addEventListener("beforetoggle", () => place(menu, more));
    return el("li", { class: current ? "conversation current" : "conversation" }, link, more, menu);
  }

  #menu(conversation: Conversation): HTMLElement {
    const menu = el("div", { class: "menu", popover: "auto", id: `menu-${conversation.id}` });
    menu.setAttribute("role", "group");
    menu.setAttribute("aria-label", `Options for ${conversation.title}`);
    const add = (name: IconName, text: string, run: () => void, danger = false) => {
      const entry = button({ text, className: `button quiet${danger ? " danger" : ""}` });
      entry.prepend(icon(name));
      entry.addEventListener("click", () => {
        menu.hidePopover();
        run();
      });
      menu.append(entry);
    };
    add("edit", "Rename", () => this.#actions.rename(conversation));
    add("download", "Export as Markdown", () => this.#actions.exportAs(conversation, "markdown"));
    add("download", "Export as JSON", () => this.#actions.exportAs(conversation, "json"));
    add("trash", "Delete", () => this.#actions.remove(conversation), true);
    return menu;
  }

  #toggle(open: boolean, moveFocus = true): void {
    const was = this.#open;
    document.body.classList.toggle("drawer-open", open);
    this.#opener.setAttribute("aria-expanded", String(open));
    // What can't be seen must not be reached: the closed drawer, or the page behind the open one.
    this.#sidebar.inert = this.#phone.matches && !open;
    this.#main.inert = this.#phone.matches && open;
    if (!moveFocus || was === open) return;
    if (open) byId("new-chat", HTMLButtonElement).focus();
    else this.#opener.focus();
  }
}

function place(menu: HTMLElement, anchor: HTMLElement): void {
  const { right, bottom, top } = anchor.getBoundingClientRect();
  const height = 190;
  const below = bottom + height < window.innerHeight;
  menu.style.top = `${below ? bottom + 4 : Math.max(8, top - height)}px`;
  menu.style.left = `${Math.max(8, Math.min(right - 32, window.innerWidth - 232))}px`;
}
