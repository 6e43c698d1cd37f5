/** The page's side of the service worker: registration and updates. */
import type {
  ServiceWorkerEvent,
  ServiceWorkerReplies,
  ServiceWorkerReply,
  ServiceWorkerRequest,
} from "./protocol.ts";

export type { ServiceWorkerEvent } from "./protocol.ts";

/**
 * `controlled`: the page opens without a network. `uncontrolled`: registered, but this page load
 * bypasses it (shift-reload). `unavailable`: no service workers here (plain http on a network
 * address, private mode, registration failed); everything works, but needs the network to start.
 */
export interface ServiceWorkerStatus {
  state: "controlled" | "uncontrolled" | "unavailable";
  reason: string | null;
}

/**
 * Registers the service worker and waits until it controls this page, both together not longer
 * than `timeoutMs`. Await it before creating the engine's worker, whose script is then stored as
 * well. Never throws.
 */
export async function registerServiceWorker(
  url: string | URL = new URL("service-worker.js", document.baseURI),
  timeoutMs = 10_000,
): Promise<ServiceWorkerStatus> {
  if (!("serviceWorker" in navigator)) {
    return {
      state: "unavailable",
      reason: "Service workers need https, or http on localhost; the page needs the network to open.",
    };
  }
  try {
    // A script that doesn't come leaves the registration open for as long as the network does.
    const registering = navigator.serviceWorker.register(url, { updateViaCache: "none" });
    await withinTime(timeoutMs, registering.then(untilControlled));
  } catch (error) {
    return { state: "unavailable", reason: `The service worker didn't start: ${String(error)}` };
  }
  return navigator.serviceWorker.controller
    ? { state: "controlled", reason: null }
    : { state: "uncontrolled", reason: "Reload the page for offline use." };
}

/**
 * Looks for a new version of the app now (the service worker also looks at each visit). When
 * `changed`, the new version is stored whole and the next load of the page shows it.
 */
export function checkForUpdate(): Promise<ServiceWorkerReplies["check-update"]> {
  return ask({ kind: "check-update" });
}

/** Applies a stored update: this page is loaded again, from the new version. */
export function applyUpdate(): void {
  location.reload();
}

/** Calls `listener` once a new version is stored whole and `applyUpdate()` would show it. */
export function onUpdateAvailable(listener: (version: string) => void): () => void {
  return onServiceWorkerEvent((event) => {
    if (event.kind === "update") listener(event.version);
  });
}

/** Every event of the service worker; returns the function that unsubscribes. */
export function onServiceWorkerEvent(listener: (event: ServiceWorkerEvent) => void): () => void {
  if (!("serviceWorker" in navigator)) return () => {};
  const onMessage = async (message: MessageEvent<ServiceWorkerEvent>) => {
    // An app at the root of this origin takes the pages of one in a folder for its own.
    const own = (await activeWorker())?.scriptURL;
    if ((message.source as ServiceWorker).scriptURL === own) listener(message.data);
  };
  navigator.serviceWorker.addEventListener("message", onMessage);
  navigator.serviceWorker.startMessages();
  return () => navigator.serviceWorker.removeEventListener("message", onMessage);
}

async function untilControlled({ active, installing, waiting }: ServiceWorkerRegistration): Promise<void> {
  const container = navigator.serviceWorker;
  // One that is active and doesn't control this page was bypassed by a hard reload, and stays so.
  if (container.controller || (active?.state === "activated" && !installing && !waiting)) return;
  await new Promise((resolve) => {
    container.addEventListener("controllerchange", resolve, { once: true });
  });
}

/** Resolves when `done` does, or when the time is up. */
async function withinTime(timeoutMs: number, done: Promise<void>): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, timeoutMs);
  });
  await Promise.race([done, late]).finally(() => clearTimeout(timer));
}

async function activeWorker(): Promise<ServiceWorker | null> {
  if (!("serviceWorker" in navigator)) return null;
  const registration = await navigator.serviceWorker.getRegistration();
  return registration?.active ?? null;
}

async function ask<R extends ServiceWorkerRequest>(
  request: R,
): Promise<ServiceWorkerReplies[R["kind"]]> {
  const worker = await activeWorker();
  if (!worker) throw new Error("There is no service worker: call registerServiceWorker() first.");
  const { port1, port2 } = new MessageChannel();
  return new Promise((resolve, reject) => {
    port1.onmessage = ({ data }: MessageEvent<ServiceWorkerReply<R["kind"]>>) => {
      port1.close();
      if (data.ok) resolve(data.value);
      else reject(new Error(data.error));
    };
    worker.postMessage(request, [port2]);
  });
}
