/** What was typed and not sent: it belongs to its chat and outlives reloads and, but for new chats, its tab. */

const KEY = "mlc-edge.draft";

const keyOf = (conversationId: string): string => (conversationId === "" ? KEY : `${KEY}.${conversationId}`);

/** "" stands for a new chat, null for a temporary one. What this tab had typed comes first, then what another one did last. */
export function loadDraft(conversationId: string | null): string {
  if (conversationId === null) return "";
  try {
    const key = keyOf(conversationId);
    return sessionStorage.getItem(key) ?? (conversationId === "" ? null : localStorage.getItem(key)) ?? "";
  } catch {
    return "";
  }
}

/** Several tabs may have begun something for one chat: what is cleared here stays in the others. */
export function keepDraft(conversationId: string | null, text: string): void {
  if (conversationId === null) return;
  try {
    const key = keyOf(conversationId);
    const before = sessionStorage.getItem(key);
    sessionStorage.setItem(key, text);
    if (conversationId === "") return;
    if (text) localStorage.setItem(key, text);
    else if (localStorage.getItem(key) === before) localStorage.removeItem(key);
  } catch {
    // Storage is off or full: the draft then lasts as long as the page.
  }
}

/** For a chat that is deleted. */
export function forgetDraft(conversationId: string): void {
  try {
    sessionStorage.removeItem(keyOf(conversationId));
    localStorage.removeItem(keyOf(conversationId));
  } catch {
    // There is nothing to forget then.
  }
}
