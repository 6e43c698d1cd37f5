/** Messages between a page and the service worker. Types only. */

/** What the page asks; each request carries a MessagePort for its one reply. */
export type ServiceWorkerRequest = { kind: "check-update" };

/** Answer to each kind of request. */
export interface ServiceWorkerReplies {
  "check-update": { version: string; changed: boolean };
}

export type ServiceWorkerReply<K extends keyof ServiceWorkerReplies> =
  | { ok: true; value: ServiceWorkerReplies[K] }
  | { ok: false; error: string };

/** What the service worker tells every page of its scope, unasked: a reload shows a new version. */
export type ServiceWorkerEvent = { kind: "update"; version: string };
