/** The page's entry: the chat with the real engine, service worker and database. */
import { EngineClient } from "../client/client.ts";
import * as files from "../service-worker/client.ts";
import { startChat } from "./app.ts";
import { openStore } from "./store.ts";

const worker = document.querySelector<HTMLMetaElement>('meta[name="mlc-edge-worker"]')?.content;
if (!worker) throw new Error("the page names no engine worker");
const workerUrl = new URL(worker, document.baseURI);

await startChat({
  createEngine: () => new EngineClient({ workerUrl, shared: true }),
  files: { ...files, register: () => files.registerServiceWorker() },
  store: await openStore(),
  indexUrl: "bundles/index.json",
});
