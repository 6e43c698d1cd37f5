/** Keeps what a model computed of the messages that a site's chats begin with, for the next visit. */
import { digest } from "../shared/hash.ts";
import type { SavedState, StorageEvent } from "../shared/protocol.ts";
import {
  DamagedStateError, describeState, GoneStateError, type StateHeader, type StateKey,
} from "../store/state-store.ts";
import type { Store } from "../store/store.ts";
import { contextFull } from "./conversation.ts";
import { invalid, text } from "./fields.ts";
import { GRID_TOKENS } from "./kv-cache.ts";
import { readMessages } from "./request.ts";
import type { Session } from "./resident.ts";

/** Of what is stored, and of how its numbers are computed. */
const FORMAT = 1;
const MAX_NAME_CHARACTERS = 200;

/** A session's states, under the address that its bundle has for whoever asks. */
export class SavedStates {
  readonly #session: Session;
  readonly #store: Store;
  readonly #lockUrl: string;
  readonly #notify: (event: StorageEvent) => void;

  constructor(
    session: Session,
    { store, lockUrl, notify }: { store: Store; lockUrl: string; notify: (event: StorageEvent) => void },
  ) {
    this.#session = session;
    this.#store = store;
    this.#lockUrl = lockUrl;
    this.#notify = notify;
  }

  /**
   * Brings what chats with these messages begin with into the KV cache, from storage if it is there under
   * this name, else by computing it and storing that.
   *
   * Throws EngineError: invalid_request, context_length_exceeded, quota_exceeded, device_lost.
   */
  async save(name: unknown, messages: unknown, signal: AbortSignal): Promise<SavedState> {
    const key = this.#key(name);
    const { model, sequence } = this.#session;
    const tokens = await model.text.conversation.prefix(readMessages(messages), signal);
    const { contextWindowSize } = model.loaded;
    if (tokens.length >= contextWindowSize) throw contextFull(tokens.length, contextWindowSize);
    if (tokens.length === 0) throw nothingShared();
    const stored = await this.#store.states.header(key);
    if (stored && String(stored.tokens) === String(tokens)) {
      const loaded = await this.load(key.name);
      if (loaded) return loaded;
    }
    const shape = this.#shape(tokens);
    await this.#store.states.admit(key.name, shape.layerBytes * shape.layerCount);
    const { onGrid, layers } = await sequence.compute(tokens, signal);
    const header = { identity: await this.#identity(), tokens, onGrid, ...shape };
    await this.#store.states.save(key, { header, layers }, signal);
    return describeState(key, header);
  }

  /** Reads a state into the KV cache; null without one that is whole and of this very model and device. */
  async load(name: unknown): Promise<SavedState | null> {
    const key = this.#key(name);
    const { states } = this.#store;
    const header = await states.header(key);
    if (!header || header.identity !== (await this.#identity())) return null;
    const { sequence } = this.#session;
    const { tokens, onGrid } = header;
    try {
      this.#check(header);
      if (!sequence.holds(tokens, onGrid)) await sequence.adopt(tokens, { onGrid, layers: states.layers(key, header) });
      return describeState(key, header);
    } catch (error) {
      if (error instanceof GoneStateError) return null;
      if (!(error instanceof DamagedStateError)) throw error;
      this.#notify({ kind: "storage", state: "damaged", url: this.#lockUrl, source: "cache" });
      await states.delete(key);
      return null;
    }
  }

  #key(name: unknown): StateKey {
    return { lockUrl: this.#lockUrl, name: stateName(name) };
  }

  /** All that the numbers depend on beside the tokens. */
  #identity(): Promise<string> {
    const { bundle, target, loaded } = this.#session.model;
    const parts = [FORMAT, GRID_TOKENS, bundle.identity, target, loaded.adapter];
    return digest(new TextEncoder().encode(JSON.stringify(parts)));
  }

  #shape(tokens: readonly number[]): Pick<StateHeader, "layerBytes" | "layerCount"> {
    const { sequences } = this.#session.model.runner;
    return { layerBytes: sequences.layerBytes(tokens.length), layerCount: sequences.layers };
  }

  #check({ tokens, layerBytes, layerCount }: StateHeader): void {
    const shape = this.#shape(tokens);
    if (layerBytes === shape.layerBytes && layerCount === shape.layerCount) return;
    throw new DamagedStateError("the state has another shape than the KV cache");
  }
}

/** What a state may be called. Throws EngineError "invalid_request". */
export function stateName(name: unknown): string {
  const given = text(name, "name");
  if (given.length > 0 && given.length <= MAX_NAME_CHARACTERS) return given;
  throw invalid("name", `name must be a text of 1 to ${MAX_NAME_CHARACTERS} characters`, "Choose another.");
}

function nothingShared(): Error {
  return invalid(
    "messages",
    "The model's chat template lets prompts with these messages begin with nothing in common.",
    "Save a state of other messages.",
  );
}
