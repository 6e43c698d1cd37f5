/** A KV cache in plain arrays, which refuses what TVM's refuses. */
import assert from "node:assert/strict";
import type { KvStore } from "../../web/worker/engine/kv-cache.ts";

/** A token with what its chunk, and all before it, made of it. */
interface Computed {
  readonly token: number;
  readonly bits: number;
}

const pages = (length: number): number => Math.ceil(length / 16);

export class PlainStore implements KvStore {
  readonly held = new Map<number, Computed[]>();
  readonly totalPages: number;
  readonly log: string[] = [];

  constructor(totalPages = 1000) {
    this.totalPages = totalPages;
  }

  addSequence(sequence: number): void {
    assert.ok(!this.held.has(sequence));
    this.held.set(sequence, []);
  }

  removeSequence(sequence: number): void {
    assert.ok(this.held.delete(sequence));
    this.log.push(`remove ${sequence}`);
  }

  popTokens(sequence: number, count: number): void {
    const computed = this.of(sequence);
    assert.ok(count > 0 && count <= computed.length);
    computed.splice(computed.length - count);
    this.log.push(`pop ${sequence} ${count}`);
  }

  forkSequence(parent: number, child: number, length: number): void {
    const computed = this.of(parent);
    assert.ok(length > 0 && length <= computed.length && !this.held.has(child));
    this.held.set(child, computed.slice(0, length));
    this.log.push(`fork ${parent} ${child} ${length}`);
    this.#checkPages();
  }

  reserve(sequence: number, count: number): void {
    this.of(sequence).push(...Array.from({ length: count }, () => ({ token: -1, bits: -1 })));
    this.#checkPages();
  }

  read(sequence: number): Uint8Array {
    return new TextEncoder().encode(JSON.stringify(this.of(sequence)));
  }

  write(sequence: number, bytes: Uint8Array): void {
    const computed = JSON.parse(new TextDecoder().decode(bytes));
    assert.equal(computed.length, this.of(sequence).length);
    this.held.set(sequence, computed);
  }

  /** What a step does: bits depend on the chunk and on all before it. */
  forward(chunk: readonly number[], sequence: number): number {
    const computed = this.of(sequence);
    const start = computed.length;
    for (const [index, token] of chunk.entries()) {
      let bits = computed.at(-1)?.bits ?? 17;
      for (const part of [token, start, index, chunk.length]) bits = Math.imul(bits ^ part, 0x01000193) >>> 0;
      computed.push({ token, bits });
    }
    this.#checkPages();
    return computed.at(-1)?.bits ?? 0;
  }

  tokens(sequence: number): number[] {
    return this.of(sequence).map(({ token }) => token);
  }

  of(sequence: number): Computed[] {
    const computed = this.held.get(sequence);
    assert.ok(computed, `there is no sequence ${sequence}`);
    return computed;
  }

  #checkPages(): void {
    const used = [...this.held.values()].reduce((sum, { length }) => sum + pages(length), 0);
    assert.ok(used <= this.totalPages, `${used} pages of ${this.totalPages}`);
  }
}
