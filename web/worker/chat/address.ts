/** What the page's address names, in its fragment, which no server is told. */

/** No conversation's id has a slash or an equals sign. */
const TEMPORARY = "/temporary";
const SHARED = "share=";

export type Place =
  /** "" for a new one. */
  | { kind: "conversation"; id: string }
  | { kind: "temporary" }
  | { kind: "shared"; packed: string };

export function placeOf(hash: string): Place {
  const name = hash.replace(/^#/, "");
  if (name === TEMPORARY) return { kind: "temporary" };
  if (name.startsWith(SHARED)) return { kind: "shared", packed: name.slice(SHARED.length) };
  return { kind: "conversation", id: name };
}

export const temporaryHash = `#${TEMPORARY}`;

/** The address at which anybody finds what is packed into it. */
export const sharedUrl = (packed: string): string => `${location.origin}${location.pathname}#${SHARED}${packed}`;

/** Names a conversation, or a new one, without leading there. */
export function nameInAddress(id: string): void {
  const hash = id === "" ? "" : `#${id}`;
  if (location.hash !== hash) history.replaceState(null, "", hash || location.pathname + location.search);
}
