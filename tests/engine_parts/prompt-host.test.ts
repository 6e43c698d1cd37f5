/** How long the engine behind the Prompt API's sessions lives, with a worker that only answers. */
import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";
import { createLanguageModel } from "../../web/worker/prompt-api/language-model.ts";

const IDLE_MS = 60_000;
const OPTIONS = { model: "https://site.example/bundles/m/", workerURL: "https://site.example/engine.js", shared: false };
/** In tokens, which are characters. */
const WINDOW = 100;
const loaded = { id: "m", contextWindowSize: WINDOW, sampling: {}, backend: { kind: "webgpu-f32", tried: [] } };
let workers: PlainWorker[] = [];

class PlainWorker extends EventTarget {
  ended = false;
  readonly asked: any[] = [];

  constructor() {
    super();
    workers.push(this);
    queueMicrotask(() => this.reply({ kind: "started", webgpu: true, lock: null }));
  }

  postMessage(request: any): void {
    const { kind, id } = request;
    this.asked.push(request);
    if (id === undefined) return;
    const tokens = request.messages?.reduce((sum: number, { content }: any) => sum + content.length, 0);
    const value = kind === "load" ? loaded : kind === "count" ? tokens : null;
    const choices = [{ index: 0, delta: { content: "Yes." }, finish_reason: "stop" }];
    queueMicrotask(() => {
      if (kind === "complete") this.reply({ kind: "chunk", id, chunk: { id: "x", choices, usage: { total_tokens: 9 } } });
      this.reply({ kind: "result", id, value });
    });
  }

  reply(data: unknown): void {
    this.dispatchEvent(new MessageEvent("message", { data }));
  }

  terminate(): void {
    this.ended = true;
  }
}

beforeEach(() => {
  workers = [];
  const events = class extends Event {};
  Object.assign(globalThis, { Worker: PlainWorker, location: new URL("https://site.example/"), ProgressEvent: events });
  mock.timers.enable({ apis: ["setTimeout"] });
});
afterEach(() => mock.timers.reset());

const isEnded = (): boolean[] => workers.map(({ ended }) => ended);

test("an engine ends a while after its last session", async () => {
  const Model = createLanguageModel(OPTIONS);
  const session = await Model.create();
  const clone = await session.clone();
  session.destroy();
  mock.timers.tick(IDLE_MS);
  assert.deepEqual(isEnded(), [false]);
  clone.destroy();
  mock.timers.tick(IDLE_MS - 1);
  assert.deepEqual(isEnded(), [false]);
  const late = await Model.create();
  mock.timers.tick(IDLE_MS);
  assert.deepEqual(isEnded(), [false]);
  late.destroy();
  late.destroy();
  mock.timers.tick(IDLE_MS);
  assert.deepEqual(isEnded(), [true]);
  await Model.create();
  assert.deepEqual(isEnded(), [true, false]);
});

test("a session that is refused keeps no engine", async () => {
  const Model = createLanguageModel(OPTIONS);
  const content = "x".repeat(WINDOW);
  await assert.rejects(Model.create({ initialPrompts: [{ role: "system", content }] }), { name: "QuotaExceededError" });
  mock.timers.tick(IDLE_MS);
  assert.deepEqual(isEnded(), [true]);
});

test("a session doesn't begin on an engine that lost its model", async () => {
  const Model = createLanguageModel(OPTIONS);
  await Model.create();
  workers[0]?.reply({ kind: "event", event: { kind: "model", state: "dropped", id: "m", memoryBytes: 0 } });
  await Model.create();
  assert.deepEqual(isEnded(), [true, false]);
});

test("a prompt makes room for a quarter of the window, which its answer may take", async () => {
  const session = await createLanguageModel(OPTIONS).create();
  await session.append("a".repeat(40));
  await session.append("b".repeat(10));
  await session.prompt("c".repeat(26));
  const { messages } = workers[0]?.asked.find(({ kind }) => kind === "complete").params;
  assert.deepEqual(messages.map(({ content }: { content: string }) => content.replaceAll("\n", "").length), [36]);
});

test("a prompt that never fits drops nothing of what came before it", async () => {
  const session = await createLanguageModel(OPTIONS).create();
  await session.append("a");
  await assert.rejects(session.prompt("b".repeat(WINDOW)), { name: "QuotaExceededError" });
  await session.prompt("c");
  const { messages } = workers[0]?.asked.find(({ kind }) => kind === "complete").params;
  assert.deepEqual(messages, [{ role: "user", content: "a\n\nc" }]);
});
