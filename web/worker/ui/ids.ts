/** Names for what is kept. */

let last = 0;

/** Unlike any other, and behind all that this page made before: ids sort by age. */
export function newId(): string {
  last = Math.max(Date.now(), last + 1);
  // crypto.randomUUID isn't there for pages that a device serves without TLS.
  const random = [...crypto.getRandomValues(new Uint8Array(6))].map((byte) => byte.toString(36).padStart(2, "0"));
  return `${last.toString(36)}${random.join("")}`;
}
