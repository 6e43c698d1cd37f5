/** What was typed and not sent: it belongs to its chat and outlives reloads. */

const KEY = "mlc-edge.draft";

/** A new chat's draft is its tab's own: several may be begun. */
function placeOf(conversationId: string): { area: Storage; key: string } {
  if (conversationId === "") return { area: sessionStorage, key: KEY };
  return { area: localStorage, key: `${KEY}.${conversationId}` };
}

/** "" stands for a new chat. */
export function loadDraft(conversationId: string): string {
  try {
    const { area, key } = placeOf(conversationId);
    return area.getItem(key) ?? "";
  } catch {
    return "";
  }
}

export function keepDraft(conversationId: string, text: string): void {
  try {
    const { area, key } = placeOf(conversationId);
    if (text) area.setItem(key, text);
    else area.removeItem(key);
  } catch {
    // Storage is off or full: the draft then lasts as long as the page.
  }
}
