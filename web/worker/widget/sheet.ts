/** A style sheet for shadow roots, which all widgets of a page share. */

/** Sites have root font sizes of their own: here one `rem` is what `--mlc-chat-rem` says. */
const REM = /(?<![\w.-])(\d*\.?\d+)rem\b/g;

export function sheet(text: string): CSSStyleSheet {
  const made = new CSSStyleSheet();
  made.replaceSync(text.replace(REM, "calc($1 * var(--mlc-chat-rem, 1rem))"));
  return made;
}
