import assert from "node:assert/strict";
import { test } from "node:test";
import { EngineClient } from "../../web/worker/client/client.ts";
import { golden } from "./golden.ts";
import { parseLock } from "../../web/worker/shared/lock.ts";

const lock = {
  lock_version: 2,
  abi_version: 3,
  model: { id: "m", model_type: "llama", quantization: "q0f32", context_window_size: 64, parameters: 1 },
  files: [
    { path: "lib/webgpu-f32.wasm", bytes: 1, sha256: "a".repeat(64) },
    { path: "tensor-cache.json", bytes: 1, sha256: "b".repeat(64) },
  ],
  targets: {
    "webgpu-f32": {
      library: "lib/webgpu-f32.wasm",
      parameters: "tensor-cache.json",
      parameter_bytes: 8,
      device: "webgpu",
      needs: { features: [], limits: { maxBufferSize: 8 }, adapter: { subgroupMinSize: 32 } },
    },
  },
};

test("a lock becomes typed", () => {
  const { model, files, targets } = parseLock(lock);
  assert.equal(model.contextWindowSize, 64);
  assert.equal(files.get("tensor-cache.json")?.bytes, 1);
  assert.deepEqual(targets.get("webgpu-f32")?.needs.limits, { maxBufferSize: 8 });
  assert.deepEqual(targets.get("webgpu-f32")?.needs.adapter, { subgroupMinSize: 32 });
});

test("a file may be empty, and its path must stay in the bundle", () => {
  const withFile = (file: object) => ({
    ...lock,
    files: [...lock.files, { path: "empty", bytes: 0, sha256: "c".repeat(64), ...file }],
  });
  assert.equal(parseLock(withFile({})).files.get("empty")?.bytes, 0);
  for (const path of ["/etc/x", "..", "a/../b", "./a", "a//b", "a\\b", "https:x", "a?b", "a#b", "%2e"]) {
    assert.throws(() => parseLock(withFile({ path })), /must be a relative path/, path);
  }
  for (const bytes of [-1, 0.5, "1", null, 2 ** 60]) {
    assert.throws(() => parseLock(withFile({ bytes })), /bytes must be a whole number/);
  }
  assert.throws(() => parseLock(withFile({ sha256: "C".repeat(64) })), /lower-case hex/);
  assert.throws(() => parseLock(withFile({ path: "tensor-cache.json" })), /listed twice/);
});

test("fields are taken and refused as in Python, and names shown without what terminals and pages obey", () => {
  const { lock: sound, cases } = golden("lock");
  for (const { at, value, taken } of cases) {
    const changed = structuredClone(sound);
    let inner = changed;
    for (const key of at.slice(0, -1)) inner = inner[key];
    inner[at.at(-1)] = value;
    const told = JSON.stringify({ at, value });
    if (taken) assert.doesNotThrow(() => parseLock(changed), told);
    else assert.throws(() => parseLock(changed), { code: "bundle_invalid", message: /^[^\p{C}\p{Z}]+( [^\p{C}\p{Z}]*)*$/u }, told);
  }
});

test("a lock names so many files and no more, and of many problems ten are told", () => {
  const file = (_: unknown, index: number) => ({
    path: `f${index}`,
    bytes: 1,
    sha256: String(index).padStart(64, "c"),
  });
  const files = [...lock.files, ...Array.from({ length: 9998 }, file)];
  assert.equal(parseLock({ ...lock, files }).files.size, 10_000);
  const over = { ...lock, files: [...files, file(0, -1)] };
  assert.throws(() => parseLock(over), /names 10001 files, and a bundle has at most 10000/);
  const bad = files.slice(0, 37).map((file, index) => (index < 2 ? file : { ...file, bytes: -1 }));
  assert.throws(
    () => parseLock({ ...lock, files: bad }),
    ({ message }) => message.match(/bytes/g).length === 10 && message.includes("; and 25 more"),
  );
});

test("all problems of a lock are told at once", () => {
  const broken = {
    ...lock,
    lock_version: 9,
    model: { ...lock.model, id: 7 },
    files: [{ path: "../up", bytes: -1, sha256: "short" }],
  };
  assert.throws(
    () => parseLock(broken),
    ({ code, message }) => {
      assert.equal(code, "bundle_invalid");
      for (const part of ["lock_version is 9", "model.id", "../up", "bytes", "sha256", "lacks"]) {
        assert.ok(message.includes(part), part);
      }
      return true;
    },
  );
  assert.throws(() => parseLock([]), { code: "bundle_invalid" });
});

