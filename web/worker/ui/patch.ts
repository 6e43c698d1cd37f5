import { sourceOf } from "./math.ts";

/**
 * Makes the siblings `before` what `after` is, place by place. Elements that stay what they are keep their identity, and
 * with it selection, scroll and focus. What comes to stand in the document is taken from `after`.
 *
 * @param next where new siblings go: before this one, or at the end of `parent`.
 * @returns what stands there now.
 */
export function patch(parent: Node, before: readonly Node[], after: readonly Node[], next: Node | null): Node[] {
  const standing = after.map((fresh, place) => {
    const old = before[place];
    if (old && becomes(old, fresh)) return old;
    if (old) parent.replaceChild(fresh, old);
    else parent.insertBefore(fresh, next);
    return fresh;
  });
  for (const old of before.slice(after.length)) parent.removeChild(old);
  return standing;
}

/** Whether the old node could be made the same as the fresh one. */
function becomes(old: Node, fresh: Node): boolean {
  if (old instanceof Text && fresh instanceof Text) {
    replaceText(old, fresh.data);
    return true;
  }
  if (!(old instanceof Element && fresh instanceof Element) || old.tagName !== fresh.tagName) return false;
  // Typeset formulas and diagrams are more than their source.
  if (old.classList.contains("math") && old.className === fresh.className) return sourceOf(old) === sourceOf(fresh);
  if (old.classList.contains("drawn")) return codeOf(old) === codeOf(fresh);
  // A button tells what was done with it.
  if (old instanceof HTMLButtonElement) return true;
  for (const name of old.getAttributeNames()) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  patch(old, [...old.childNodes], [...fresh.childNodes], null);
  return true;
}

/** Touches only what differs, so that a selection before it stays. */
function replaceText(node: Text, text: string): void {
  const before = node.data;
  if (before === text) return;
  let same = 0;
  while (same < before.length && before[same] === text[same]) same += 1;
  node.replaceData(same, before.length - same, text.slice(same));
}

function codeOf(frame: Element): string | undefined {
  return frame.querySelector("code")?.textContent;
}
