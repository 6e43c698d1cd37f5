/** Registers `<mlc-chat>`; a page may name this script twice. */
import { MlcChat } from "./element.ts";

export { MlcChat };
export type * from "./types.ts";
export type { WidgetStrings } from "./strings/table.ts";

declare global {
  interface HTMLElementTagNameMap {
    "mlc-chat": MlcChat;
  }
}

if (globalThis.customElements && !customElements.get("mlc-chat")) customElements.define("mlc-chat", MlcChat);
