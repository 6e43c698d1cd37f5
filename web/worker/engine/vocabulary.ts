/** The bytes that each token stands for. */
import { EngineError } from "../shared/errors.ts";
import type { TokenBytes } from "./detokenizer.ts";

export interface AddedToken {
  id: number;
  content: string;
  special: boolean;
  /** It takes the space before it. */
  lstrip?: boolean;
}

interface Decoder {
  type: string;
  decoders?: Decoder[];
  content?: string;
  start?: number;
  pattern?: { String?: string };
  replacement?: string;
  prepend_scheme?: string;
  add_prefix_space?: boolean;
}

/** The parts of tokenizer.json that matter here. */
export interface TokenizerJson {
  added_tokens?: AddedToken[];
  decoder?: Decoder | null;
  normalizer?: object | null;
  pre_tokenizer?: object | null;
  model: {
    type: string;
    vocab: Record<string, number> | [string, number][];
    unk_id?: number | null;
    unk_token?: string | null;
  };
}

/** Looks up tokens of byte-level BPE, and of sentencepiece with byte fallback. */
export class Vocabulary implements TokenBytes {
  /** One more than the highest token id. */
  readonly size: number;
  /** An answer's first space is dropped: the tokenizer put it before every text. */
  readonly stripsFirstSpace: boolean;
  readonly #tokens: (string | undefined)[] = [];
  readonly #added = new Map<number, AddedToken>();
  readonly #toBytes: (token: string) => Uint8Array;

  /** Throws EngineError "bundle_invalid" for a decoder of another kind. */
  constructor(tokenizer: TokenizerJson) {
    const { vocab } = tokenizer.model;
    const entries: [string, number][] = Array.isArray(vocab)
      ? vocab.map(([token], id) => [token, id])
      : Object.entries(vocab);
    for (const [token, id] of entries) this.#tokens[id] = token;
    for (const token of tokenizer.added_tokens ?? []) {
      this.#tokens[token.id] = token.content;
      this.#added.set(token.id, token);
    }
    this.size = this.#tokens.length;
    const decoders = flatten(tokenizer.decoder);
    this.#toBytes = tokenBytes(decoders);
    this.stripsFirstSpace = decoders.some(
      ({ type, content, start, prepend_scheme: scheme, add_prefix_space: prefix }) =>
        (type === "Strip" && content === " " && start === 1) ||
        (type === "Metaspace" && scheme !== "never" && prefix !== false),
    );
  }

  /** UTF-8 of a token, maybe part of a character; empty for special and unknown tokens. */
  bytes(id: number): Uint8Array {
    const added = this.#added.get(id);
    if (added) return added.special ? new Uint8Array() : ENCODER.encode(added.content);
    const token = this.#tokens[id];
    return token === undefined ? new Uint8Array() : this.#toBytes(token);
  }

  /** A token for people: its text, or its name if it is special. */
  text(id: number): string {
    const added = this.#added.get(id);
    return added ? added.content : new TextDecoder().decode(this.bytes(id));
  }
}

const ENCODER = new TextEncoder();

function flatten(decoder: Decoder | null | undefined): Decoder[] {
  if (!decoder) return [];
  return decoder.type === "Sequence" ? (decoder.decoders ?? []).flatMap(flatten) : [decoder];
}

function tokenBytes(decoders: Decoder[]): (token: string) => Uint8Array {
  const types = new Set(decoders.map(({ type }) => type));
  if (types.has("ByteLevel")) return byteLevel();
  if (types.has("Metaspace")) return byteFallback("▁");
  if (types.has("ByteFallback")) {
    const space = decoders.find(({ type, content }) => type === "Replace" && content === " ");
    return byteFallback(space?.pattern?.String ?? "▁");
  }
  throw new EngineError({
    code: "bundle_invalid",
    message: `tokenizer.json has a decoder of ${[...types].join(", ") || "no kind"}.`,
    remedy: "Models need a byte-level BPE or a sentencepiece tokenizer.",
  });
}

function byteFallback(space: string): (token: string) => Uint8Array {
  return (token) => {
    const byte = /^<0x([0-9A-Fa-f]{2})>$/.exec(token)?.[1];
    if (byte) return Uint8Array.of(Number.parseInt(byte, 16));
    return ENCODER.encode(token.replaceAll(space, " "));
  };
}

/** GPT-2's way to write bytes as printable characters. */
function byteLevel(): (token: string) => Uint8Array {
  const byCharacter = new Map<string, number>();
  let next = 256;
  for (let byte = 0; byte < 256; byte++) {
    const printable =
      (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || (byte >= 174 && byte <= 255);
    byCharacter.set(String.fromCodePoint(printable ? byte : next++), byte);
  }
  return (token) =>
    Uint8Array.from(
      [...token].flatMap((character) => {
        const byte = byCharacter.get(character);
        return byte === undefined ? [...ENCODER.encode(character)] : [byte];
      }),
    );
}
