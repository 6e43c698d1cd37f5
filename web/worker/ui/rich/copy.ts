/** What is copied of a text with formulas: their source, whole. */
import { sourceOf } from "../math.ts";

/** Gives the clipboard what is selected, with formulas as they were written. */
export function copyFormulas(event: ClipboardEvent): void {
  const selection = getSelection();
  if (!selection || selection.isCollapsed || selection.rangeCount === 0 || isTyped(event.target)) return;
  const range = selection.getRangeAt(0);
  const around = range.commonAncestorContainer;
  const root = around instanceof Element ? around : around.parentElement;
  const enclosing = root?.closest(".math");
  if (enclosing) return give(event, sourceOf(enclosing));
  const formulas = [...(root?.querySelectorAll(".math:has(> .tex)") ?? [])].filter((math) => range.intersectsNode(math));
  if (formulas.length === 0) return;
  const { anchorNode, anchorOffset, focusNode, focusOffset } = selection;
  const [first, last] = [formulas[0] as Element, formulas.at(-1) as Element];
  const whole = range.cloneRange();
  if (first.contains(range.startContainer)) whole.setStartBefore(first);
  if (last.contains(range.endContainer)) whole.setEndAfter(last);
  for (const math of formulas) math.classList.add("as-written");
  selection.removeAllRanges();
  selection.addRange(whole);
  give(event, selection.toString());
  for (const math of formulas) math.classList.remove("as-written");
  if (anchorNode && focusNode) selection.setBaseAndExtent(anchorNode, anchorOffset, focusNode, focusOffset);
}

function isTyped(target: EventTarget | null): boolean {
  return target instanceof HTMLInputElement || target instanceof HTMLTextAreaElement;
}

function give(event: ClipboardEvent, text: string): void {
  event.clipboardData?.setData("text/plain", text);
  event.preventDefault();
}
