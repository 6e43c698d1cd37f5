/** Conversations in the fragment of an address: JSON, deflated, in the letters of RFC 4648's base64url. */
import { newId } from "../ui/ids.ts";
import { titleOf } from "../ui/request.ts";
import { type Archived, parseArchive, toArchive } from "./archive.ts";
import { DEFAULT_SETTINGS } from "./settings.ts";
import { STRINGS } from "./strings.ts";
import type { StoredMessage } from "./tree.ts";

/** Longer links are cut by messengers and mail. */
export const MAX_LINK = 30_000;
/** Of the JSON: a small link may unpack to any size. */
const MAX_BYTES = 4_000_000;

/** The branch that is shown, for others: its instructions only if they are wanted. */
export function shareable({ conversation, messages }: Archived, withPrompt: boolean): Archived {
  const { settings } = conversation;
  const shared = { ...DEFAULT_SETTINGS, systemPrompt: withPrompt ? settings.systemPrompt : "" };
  const leafId = messages.at(-1)?.id ?? null;
  return { conversation: { ...conversation, settings: shared, leafId, pinned: false }, messages };
}

/** A branch as a link's text. */
export async function pack({ conversation, messages }: Archived): Promise<string> {
  const short = messages.map((message, at): StoredMessage => {
    const { role, content, createdAt, state, model } = message;
    const common = { id: String(at), conversationId: "0", parentId: at === 0 ? null : String(at - 1) };
    return { ...common, role, content, createdAt, ...(state && { state }), ...(model && { model }) };
  });
  const archive = toArchive([{ conversation: { ...conversation, id: "0", leafId: null }, messages: short }], 0);
  const deflated = new Blob([archive]).stream().pipeThrough(new CompressionStream("deflate-raw"));
  return toBase64Url(new Uint8Array(await new Response(deflated).arrayBuffer()));
}

/** What a link holds, by ids of its own, so that it stands beside all that is kept. Throws Error, for people. */
export async function unpack(text: string): Promise<Archived> {
  const json = await inflate(fromBase64Url(text));
  const [shared, ...others] = parseArchive(json, STRINGS.thisLink);
  if (!shared || others.length > 0 || shared.messages.length === 0) throw new Error(STRINGS.linkEmpty);
  const conversationId = newId();
  let parentId: string | null = null;
  // Nothing but the words is taken from strangers; what follows what doesn't matter in a branch.
  const messages = shared.messages.map(({ role, content, createdAt, state, model }) => {
    const message: StoredMessage = { id: newId(), conversationId, parentId, role, content, createdAt };
    if (state) message.state = state;
    if (model) message.model = model;
    parentId = message.id;
    return message;
  });
  const title = titleOf(shared.conversation.title) || STRINGS.sharedChat;
  const settings = { ...DEFAULT_SETTINGS, systemPrompt: shared.conversation.settings.systemPrompt };
  const own = { id: conversationId, title, named: true, pinned: false, leafId: parentId, settings };
  return { conversation: { ...shared.conversation, ...own }, messages };
}

async function inflate(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  const reader = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate-raw")).getReader();
  const decoder = new TextDecoder();
  let text = "";
  let size = 0;
  for (;;) {
    const { done, value } = await reader.read().catch(() => {
      throw new Error(STRINGS.linkDamaged);
    });
    if (done) return text + decoder.decode();
    size += value.length;
    if (size > MAX_BYTES) {
      void reader.cancel();
      throw new Error(STRINGS.linkTooBig);
    }
    text += decoder.decode(value, { stream: true });
  }
}

function toBase64Url(bytes: Uint8Array): string {
  let binary = "";
  for (const byte of bytes) binary += String.fromCharCode(byte);
  return btoa(binary).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}

function fromBase64Url(text: string): Uint8Array<ArrayBuffer> {
  try {
    const binary = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
    return Uint8Array.from(binary, (letter) => letter.charCodeAt(0));
  } catch (error) {
    throw new Error(STRINGS.linkDamaged, { cause: error });
  }
}
