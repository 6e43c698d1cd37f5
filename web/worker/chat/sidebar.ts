/** The list of conversations: a column on wide screens, a drawer on a phone. */
import { html, nothing, render, type TemplateResult } from "lit-html";
import { guard } from "lit-html/directives/guard.js";
import { repeat } from "lit-html/directives/repeat.js";
import { byId, icon } from "../ui/dom.ts";
import type { IconName } from "../ui/icons.ts";
import { filled } from "../ui/strings.ts";
import type { Conversation } from "../ui/types.ts";
import { STRINGS } from "./strings.ts";
import type { ExportFormat } from "./transfer.ts";

export interface SidebarActions {
  newChat(): void;
  newTemporary(): void;
  pin(conversation: Conversation, pinned: boolean): void;
  rename(conversation: Conversation): void;
  share(conversation: Conversation): void;
  remove(conversation: Conversation): void;
  exportAs(conversation: Conversation, format: ExportFormat): void;
  exportAll(format: ExportFormat): void;
  importFiles(files: File[]): void;
  /** Ids of the conversations that have these words. */
  search(words: string): Promise<Set<string>>;
}

export class Sidebar {
  readonly #sidebar = byId("sidebar", HTMLElement);
  readonly #list = byId("conversations", HTMLElement);
  readonly #opener = byId("open-sidebar", HTMLButtonElement);
  readonly #main = document.querySelector("main") ?? document.body;
  readonly #actions: SidebarActions;
  readonly #phone = matchMedia("(max-width: 760px)");
  readonly #search = byId("search", HTMLInputElement);
  #conversations: readonly Conversation[] = [];
  #currentId = "";
  /** Those that were found; null without a search. */
  #found: Set<string> | null = null;

