/** A page that starts the worker, and has what only pages can ask. */
import { requestPersistence, storageEstimate } from "../../../web/worker/client/persistence.ts";

Object.assign(globalThis, {
  requestPersistence,
  storageEstimate,
  worker: new Worker("worker.js", { type: "module" }),
});
