/** Models of this device and of a server in one page: which of them a request reaches. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, beforeEach, test } from "node:test";
import { EngineClient, type Endpoint } from "../../web/worker/client/client.ts";
import type { EngineEvent, LoadedModel, WorkerReply, WorkerRequest } from "../../web/worker/shared/protocol.ts";

const BUNDLE = "https://site.example/bundles/near/";
const messages = [{ role: "user" as const, content: "Hi" }];
/** What reached the server: names of models, "" for its list. */
let asked: string[] = [];
let listed = "far";
let remote = "";
const server = createServer(async (request, response) => {
  const parts: Uint8Array[] = [];
  for await (const part of request) parts.push(part);
  const { model = "" } = JSON.parse(Buffer.concat(parts).toString() || "{}") as { model?: string };
  asked.push(model);
  const choices = [{ index: 0, message: { role: "assistant", content: "from afar" }, finish_reason: "stop" }];
  response.end(JSON.stringify({ data: [{ id: listed }], choices }));
});

/** An engine at the other end, with one model that it always has. */
class Worker extends EventTarget implements Endpoint {
  readonly requests: WorkerRequest[] = [];
  /** What becomes of the next load: null if it waits for `settle`. */
  next: "succeed" | "fail" | null = "succeed";
  #waiting: WorkerRequest | null = null;

  postMessage(message: Parameters<Endpoint["postMessage"]>[0]): void {
    if (message.kind === "hello") return;
    const request = structuredClone(message) as WorkerRequest;
    this.requests.push(request);
    if (!("id" in request) || request.kind === "abort") return;
    if (request.kind === "load" && this.next === null) this.#waiting = request;
    else this.#answer(request);
  }

  settle(how: "succeed" | "fail"): void {
    assert.ok(this.#waiting);
    this.next = how;
    this.#answer(this.#waiting);
  }

  #answer(request: WorkerRequest): void {
    const refusal = { code: "model_not_loaded" as const, message: "No model is loaded.", remedy: "Load one first." };
    if (request.kind === "load" && this.next === "fail") {
      const error = { code: "bundle_invalid" as const, message: "It is damaged.", remedy: "Use another." };
      this.#tell({ kind: "error", id: request.id, error });
      return;
    }
    if (request.kind === "load") this.emit({ kind: "progress", stage: "ready", ...done });
    const value = request.kind === "load" ? near : request.kind === "unload" ? null : undefined;
    const { id } = request;
    this.#tell(value === undefined ? { kind: "error", id, error: refusal } : { kind: "result", id, value });
  }

  emit(event: EngineEvent): void {
    this.#tell({ kind: "event", event });
  }

  drop(): void {
    this.emit({ kind: "model", state: "dropped", id: "near", memoryBytes: 0 });
  }

  kinds(): string[] {
    return this.requests.map(({ kind }) => kind);
  }

  #tell(data: WorkerReply): void {
    this.dispatchEvent(new MessageEvent("message", { data }));
  }
}

const near: LoadedModel = {
  id: "near",
  target: "webgpu-f32",
  contextWindowSize: 64,
  vocabSize: 8,
  sampling: {},
  adapter: { vendor: "", architecture: "", description: "", isSoftware: false },
  backend: { kind: "webgpu-f32", target: "webgpu-f32", adapter: null, origin: null, reason: "", tried: [] },
  bytes: 1,
  memoryBytes: 1,
  downloadMs: 0,
  uploadMs: 0,
  pipelineMs: 0,
};
const done = { loadedBytes: 1, totalBytes: 1, bytesPerSecond: 0, done: 1, total: 1 };
const failure = (code: string) => ({ name: "EngineError", code });

before(async () => {
  await once(server.listen(0, "127.0.0.1"), "listening");
  remote = `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`;
});
after(() => server.close());
beforeEach(() => {
  asked = [];
  listed = "far";
});

function started(): { worker: Worker; engine: EngineClient; far: { backends: [{ remote: string; consent: true }] } } {
  const worker = new Worker();
  return { worker, engine: new EngineClient({ endpoint: worker }), far: { backends: [{ remote, consent: true }] } };
}

