/** Messages between a page and the service worker. Types only. */

/** What the page asks; each request carries a MessagePort for its one reply. */
export type ServiceWorkerRequest =
  | { kind: "list-bundles" }
  | { kind: "delete-bundle"; lockUrl: string }
  | { kind: "check-update" };

/** Answer to each kind of request. */
export interface ServiceWorkerReplies {
  "list-bundles": StoredBundle[];
  "delete-bundle": DeletedBundle;
  "check-update": { version: string; changed: boolean };
}

export type ServiceWorkerReply<K extends keyof ServiceWorkerReplies> =
  | { ok: true; value: ServiceWorkerReplies[K] }
  | { ok: false; error: string };

/** What the service worker tells every page of its scope, unasked. */
export type ServiceWorkerEvent =
  /** A file is passed through and not kept: the next visit downloads it again. */
  | { kind: "storage"; state: "memory-only"; url: string; neededBytes: number | null }
  /** A new version of the app is stored whole; a reload shows it. */
  | { kind: "update"; version: string }
  /** Bytes didn't match their hash; they were dropped and are fetched again. */
  | { kind: "integrity"; url: string; source: "network" | "cache" };

/** A bundle whose lock this browser keeps; its files may be stored in part. */
export interface StoredBundle {
  lockUrl: string;
  id: string;
  modelType: string;
  quantization: string;
  /** Bytes of all files that the lock names, for all targets. */
  totalBytes: number;
  /** Bytes of them that are stored, unfinished downloads included. */
  storedBytes: number;
  /** Targets that load without a network: their library and all shared files are stored. */
  offlineTargets: string[];
}

export interface DeletedBundle {
  freedBytes: number;
  /** Files that stay because another stored bundle names them. */
  keptFiles: number;
}
