import { Lexer, type MarkedOptions, type Token, type Tokens, type TokensList } from "marked";
import { leadingJson } from "./data.ts";

/** Where references lead, by their labels. */
export type Links = TokensList["links"];

/** The blocks of a text. What stands in them is read block by block, as most of them are shown already. */
export class Draft {
  readonly #lexer: Lexer;
  readonly #state: Lexer["state"];
  readonly #unread: Map<Token[], string>;

  /**
   * @param links those that were defined before this part of the text.
   * @param isStart whether nothing stands before it.
   */
  constructor(text: string, links: Links, options: MarkedOptions, isStart = false) {
    this.#lexer = new Lexer(options);
    this.#state = { ...this.#lexer.state };
    Object.assign(this.#lexer.tokens.links, links);
    const json = isStart ? leadingJson(text) : null;
    if (json) this.#lexer.tokens.push(json);
    this.#lexer.blockTokens(text.slice(json?.raw.length ?? 0), this.#lexer.tokens);
    this.#unread = new Map(this.#lexer.inlineQueue.map(({ tokens, src }) => [tokens, src]));
  }

  get blocks(): TokensList {
    return this.#lexer.tokens;
  }

  /** The block with all that stands in it. */
  read<T extends Token>(block: T): T {
    for (const tokens of contentsOf(block)) {
      const text = this.#unread.get(tokens);
      this.#unread.delete(tokens);
      if (text === undefined) for (const inner of tokens) this.read(inner);
      else {
        // A tag that stays open in one block says nothing about the next.
        this.#lexer.state = { ...this.#state };
        this.#lexer.inlineTokens(text, tokens);
      }
    }
    return block;
  }
}

function contentsOf(block: Token): Token[][] {
  if (isTable(block)) return [...block.header, ...block.rows.flat()].map(({ tokens }) => tokens);
  if (isList(block)) return block.items.map(({ tokens }) => tokens);
  return "tokens" in block && block.tokens ? [block.tokens] : [];
}

export function isList(token: Token): token is Tokens.List {
  return token.type === "list";
}

export function isTable(token: Token): token is Tokens.Table {
  return token.type === "table";
}
