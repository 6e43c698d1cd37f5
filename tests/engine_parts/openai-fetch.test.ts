/** What clients of OpenAI's API see of an engine that leaves it to the test when it answers, and how. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { ChunkStream } from "../../web/worker/client/chunk-stream.ts";
import { openAiFetch } from "../../web/worker/client/openai-fetch.ts";
import { EngineError } from "../../web/worker/shared/errors.ts";
import type { ErrorCode } from "../../web/worker/shared/protocol.ts";

const URL_ = "https://nowhere.example/v1/chat/completions";
const chunk = (content: string): any => ({ id: "x", choices: [{ index: 0, delta: { content } }] });
const problem = (code: ErrorCode) => new EngineError({ code, message: `It is ${code}.`, remedy: "" });

function asking(create: (signal: AbortSignal) => Promise<unknown>) {
  const completions = { create: (_: unknown, { signal }: { signal: AbortSignal }) => create(signal) };
  const fetch = openAiFetch({ chat: { completions }, models: [] } as any);
  return (params: object, signal: AbortSignal | null = null) =>
    fetch(URL_, { method: "POST", body: JSON.stringify(params), signal });
}

/** A stream that has one chunk. */
function begun() {
  const state = { left: false };
  const stream = new ChunkStream(() => {
    state.left = true;
  });
  stream.push(chunk("One"));
  return { state, stream };
}

test("who cancels the body of a stream leaves the answer", async () => {
  const { state, stream } = begun();
  const { body } = await asking(async () => stream)({ stream: true });
  await body?.cancel();
  assert.equal(state.left, true);
});

test("a request for a whole answer that is aborted ends that", async () => {
  const controller = new AbortController();
  const seen: AbortSignal[] = [];
  const answer = asking((signal) => {
    seen.push(signal);
    controller.abort(new RangeError("mine"));
    return signal.aborted ? Promise.reject(signal.reason) : Promise.resolve({ choices: [] });
  })({}, controller.signal);
  await assert.rejects(answer, { name: "RangeError" });
  assert.equal(seen.length, 1);
});

test("a stream that fails in the middle says so in the place of its end", async () => {
  const { stream } = begun();
  const response = await asking(async () => stream)({ stream: true });
  stream.fail(problem("device_lost"));
  const events = (await response.text()).split("\n\n").filter(Boolean).map((event) => event.replace("data: ", ""));
  assert.equal(events.length, 2);
  const { error } = JSON.parse(events[1] ?? "");
  assert.deepEqual([error.code, error.type], ["device_lost", "service_unavailable"]);
});

test("errors have the status by which clients know whether to try again", async () => {
  for (const [code, status, type] of [
    ["model_not_loaded", 503, "service_unavailable"],
    ["device_lost", 503, "service_unavailable"],
    ["interrupted", 503, "service_unavailable"],
    ["queue_full", 429, "invalid_request_error"],
    ["rate_limited", 429, "invalid_request_error"],
    ["unauthorized", 401, "invalid_request_error"],
    ["remote_error", 502, "server_error"],
  ] as const) {
    for (const stream of [false, true]) {
      const response = await asking(() => Promise.reject(problem(code)))({ stream });
      const { error } = await response.json();
      assert.deepEqual([response.status, error.type, error.code], [status, type, code]);
    }
  }
});