test("what names a model of this device never leaves it, even once that model is gone", async () => {
  const { worker, engine, far } = started();
  await engine.load(BUNDLE);
  await engine.load(BUNDLE, far);
  const ask = (model?: string) => engine.chat.completions.create({ messages, ...(model && { model }) });
  await assert.rejects(ask("near"), failure("model_not_loaded"));
  worker.drop();
  assert.deepEqual(engine.models.map(({ id }) => id), ["far"]);
  await assert.rejects(ask("near"), failure("model_not_loaded"));
  await assert.rejects(engine.countTokens(messages, { model: "near" }), failure("model_not_loaded"));
  await engine.load(BUNDLE);
  await engine.unload("near");
  await assert.rejects(ask("near"), failure("model_not_loaded"));
  await assert.rejects(engine.chat.completions.create({ messages, model: "near", stream: true }).then((s) => s.next()));
  assert.deepEqual(asked, [""]);
  for (const name of ["far", "another", undefined]) await ask(name);
  assert.deepEqual(asked, ["", "far", "far", "far"]);
});

test("beside a model of this device, a server's must be named", async () => {
  const { worker, engine, far } = started();
  await engine.load(BUNDLE, far);
  await engine.load(BUNDLE);
  await assert.rejects(engine.chat.completions.create({ messages }), failure("invalid_request"));
  await engine.chat.completions.create({ messages, model: "far" });
  await assert.rejects(engine.chat.completions.create({ messages, model: "another" }), failure("model_not_loaded"));
  assert.deepEqual(asked, ["", "far"]);
  assert.deepEqual(worker.kinds(), ["load", "complete"]);
});

test("a server's model doesn't take the name of one that is loaded here, unless in its place", async () => {
  const { worker, engine, far } = started();
  listed = "near";
  await engine.load(BUNDLE);
  await assert.rejects(engine.load(BUNDLE, far), failure("invalid_request"));
  assert.equal(engine.backend?.kind, "webgpu-f32");
  await assert.rejects(engine.chat.completions.create({ messages, model: "near" }), failure("model_not_loaded"));
  await engine.load(BUNDLE, { ...far, replace: true });
  assert.deepEqual(worker.kinds(), ["load", "complete", "unload"]);
  assert.deepEqual(engine.models.map(({ backend }) => backend.kind), ["remote"]);
  worker.drop();
  await engine.chat.completions.create({ messages, model: "near" });
  assert.deepEqual(asked, ["", "", "near"]);
});

test("what may be asked of a model of this device stays here while that loads, and once that has failed", async () => {
  for (const end of ["succeed", "fail"] as const) {
    asked = [];
    const { worker, engine, far } = started();
    const ask = (model?: string) => engine.chat.completions.create({ messages, ...(model && { model }) });
    await engine.load(BUNDLE, far);
    worker.next = null;
    const loading = engine.load(BUNDLE).catch(({ code }) => code);
    await assert.rejects(ask("near"), failure("model_not_loaded"));
    await assert.rejects(engine.countTokens(messages, { model: "near" }), failure("model_not_loaded"));
    await ask();
    worker.settle(end);
    assert.equal(typeof (await loading), end === "fail" ? "string" : "object");
    await assert.rejects(ask("near"), failure("model_not_loaded"));
    await ask("far");
    assert.deepEqual(asked, ["", "far", "far"]);
  }
});

test("a load that falls back to a server lets that answer to the names of what didn't load", async () => {
  const { worker, engine, far } = started();
  const ask = (model: string) => engine.chat.completions.create({ messages, model });
  worker.next = "fail";
  const backends = ["webgpu-f32" as const, ...far.backends];
  await engine.load(BUNDLE, { backends });
  await ask("near");
  await assert.rejects(engine.load(BUNDLE), failure("bundle_invalid"));
  await assert.rejects(ask("near"), failure("model_not_loaded"));
  await engine.load(BUNDLE, { backends });
  await ask("near");
  assert.deepEqual(asked, ["", "far", "", "far"]);
});

