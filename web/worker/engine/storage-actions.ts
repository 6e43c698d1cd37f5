/** What pages do with stored bundles, by the store. */
import type { StorageAction, StorageReplies } from "../shared/protocol.ts";
import type { Store } from "../store/store.ts";
import { lockUrlOf } from "./bundle.ts";
import { stateName } from "./saved-states.ts";

export async function carryOut(
  action: StorageAction,
  store: Store,
  signal: AbortSignal,
): Promise<StorageReplies[StorageAction["action"]]> {
  switch (action.action) {
    case "list":
      return store.list();
    case "delete":
      return store.delete(lockUrlOf(action.bundleUrl));
    case "delete-state":
      return store.deleteState(lockUrlOf(action.bundleUrl), stateName(action.name));
    case "delete-leftovers":
      return store.deleteLeftovers();
    case "update":
      await store.update(lockUrlOf(action.bundleUrl), signal);
      return null;
  }
}