/** A client whose worker answers with `replies`, given each request. */
function clientWith(answer: (request: any) => any[]): { client: EngineClient; sent: any[] } {
  const { port1, port2 } = new MessageChannel();
  const sent: any[] = [];
  port2.onmessage = ({ data }) => {
    sent.push(data);
    for (const reply of answer(data)) port2.postMessage(reply);
  };
  port1.start();
  const endpoint = Object.assign(port1, { terminate: () => port1.close() });
  return { client: new EngineClient({ endpoint: endpoint as any }), sent };
}

const request = { messages: [{ role: "user" as const, content: "x" }] };

test("errors are thrown again with their type", async () => {
  const error = { code: "quota_exceeded", message: "full", remedy: "delete", param: "x" };
  const { client } = clientWith(({ id }) => [{ kind: "error", id, error }]);
  await assert.rejects(client.chat.completions.create(request), { name: "EngineError", ...error });
  client.dispose();
});

test("chunks come in order and then the stream ends", async () => {
  const { client } = clientWith(({ id }) => [
    { kind: "chunk", id, chunk: 1 },
    { kind: "chunk", id, chunk: 2 },
    { kind: "result", id, value: null },
  ]);
  const chunks = [];
  for await (const chunk of await client.chat.completions.create({ ...request, stream: true })) {
    chunks.push(chunk);
  }
  assert.deepEqual(chunks, [1, 2]);
  client.dispose();
});

test("an abort is sent, and the stream fails with the signal's reason", async () => {
  const { client, sent } = clientWith(({ kind, id }) => [
    kind === "abort" ? { kind: "aborted", id } : { kind: "chunk", id, chunk: 1 },
  ]);
  const controller = new AbortController();
  const options = { signal: controller.signal };
  const stream = await client.chat.completions.create({ ...request, stream: true }, options);
  await stream.next();
  controller.abort();
  await assert.rejects(stream.next(), { name: "AbortError" });
  assert.deepEqual(sent.map(({ kind }) => kind), ["complete", "abort"]);
  client.dispose();
});

test("leaving a stream early aborts it", async () => {
  const { client, sent } = clientWith(({ kind, id }) => [
    kind === "abort" ? { kind: "aborted", id } : { kind: "chunk", id, chunk: 1 },
  ]);
  for await (const _ of await client.chat.completions.create({ ...request, stream: true })) break;
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(sent.map(({ kind }) => kind), ["complete", "abort"]);
  client.dispose();
});

test("the models of a page are those that it loaded, as events tell of them", async () => {
  const backend = { kind: "webgpu-f32", tried: [] };
  const loaded = (id: string, memoryBytes = 5) => ({ id, memoryBytes, backend });
  const { port1, port2 } = new MessageChannel();
  port2.onmessage = ({ data: { kind, id, bundleUrl } }) => {
    const value = kind === "load" ? loaded(bundleUrl.at(-2)) : null;
    port2.postMessage({ kind: "result", id, value });
  };
  const endpoint = Object.assign(port1, { terminate: () => port1.close() });
  const client = new EngineClient({ endpoint: endpoint as any });
  const tell = async (state: string, id: string, memoryBytes: number) => {
    const heard = new Promise((resolve) => client.onEvent(resolve));
    port2.postMessage({ kind: "event", event: { kind: "model", state, id, memoryBytes } });
    await heard;
  };
  for (const id of ["a", "b", "c", "a"]) await client.load(`https://x.example/${id}/`);
  assert.deepEqual(client.models, ["b", "c", "a"].map((id) => loaded(id)));
  assert.equal(client.model, "a");
  await tell("unloaded", "c", 0);
  await tell("unloaded", "other", 0);
  await tell("dropped", "b", 0);
  assert.deepEqual(client.models, [loaded("c", 0), loaded("a")]);
  await tell("loaded", "c", 7);
  await client.unload("a");
  assert.deepEqual(client.models, [loaded("c", 7)]);
  await client.unload();
  assert.equal(client.model, null);
  client.dispose();
});
