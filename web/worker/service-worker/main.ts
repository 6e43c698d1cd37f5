/** Wires the browser's events to the parts that answer them. */
import { AppShell } from "./app-shell.ts";
import { ContentFiles } from "./content.ts";
import { Documents } from "./documents.ts";
import { PartStore } from "./part-store.ts";
import { LIMITS, type Route, route } from "./policy.ts";
import type {
  ServiceWorkerEvent,
  ServiceWorkerReplies,
  ServiceWorkerReply,
  ServiceWorkerRequest,
} from "./protocol.ts";

declare const self: ServiceWorkerGlobalScope;

const scope = new URL(self.registration.scope);
const store = new PartStore(self.location.origin);
const shell = new AppShell(scope);
const documents = new Documents(store, LIMITS);
const content = new ContentFiles(store, LIMITS, notify);

self.addEventListener("install", (event) => {
  // Stored versions and files outlive this script, so a new one can take over at once.
  event.waitUntil(shell.update().then(() => self.skipWaiting()));
});

self.addEventListener("activate", (event) => {
  event.waitUntil(self.clients.claim());
});

self.addEventListener("fetch", (event) => {
  const wanted = route(event.request, scope);
  if (wanted.kind === "network") return;
  if (wanted.kind === "page") event.waitUntil(update().catch(() => {}));
  if (wanted.kind === "content") {
    const { response, finished } = content.respond(event.request, wanted.sha256);
    event.waitUntil(finished.catch(() => {}));
    event.respondWith(response);
  } else {
    event.respondWith(respond(event.request, wanted));
  }
});

self.addEventListener("message", (event) => {
  const port = event.ports[0];
  if (!port) return;
  const answer = reply(event.data as ServiceWorkerRequest).then(
    (value): ServiceWorkerReply<ServiceWorkerRequest["kind"]> => ({ ok: true, value }),
    (error: unknown) => ({ ok: false as const, error: String(error) }),
  );
  event.waitUntil(answer.then((message) => port.postMessage(message)));
});

async function respond(
  request: Request,
  { kind }: Exclude<Route, { kind: "content" | "network" }>,
): Promise<Response> {
  switch (kind) {
    case "document":
      return documents.respond(request);
    case "page":
      return (await shell.page()) ?? fetch(request);
    case "app":
      return (await shell.match(request)) ?? fetch(request);
    case "navigation":
      return fetch(request).catch(async (error: unknown) => {
        const page = await shell.page();
        if (page) return page;
        throw error;
      });
  }
}

function reply(
  request: ServiceWorkerRequest,
): Promise<ServiceWorkerReplies[ServiceWorkerRequest["kind"]]> {
  switch (request.kind) {
    case "list-bundles":
      return documents.list();
    case "delete-bundle":
      return documents.delete(request.lockUrl);
    case "check-update":
      return update();
  }
}

async function update(): Promise<ServiceWorkerReplies["check-update"]> {
  const result = await shell.update();
  if (result.changed) notify({ kind: "update", version: result.version });
  return result;
}

/** Tells every page of this app, controlled or not. */
function notify(event: ServiceWorkerEvent): void {
  void self.clients.matchAll({ includeUncontrolled: true, type: "window" }).then((clients) => {
    for (const client of clients) {
      if (client.url.startsWith(scope.href)) client.postMessage(event);
    }
  });
}
