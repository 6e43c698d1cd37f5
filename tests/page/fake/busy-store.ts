/** The page's store, that says whether it still reads or writes. */
import type { ConversationStore } from "../../../web/worker/chat/store.ts";

export function watched(store: ConversationStore): { store: ConversationStore; isBusy(): boolean } {
  const running = new Set<unknown>();
  const get = (_: ConversationStore, name: string | symbol): unknown => {
    const value: unknown = Reflect.get(store, name);
    if (typeof value !== "function") return value;
    return (...values: unknown[]): unknown => {
      const given: unknown = value.apply(store, values);
      // What follows one call begins in the task that ends it: a test finds no pause between them.
      const end = (): unknown => running.delete(given);
      if (given instanceof Promise) {
        running.add(given);
        given.then(end, end);
      }
      return given;
    };
  };
  return { store: new Proxy(store, { get }), isBusy: () => running.size > 0 };
}
