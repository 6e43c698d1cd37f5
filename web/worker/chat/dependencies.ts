/** What the page needs from outside; main.ts gives the real ones, tests give their own. */
import type {
  DeletedBundle,
  ServiceWorkerStatus,
  StorageEstimateBytes,
  StoredBundle,
} from "../service-worker/client.ts";
import type { ChatEngine } from "./engine.ts";
import type { ConversationStore } from "./store.ts";

/** The service worker's client. */
export interface OfflineFiles {
  register(): Promise<ServiceWorkerStatus>;
  listStoredBundles(): Promise<StoredBundle[]>;
  deleteBundle(lockUrl: string): Promise<DeletedBundle>;
  requestPersistence(): Promise<boolean>;
  storageEstimate(): Promise<StorageEstimateBytes>;
  onUpdateAvailable(listener: (version: string) => void): () => void;
  applyUpdate(): void;
}

export interface ChatDependencies {
  /** Called at most once, after the service worker was registered: it then serves the engine's files. */
  createEngine(): ChatEngine;
  files: OfflineFiles;
  store: ConversationStore;
  /** Where bundles/index.json is. */
  indexUrl: string;
}
