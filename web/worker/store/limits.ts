/** How much of a file is kept, read and waited for at once. */

const MIB = 1 << 20;

export const LIMITS = {
  /** An interrupted download loses at most one part; fewer parts are read faster. */
  partBytes: (fileBytes: number): number => (fileBytes > 8 * MIB ? 8 * MIB : MIB / 8),
  /** A broken transfer is continued so often without one new byte before it is given up. */
  resumeAttempts: 5,
  resumeDelayMs: (attempt: number): number => Math.min(200 * 2 ** attempt, 5_000),
  /** A connection that brings nothing for so long is given up for a new one. */
  silenceMs: 30_000,
  /** A network that doesn't answer for so long counts as absent, where a copy is stored. */
  documentTimeoutMs: 5_000,
  /** Storage that is left to the browser and to the page's own data. */
  reservedBytes: MIB,
  /** All saved states together; the oldest make room. */
  maxStateBytes: 512 * MIB,
} as const;

export type Limits = typeof LIMITS;
