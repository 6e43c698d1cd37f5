/** Models that are only counted: each takes BYTES, and loads when it is told to. */
import assert from "node:assert/strict";
import { afterEach, beforeEach } from "node:test";
import { Models, type OpenSession } from "../../web/worker/engine/models.ts";
import { Client, type Lease, type Session } from "../../web/worker/engine/resident.ts";
import type { LocalBackend, LocalLoadOptions } from "../../web/worker/shared/protocol.ts";

export const BYTES = 100;
/** Its configuration never comes. */
export const SLOW = "slow";
const CONFIG = ["mlc-chat-config.json", { path: "mlc-chat-config.json", bytes: 1, sha256: "" }] as const;
export const going = new AbortController().signal;
const adapter = {
  features: new Set(["shader-f16"]),
  limits: {},
  info: { vendor: "v", architecture: "a", description: "d" },
};
const own = Object.getOwnPropertyDescriptor(globalThis, "navigator") ?? {};

beforeEach(() => {
  const value = { gpu: { requestAdapter: async () => adapter } };
  Object.defineProperty(globalThis, "navigator", { value, configurable: true });
});
afterEach(() => {
  Object.defineProperty(globalThis, "navigator", { configurable: true, ...own });
});

/** A bundle's lock for each address, with targets of BYTES. */
const store = {
  async openLock(lockUrl: string) {
    const id = lockUrl.split("/").at(-2);
    const needs = (...features: string[]) => ({ features, limits: {}, adapter: {} });
    const target = (name: string, ...features: string[]) =>
      [name, { name, device: "webgpu", library: "l", parameters: "p", parameterBytes: BYTES, needs: needs(...features) }] as const;
    const targets = new Map([target("webgpu-f16", "shader-f16"), target("webgpu-f32")]);
    return { lock: { model: { id }, files: new Map(id === SLOW ? [CONFIG] : []), targets }, raw: id, fromStorage: false };
  },
  isAvailable: async () => true,
  hasRoom: async () => true,
  content: {
    read: (_: unknown, { signal }: { signal: AbortSignal }) =>
      new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason))),
  },
};

interface Opening {
  readonly id: string;
  readonly signal: AbortSignal;
  /** By default it takes what was reckoned, on the backend that was to be tried first. */
  end(model?: { memoryBytes?: number; kind?: LocalBackend }): void;
  fail(error: Error): void;
}

/** Models whose loads end when they are told to; `device` has those that are loaded. */
export function models() {
  const openings: Opening[] = [];
  const device: string[] = [];
  const open: OpenSession = ({ bundle, best, backends }, { signal }) => {
    const { id } = bundle.lock.model;
    return new Promise<Session>((resolve, reject) => {
      const runner = { dispose: () => device.splice(device.indexOf(id), 1) };
      const end: Opening["end"] = ({ memoryBytes = BYTES, kind = backends?.[0] ?? best } = {}) => {
        device.push(id);
        const loaded = { id, memoryBytes, backend: { kind } };
        resolve({ model: { loaded, runner, target: best, bundle }, release: () => undefined } as any);
      };
      signal.addEventListener("abort", () => reject(signal.reason));
      openings.push({ id, signal, end, fail: reject });
    });
  };
  /** Bytes of each bundle's files that aren't stored. */
  const missing = { bytes: 0 };
  const models = new Models({ ...store, missingBytes: async () => missing.bytes } as any, open);
  const connect = (memoryBudget: number | null = null) => {
    const events: string[] = [];
    const client = new Client((event) => {
      if (event.kind === "model") events.push(`${event.state} ${event.id}`);
      else if (event.kind === "storage") events.push(Object.values(event).join(" "));
    });
    client.memoryBudget = memoryBudget;
    models.connect(client);
    return { client, events };
  };
  const load = (client: Client, id: string, options: LocalLoadOptions = {}, signal = going) =>
    models.load(client, { bundleUrl: `https://site.example/${id}/`, options }, signal);
  /** The next load that has begun. */
  const opening = async (): Promise<Opening> => {
    await turn();
    const next = openings.shift();
    assert.ok(next, "no load has begun");
    return next;
  };
  const loaded = async (client: Client, id: string): Promise<Lease> => {
    const loading = load(client, id);
    (await opening()).end();
    await loading;
    return models.find(client, id, going);
  };
  return { models, connect, load, opening, openings, loaded, device, missing };
}

/** All that can go on without further doing has gone on. */
export async function turn(): Promise<void> {
  for (let count = 0; count < 5; count++) await new Promise((resolve) => setImmediate(resolve));
}

/** Whether it has settled by now, without further doing. */
export async function isSettled(work: Promise<unknown>): Promise<boolean> {
  let settled = false;
  const note = () => {
    settled = true;
  };
  work.then(note, note);
  await turn();
  return settled;
}
