/** Conversations on their way to files and back. */
import type { Notices } from "../ui/notices.ts";
import { counted, filled } from "../ui/strings.ts";
import type { Conversation } from "../ui/types.ts";
import { parseArchive, toArchive } from "./archive.ts";
import type { Chat } from "./chat.ts";
import { download, fileName, toMarkdown } from "./export.ts";
import { STRINGS } from "./strings.ts";

export type ExportFormat = "json" | "markdown";

const TYPES: Record<ExportFormat, { extension: string; type: string }> = {
  json: { extension: "json", type: "application/json" },
  markdown: { extension: "md", type: "text/markdown" },
};

export class Transfer {
  readonly #chat: Chat;
  readonly #notices: Notices;

  constructor(chat: Chat, notices: Notices) {
    this.#chat = chat;
    this.#notices = notices;
  }

  async export(conversation: Conversation, format: ExportFormat): Promise<void> {
    const text = await this.#written([conversation], format);
    download(fileName(conversation.title, TYPES[format].extension), text, TYPES[format].type);
  }

  async exportAll(format: ExportFormat): Promise<void> {
    const text = await this.#written(this.#chat.library.conversations, format);
    const day = new Date().toISOString().slice(0, 10);
    download(`conversations-${day}.${TYPES[format].extension}`, text, TYPES[format].type);
  }

  /** JSON has all branches, Markdown those that are shown. */
  async #written(conversations: readonly Conversation[], format: ExportFormat): Promise<string> {
    const { library } = this.#chat;
    if (format === "json") return toArchive(await library.archived(conversations));
    const texts = conversations.map(async (one) => toMarkdown(one, await library.messagesOf(one)));
    return (await Promise.all(texts)).join("\n---\n\n");
  }

  /** What can be read is taken, whatever is wrong with other files. */
  async import(files: readonly File[]): Promise<void> {
    const taken = new Set<string>();
    const failed: string[] = [];
    for (const file of files) {
      try {
        const all = parseArchive(await file.text());
        await this.#chat.restore(all);
        for (const { conversation } of all) taken.add(conversation.id);
      } catch (error) {
        failed.push(filled(STRINGS.notImported, { file: file.name, problem: (error as Error).message }));
      }
    }
    if (taken.size > 0) this.#notices.toast(counted(STRINGS.imported, taken.size));
    if (failed.length > 0) this.#notices.show("import", { level: "warning", text: failed.join(" ") });
    else this.#notices.hide("import");
  }
}
