/** What people write stays text, even where it looks like a model's control token. */
import { Tokenizer } from "@huggingface/tokenizers";
import { EngineError } from "../shared/errors.ts";
import type { ChatMessage } from "./request.ts";
import { TextPieces } from "./text-pieces.ts";
import { TokenFinder } from "./token-finder.ts";
import type { AddedToken, TokenizerJson } from "./vocabulary.ts";

/** Private use: characters that stand for something in this module alone. */
const PRIVATE = [
  [0xe000, 0xf8ff],
  [0xf0000, 0xffffd],
  [0x100000, 0x10fffd],
] as const;
/** Texts that a tokenizer hardly joins with what follows. */
const JOINTS = ["\n", "."];
/** Characters on each side that decide whether tokens cross a place: more than the longest control token has. */
const CONTEXT = 128;

/** Messages in which characters stand for strings, and these strings. */
export interface SetApart {
  readonly messages: ChatMessage[];
  readonly strings: ReadonlyMap<string, string>;
}

/**
 * The tokens by which a chat template tells a model who speaks, and where turns begin and end.
 *
 * These are the special ones among the added tokens, and any others that the template's source
 * contains; in assistant messages the special ones alone, because templates look for the others there.
 */
export class ControlTokens {
  readonly #makePlain: () => Tokenizer;
  readonly #template: string;
  readonly #main: Tokenizer;
  #plainTokenizer: Tokenizer | null = null;
  readonly #ids: ReadonlySet<number>;
  readonly #addedIds: ReadonlySet<number>;
  readonly #special: TokenFinder;
  readonly #all: TokenFinder;
  readonly #beginsWithSpace: boolean;
  readonly #pieces: TextPieces;

  /** `tokenizer` and `config` are tokenizer.json and tokenizer_config.json; `template` writes prompts. */
  constructor(tokenizer: TokenizerJson, config: object, template: string) {
    const main = new Tokenizer(tokenizer, config);
    this.#makePlain = () => new Tokenizer({ ...tokenizer, added_tokens: [] }, config);
    this.#template = template;
    this.#main = main;
    const added = tokenizer.added_tokens ?? [];
    const special = added.filter(({ special, content }) => special && content.trim() !== "");
    const named = added.filter(
      ({ content }) => content.trim().length > 1 && template.includes(content),
    );
    const unknown = unknownToken(tokenizer);
    const control = [...special, ...named].filter(({ content }) => content !== unknown);
    this.#ids = new Set(control.map(({ id }) => id));
    this.#addedIds = new Set(added.map(({ id }) => id));
    this.#special = new TokenFinder(contents(special), main.normalizer);
    this.#all = new TokenFinder(contents([...special, ...named]), main.normalizer);
    this.#beginsWithSpace = parts(tokenizer).some(putsSpaceFirst);
    // Those that take the space before them belong together with it.
    const marks = [...contents(special.filter(({ lstrip }) => !lstrip))];
    this.#pieces = new TextPieces(marks, (text, at) => this.#isBorder(text, at));
  }

  /**
   * Puts a character of private use in the place of each string that isn't to become a control token:
   * the first ones that neither the messages nor the template have, in the order in which the strings
   * occur. Throws EngineError "invalid_request" if there are none left.
   */
  setApart(messages: readonly ChatMessage[]): SetApart {
    const characters = new Map<string, string>();
    const unused = unusedCharacters(() => [this.#template, ...messages.map(({ content }) => content)]);
    const standIn = (text: string): string => {
      const character = characters.get(text) ?? unused.next().value;
      characters.set(text, character);
      return character;
    };
    const found = messages.map(({ role, content }) => {
      const finder = role === "assistant" ? this.#special : this.#all;
      const parts = finder.split(content);
      return { role, content: parts.map((p) => (p.isControl ? standIn(p.text) : p.text)).join("") };
    });
    const strings = new Map([...characters].map(([text, character]) => [character, text]));
    return { messages: found, strings };
  }

  /** The tokens of a text. */
  encode(text: string): number[] {
    return encode(this.#main, text);
  }

  /**
   * The tokens of a text in which characters stand for the strings that were set apart, a part of it
   * at a time.
   */
  *encodeParts(text: string, strings: ReadonlyMap<string, string>): Generator<number[]> {
    const separator = new RegExp(`([${[...strings.keys()].join("")}])`, "u");
    let last: number | undefined;
    for (const part of strings.size > 0 ? text.split(separator) : [text]) {
      const string = strings.get(part);
      for (const piece of string === undefined ? this.#pieces.cut(part) : [string]) {
        const goesOn = this.#goesOn(last);
        const ids =
          string === undefined
            ? this.#tokens(this.#main, piece, goesOn)
            : this.#plainIds(string, goesOn);
        last = ids.at(-1) ?? last;
        yield ids;
      }
    }
  }

  /** A space that is put in front belongs to the first text after an added token. */
  #goesOn(last: number | undefined): boolean {
    return last !== undefined && !this.#addedIds.has(last);
  }

  /** Whether the tokens of a text are those of its two sides, as its surroundings say. */
  #isBorder(text: string, at: number): boolean {
    const before = text.slice(Math.max(0, at - CONTEXT), at);
    const after = text.slice(at, at + CONTEXT);
    // Within a word, which tokens it has depends on the whole of it.
    if (!/^\s/.test(after) && this.#countWords(before) + this.#countWords(after) > this.#countWords(before + after)) {
      return false;
    }
    const left = this.encode(before);
    const right = this.#tokens(this.#main, after, this.#goesOn(left.at(-1)));
    return String([...left, ...right]) === String(this.encode(before + after));
  }

  /** Parts of a text that a tokenizer's model gets one by one. */
  #countWords(text: string): number {
    const normalized = this.#main.normalizer?.normalize(text) ?? text;
    return this.#main.pre_tokenizer?.pre_tokenize(normalized).length ?? 1;
  }

