/** The conversation in the browser's storage, where the site wants it kept; several tabs may have it open. */
import type { Message } from "../ui/types.ts";
import type { TranscriptStorage } from "./types.ts";

/** Older messages than these aren't kept. */
const MAX_KEPT = 200;

export interface KeptPlace {
  storage: TranscriptStorage;
  storageKey: string;
}

/** What is kept in a place, as this page has it. */
export class Keeping {
  readonly #place: KeptPlace;
  /** Ids of what was kept when this page last took all of it over: what is missing since was removed. */
  #base: ReadonlySet<string>;

  constructor(place: KeptPlace) {
    this.#place = place;
    this.#base = idsOf(this.read());
  }

  isAt({ storage, storageKey }: KeptPlace): boolean {
    return storage === this.#place.storage && storageKey === this.#place.storageKey;
  }

  read(): Message[] {
    return read(this.#place);
  }

  /**
   * Keeps a conversation, joined with what other tabs have added to it and removed from it, and
   * gives what came of that. `isOpen`: the page goes on with its own messages for now.
   */
  join(messages: readonly Message[], isOpen: boolean): Message[] {
    const { storage, storageKey } = this.#place;
    if (storage === "none") return [...messages];
    const found = this.read();
    const joined = join(messages, found, this.#base);
    const worthy = joined.filter(({ role, content }, index) => role === "user" || content !== "" || !joined[index + 1]);
    const written = worthy.slice(-MAX_KEPT);
    const isWritten = write(areaOf(storage), storageKey, written);
    if (!isOpen) this.#base = idsOf(isWritten ? written : found);
    return joined;
  }

  /** Forgets it, also what other tabs have added. */
  clear(): void {
    forget(this.#place);
    this.#base = new Set();
  }

  /** Calls back when another tab has changed what is kept. */
  onChange(listener: () => void, signal: AbortSignal): void {
    const changed = ({ key, storageArea }: StorageEvent): void => {
      const isHere = key === null || key === this.#place.storageKey;
      if (isHere && storageArea === areaOf(this.#place.storage)) listener();
    };
    window.addEventListener("storage", changed, { signal });
  }
}

/** Forgets what is kept in a place. */
export function forget({ storage, storageKey }: KeptPlace): void {
  areaOf(storage)?.removeItem(storageKey);
}

/** Both keep their order; what only the other tabs have stands behind what they have it behind. */
function join(mine: readonly Message[], found: readonly Message[], base: ReadonlySet<string>): Message[] {
  const theirs = new Map(found.map((message) => [message.id, message]));
  const joined = mine
    .filter(({ id }) => theirs.has(id) || !base.has(id))
    .map((message) => newer(message, theirs.get(message.id)));
  let at = 0;
  for (const message of found) {
    const index = joined.findIndex(({ id }) => id === message.id);
    if (index >= 0) at = index + 1;
    else if (!base.has(message.id)) joined.splice(at++, 0, message);
  }
  return joined;
}

/** Only the page that writes an answer has it before the others. */
function newer(mine: Message, theirs: Message | undefined): Message {
  const isBehind = mine.state === "open" && theirs && (theirs.state !== "open" || theirs.content.length > mine.content.length);
  return isBehind ? theirs : mine;
}

function idsOf(messages: readonly Message[]): Set<string> {
  return new Set(messages.map(({ id }) => id));
}

function areaOf(storage: TranscriptStorage): Storage | null {
  try {
    if (storage === "session") return sessionStorage;
    return storage === "local" ? localStorage : null;
  } catch {
    // Denied, as in some frames: the conversation then ends with the page.
    return null;
  }
}

/** Whether it is kept now; where there is no room, what was kept before stays. What another tab wrote isn't written again: that could take back what it wrote since. */
function write(area: Storage | null, key: string, messages: readonly Message[]): boolean {
  try {
    const text = JSON.stringify(messages.map(keepable));
    if (messages.length === 0) area?.removeItem(key);
    else if (area?.getItem(key) !== text) area?.setItem(key, text);
    return area !== null;
  } catch {
    return false;
  }
}

/** What was kept; nothing of what another version or somebody else wrote. */
function read({ storage, storageKey }: KeptPlace): Message[] {
  try {
    const found: unknown = JSON.parse(areaOf(storage)?.getItem(storageKey) ?? "[]");
    return Array.isArray(found) && found.every(isMessage) ? found.map(keepable) : [];
  } catch {
    return [];
  }
}

function isMessage(value: unknown): value is Message {
  const { role, content } = (value ?? {}) as Record<string, unknown>;
  return (role === "user" || role === "assistant") && typeof content === "string";
}

/** An answer without a word is one that can be asked for again. */
function keepable({ id, role, content, state, createdAt }: Message, index: number): Message {
  const isCut = state === "length" || state === "abort" || state === "open";
  const ended = role === "assistant" && content === "" && !isCut ? "open" : "stop";
  // Those of other writers have no names but their places.
  const named = typeof id === "string" ? id : `kept-${index}`;
  return { id: named, role, content, createdAt, state: isCut ? state : ended };
}