  constructor(actions: SidebarActions) {
    this.#actions = actions;
    this.#opener.addEventListener("click", () => this.#toggle(true));
    byId("close-sidebar", HTMLButtonElement).addEventListener("click", () => this.#toggle(false));
    byId("scrim", HTMLButtonElement).addEventListener("click", () => this.#toggle(false));
    const begin = { "new-chat": () => this.#actions.newChat(), "temporary-chat": () => this.#actions.newTemporary() };
    for (const [id, run] of Object.entries(begin)) {
      byId(id, HTMLButtonElement).addEventListener("click", () => {
        this.close();
        // The list shows what begins.
        this.#search.value = "";
        void this.#find();
        run();
      });
    }
    document.addEventListener("keydown", (event) => {
      const layered = document.querySelector("dialog[open], [popover]:popover-open");
      const isCleared = event.target === this.#search && this.#search.value !== "";
      if (event.key === "Escape" && this.#open && !layered && !isCleared) this.#toggle(false);
    });
    this.#phone.addEventListener("change", () => this.#toggle(false));
    this.#search.addEventListener("input", () => void this.#find());
    const exports = byId("export-menu", HTMLElement);
    exports.addEventListener("beforetoggle", () => place(exports, byId("export-all", HTMLElement)));
    for (const format of ["markdown", "json"] as const) {
      byId(`export-all-${format}`, HTMLButtonElement).addEventListener("click", () => {
        exports.hidePopover();
        this.#actions.exportAll(format);
      });
    }
    const file = byId("import-file", HTMLInputElement);
    byId("import", HTMLButtonElement).addEventListener("click", () => file.click());
    file.addEventListener("change", () => {
      this.#actions.importFiles([...(file.files ?? [])]);
      file.value = "";
    });
    this.#takeDropped();
    this.#toggle(false);
  }

  /** Files may be dropped onto the list. */
  #takeDropped(): void {
    const hasFiles = ({ dataTransfer }: DragEvent) => dataTransfer?.types.includes("Files") ?? false;
    this.#sidebar.addEventListener("dragover", (event) => {
      if (hasFiles(event)) event.preventDefault();
    });
    this.#sidebar.addEventListener("drop", (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      this.#actions.importFiles([...(event.dataTransfer?.files ?? [])]);
    });
  }

  get #open(): boolean {
    return document.body.classList.contains("drawer-open");
  }

  render(conversations: readonly Conversation[], currentId: string): void {
    const changed = conversations !== this.#conversations;
    this.#conversations = conversations;
    this.#currentId = currentId;
    this.#draw();
    if (changed && this.#found) void this.#find();
  }

  #draw(): void {
    // An entry that moves would close its menu.
    if (this.#list.querySelector("[popover]:popover-open")) return;
    const all = this.#conversations;
    const shown = this.#found ? all.filter(({ id }) => this.#found?.has(id)) : all;
    const isEmpty = all.length === 0;
    byId("no-conversations", HTMLElement).hidden = !isEmpty;
    byId("no-matches", HTMLElement).hidden = isEmpty || shown.length > 0;
    byId("export-all", HTMLElement).hidden = isEmpty;
    this.#search.hidden = isEmpty && this.#search.value === "";
    const focused = this.#list.contains(document.activeElement) ? document.activeElement?.id : null;
    const pinned = shown.filter((conversation) => conversation.pinned);
    const recent = shown.filter((conversation) => !conversation.pinned);
    const heads = pinned.length > 0;
    render([this.#part(STRINGS.pinned, heads, pinned), this.#part(STRINGS.recent, heads, recent)], this.#list);
    // An entry that moves up loses it.
    if (focused) document.getElementById(focused)?.focus();
  }

  #part(name: string, isNamed: boolean, conversations: readonly Conversation[]): TemplateResult | typeof nothing {
    if (conversations.length === 0) return nothing;
    return html`
      ${isNamed ? html`<h2 class="part hint">${name}</h2>` : nothing}
      <ul aria-label=${isNamed ? name : nothing}>
        ${repeat(
          conversations,
          ({ id }) => id,
          (c) => this.#item(c, c.id === this.#currentId),
        )}
      </ul>
    `;
  }

  async #find(): Promise<void> {
    const words = this.#search.value.trim();
    const found = words === "" ? null : await this.#actions.search(words);
    // Others were typed meanwhile.
    if (words !== this.#search.value.trim()) return;
    this.#found = found;
    this.#draw();
  }

  /** Closes the drawer without moving the focus. */
  close(): void {
    if (this.#open) this.#toggle(false, false);
  }

  #item(conversation: Conversation, current: boolean): TemplateResult {
    const { id, title, pinned } = conversation;
    const label = filled(STRINGS.optionsFor, { title });
    const expand = (event: ToggleEvent) => {
      byId(`more-${id}`, HTMLButtonElement).setAttribute("aria-expanded", String(event.newState === "open"));
      if (event.newState === "closed") this.#draw();
    };
    return html`
      <li class=${current ? "conversation current" : "conversation"}>
        <a
          href="#${id}"
          id="open-${id}"
          title=${title}
          aria-current=${current ? "page" : nothing}
          @click=${() => this.close()}
          >${title}</a
        >
        <button
          type="button"
          class="icon-button"
          id="more-${id}"
          aria-label=${label}
          title=${label}
          aria-expanded="false"
          popovertarget="menu-${id}"
        >
          ${drawn("more")}
        </button>
        <div
          class="menu"
          popover="auto"
          id="menu-${id}"
          role="group"
          aria-label=${label}
          @beforetoggle=${() => place(byId(`menu-${id}`, HTMLElement), byId(`more-${id}`, HTMLElement))}
          @toggle=${expand}
        >
          ${this.#entry("pin", pinned ? STRINGS.unpin : STRINGS.pin, () => this.#actions.pin(conversation, !pinned))}
          ${this.#entry("edit", STRINGS.rename, () => this.#actions.rename(conversation))}
          ${this.#entry("share", STRINGS.share, () => this.#actions.share(conversation))}
          ${this.#entry("download", STRINGS.exportMarkdown, () => this.#actions.exportAs(conversation, "markdown"))}
          ${this.#entry("download", STRINGS.exportJson, () => this.#actions.exportAs(conversation, "json"))}
          ${this.#entry("trash", STRINGS.delete, () => this.#actions.remove(conversation), "danger")}
        </div>
      </li>
    `;
  }

  #entry(name: IconName, text: string, run: () => void, style = ""): TemplateResult {
    const choose = (event: Event) => {
      (event.currentTarget as HTMLElement).closest<HTMLElement>("[popover]")?.hidePopover();
      run();
    };
    return html`<button type="button" class="button quiet ${style}" @click=${choose}>${drawn(name)}${text}</button>`;
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

/** Drawn once, whatever else of its place changes. */
const drawn = (name: IconName) => guard([name], () => icon(name));

function place(menu: HTMLElement, anchor: HTMLElement): void {
  const { right, bottom, top } = anchor.getBoundingClientRect();
  // Its entries, which aren't drawn yet.
  const height = menu.childElementCount * 40 + 12;
  const below = bottom + height < window.innerHeight;
  menu.style.top = `${below ? bottom + 4 : Math.max(8, top - height)}px`;
  menu.style.left = `${Math.max(8, Math.min(right - 32, window.innerWidth - 232))}px`;
}
