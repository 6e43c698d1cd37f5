/** SHA-256: the browser's own for whole buffers, incremental for streams. */
import { sha256 } from "@noble/hashes/sha2.js";
import { bytesToHex } from "@noble/hashes/utils.js";

export type Bytes = Uint8Array<ArrayBuffer>;

/** Hex digest of a whole buffer. */
export async function digest(bytes: Bytes): Promise<string> {
  // Pages that came over plain http have no `crypto.subtle`.
  if (!crypto.subtle) return bytesToHex(sha256(bytes));
  return bytesToHex(new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)));
}

/** Digest of bytes that arrive in pieces. */
export class StreamDigest {
  readonly #hash = sha256.create();

  update(bytes: Bytes): void {
    this.#hash.update(bytes);
  }

  /** Hex digest of all bytes so far; ends this object's life. */
  finish(): string {
    return bytesToHex(this.#hash.digest());
  }
}

/** Bytes are not the ones that their address promises. */
export class IntegrityError extends Error {
  override readonly name = "IntegrityError";

  constructor(url: string, expected: string, actual: string) {
    super(`${url} has SHA-256 ${actual}, expected ${expected}`);
  }
}