  /** The tokens of a text, none of which is a control token. */
  #plainIds(text: string, goesOn: boolean): number[] {
    const ids = this.#tokens(this.#plain, text, goesOn);
    if (!ids.some((id) => this.#ids.has(id))) return ids;
    // A model's own vocabulary may have the string as one piece.
    return [...text]
      .flatMap((letter, index) => this.#tokens(this.#plain, letter, goesOn || index > 0))
      .filter((id) => !this.#ids.has(id));
  }

  /** The tokens of a text; without a space in front of it if it goes on after another. */
  #tokens(tokenizer: Tokenizer, text: string, goesOn: boolean): number[] {
    for (const joint of goesOn && this.#beginsWithSpace ? JOINTS : []) {
      const before = encode(tokenizer, joint);
      const both = encode(tokenizer, joint + text);
      if (before.length > 0 && before.every((id, index) => both[index] === id)) {
        return both.slice(before.length);
      }
    }
    return encode(tokenizer, text);
  }

  /** Made when it is needed first: it holds the vocabulary once more. */
  get #plain(): Tokenizer {
    return (this.#plainTokenizer ??= this.#makePlain());
  }
}

function encode(tokenizer: Tokenizer, text: string): number[] {
  return tokenizer.encode(text, { add_special_tokens: false }).ids;
}

function contents(tokens: readonly AddedToken[]): Set<string> {
  return new Set(tokens.map(({ content }) => content));
}

/** Characters of private use that no text has; throws EngineError after the last one. */
function* unusedCharacters(texts: () => string[]): Generator<string, never> {
  const used = new Set(texts().flatMap((text) => text.match(/\p{Co}/gu) ?? []));
  for (const [first, last] of PRIVATE) {
    for (let code = first; code <= last; code++) {
      const character = String.fromCodePoint(code);
      if (!used.has(character)) yield character;
    }
  }
  throw new EngineError({
    code: "invalid_request",
    message: "The messages have too many characters of private use.",
    remedy: "Leave some out.",
    param: "messages",
  });
}

/** What ordinary text that the model doesn't know becomes. */
function unknownToken({ model }: TokenizerJson): string | undefined {
  if (typeof model.unk_id === "number" && Array.isArray(model.vocab)) {
    return model.vocab[model.unk_id]?.[0];
  }
  return model.unk_token ?? undefined;
}

interface Part {
  type: string;
  prepend_scheme?: string;
  add_prefix_space?: boolean;
  normalizers?: Part[];
  pretokenizers?: Part[];
}

/** What a tokenizer does to a text before its model, step by step. */
function parts({ normalizer, pre_tokenizer: words }: TokenizerJson): Part[] {
  const flatten = (part: Part): Part[] => [
    part,
    ...[...(part.normalizers ?? []), ...(part.pretokenizers ?? [])].flatMap(flatten),
  ];
  return [normalizer, words].flatMap((part) => (part ? flatten(part as Part) : []));
}

function putsSpaceFirst({ type, prepend_scheme: scheme, add_prefix_space: prefix }: Part): boolean {
  if (type === "Metaspace") return scheme !== "never" && prefix !== false;
  return type === "Prepend" || prefix === true;
}
