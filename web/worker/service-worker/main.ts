/** Wires the browser's events to the parts that answer them. */
import { AppShell } from "./app-shell.ts";
import { type Route, route } from "./policy.ts";
import type {
  ServiceWorkerEvent,
  ServiceWorkerReplies,
  ServiceWorkerReply,
  ServiceWorkerRequest,
} from "./protocol.ts";

declare const self: ServiceWorkerGlobalScope;

const scope = new URL(self.registration.scope);
const shell = new AppShell(scope);

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
  if (wanted.kind === "page") event.waitUntil(update(event.resultingClientId).catch(() => {}));
  event.respondWith(respond(event.request, wanted));
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
  { kind }: Exclude<Route, { kind: "network" }>,
): Promise<Response> {
  switch (kind) {
    case "page":
      return (await shell.page()) ?? fetch(request);
    case "app":
      return (await shell.match(request)) ?? fetch(request);
    case "navigation":
      return fetch(request).catch(async (error: unknown) => {
        // At another address the page would look for its files in the wrong place.
        if (await shell.page()) return Response.redirect(scope);
        throw error;
      });
  }
}

function reply(
  request: ServiceWorkerRequest,
): Promise<ServiceWorkerReplies[ServiceWorkerRequest["kind"]]> {
  switch (request.kind) {
    case "check-update":
      return update();
  }
}

/** Looks for an update, and tells pages of it: also `comingId`, the one whose visit asks for it. */
async function update(comingId = ""): Promise<ServiceWorkerReplies["check-update"]> {
  const result = await shell.update();
  if (!result.changed) return result;
  const event: ServiceWorkerEvent = { kind: "update", version: result.version };
  notify(event, comingId);
  // What has not been shown yet is no client yet.
  if (comingId !== "") (await self.clients.get(comingId))?.postMessage(event);
  return result;
}

/** Tells every page of this app, controlled or not, but this one. */
function notify(event: ServiceWorkerEvent, exceptId: string): void {
  void self.clients.matchAll({ includeUncontrolled: true, type: "window" }).then((clients) => {
    for (const client of clients) {
      if (client.url.startsWith(scope.href) && client.id !== exceptId) client.postMessage(event);
    }
  });
}