test("a server that is chosen once a load has failed answers to the names of what didn't load", async () => {
  for (const place of [() => BUNDLE, () => new URL(BUNDLE), () => async () => new URL(BUNDLE)]) {
    const { worker, engine, far } = started();
    worker.next = "fail";
    await assert.rejects(engine.load(place()), failure("bundle_invalid"));
    await engine.load(place(), far);
    await engine.chat.completions.create({ messages, model: "near" });
  }
  assert.equal(asked.length, 6);
});

test("a request without a name isn't a server's while a model of this device loads in its place", async () => {
  const { worker, engine, far } = started();
  await engine.load(BUNDLE, far);
  worker.next = null;
  const loading = engine.load(BUNDLE, { replace: true });
  await assert.rejects(engine.chat.completions.create({ messages }), failure("model_not_loaded"));
  worker.settle("succeed");
  await loading;
  assert.deepEqual(engine.models.map(({ id }) => id), ["near"]);
  assert.deepEqual(asked, [""]);
});

test("a model that has been loaded is there, though the signal comes then", async () => {
  const { engine } = started();
  const controller = new AbortController();
  engine.onEvent((event) => event.kind === "progress" && controller.abort());
  assert.equal((await engine.load(BUNDLE, { signal: controller.signal })).id, "near");
  assert.ok(controller.signal.aborted);
  assert.deepEqual(engine.models.map(({ id }) => id), ["near"]);
  await assert.rejects(engine.load(BUNDLE, { signal: controller.signal }), { name: "AbortError" });
});

test("an engine that is disposed of as a load ends has no model", async () => {
  const { engine } = started();
  engine.onEvent((event) => event.kind === "backend" && engine.dispose());
  await assert.rejects(engine.load(BUNDLE), failure("model_not_loaded"));
  assert.deepEqual(engine.models, []);
});

test("a listener that throws breaks neither a load nor other listeners", async () => {
  const { engine } = started();
  const reported: unknown[] = [];
  const told: string[] = [];
  const mine = new TypeError("mine");
  Object.assign(globalThis, { reportError: (error: unknown) => reported.push(error) });
  engine.onEvent(() => {
    throw mine;
  });
  engine.onEvent(({ kind }) => told.push(kind));
  await engine.load(BUNDLE);
  assert.deepEqual(engine.models.map(({ id }) => id), ["near"]);
  assert.deepEqual(told, ["progress", "backend"]);
  assert.deepEqual(reported, [mine, mine]);
});

/** Lists in lists. */
function nested(depth: number): unknown {
  let value: unknown = [];
  for (let level = 0; level < depth; level++) value = [value];
  return value;
}

test("what can't be sent is a bad request, here and to a server", async () => {
  const { engine, far } = started();
  const refused = failure("invalid_request");
  for (const load of [{}, { ...far, replace: true }]) {
    await engine.load(BUNDLE, load);
    const ask = (params: unknown) => engine.chat.completions.create(params as { messages: [] });
    for (const params of [null, undefined, 5, "x"]) await assert.rejects(ask(params), refused);
    const deep = nested(1e5);
    await assert.rejects(ask({ messages: deep }), refused);
    await assert.rejects(ask({ messages: deep, stream: true }).then((stream) => (stream as any).next()), refused);
    const body = `{"messages":${"[".repeat(1e5)}${"]".repeat(1e5)}}`;
    const response = await engine.fetch("https://x.example/v1/chat/completions", { method: "POST", body });
    assert.deepEqual([response.status, (await response.json()).error.code], [400, "invalid_request"]);
  }
  const far60 = engine.chat.completions.create({ messages, seed: 2n ** 60n as unknown as number });
  await assert.rejects(far60, refused);
  assert.deepEqual(asked, [""]);
});

test("an engine never sees what a worker's stack may not take, or no message can carry", async () => {
  const { engine, worker } = started();
  const refused = failure("invalid_request");
  const round: { messages: unknown[] } = { messages: [] };
  round.messages.push(round);
  for (const given of [nested(150), nested(3000), round, [() => "x"]] as any[]) {
    await assert.rejects(engine.countTokens(given), refused);
    await assert.rejects(engine.saveState("a", given), refused);
    await assert.rejects(engine.chat.completions.create({ messages: given }), refused);
  }
  assert.deepEqual(worker.requests, []);
  await assert.rejects(engine.countTokens(nested(50) as any), failure("model_not_loaded"));
});
