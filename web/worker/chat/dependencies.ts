/** What the page needs from outside; main.ts gives the real ones, tests give their own. */
import type { ServiceWorkerStatus } from "../service-worker/client.ts";
import type { ChatEngine } from "../ui/engine.ts";
import type { ConversationStore } from "./store.ts";

/** The service worker's client: it keeps the page itself. */
export interface AppFiles {
  register(): Promise<ServiceWorkerStatus>;
  onUpdateAvailable(listener: (version: string) => void): () => void;
  applyUpdate(): void;
}

export interface ChatDependencies {
  /** Called at most once, after the service worker was registered: it then keeps the engine's script. */
  createEngine(): ChatEngine;
  files: AppFiles;
  store: ConversationStore;
  /** Where bundles/index.json is. */
  indexUrl: string;
}
