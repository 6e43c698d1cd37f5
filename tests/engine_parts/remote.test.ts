/** A server's model: what is asked of the server, and when that ends. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, beforeEach, test } from "node:test";
import type { ChunkStream } from "../../web/worker/client/chunk-stream.ts";
import { RemoteModel } from "../../web/worker/client/remote.ts";

const messages = [{ role: "user" as const, content: "Hi" }];
const LISTED = { data: [{ id: "first", max_model_len: 64 }, { id: "second", max_model_len: 32 }] };
/** Null: it has none. */
let list: object | null = LISTED;
let remote = "";
/** Answers that it has begun, and doesn't end. */
let answers: ServerResponse[] = [];
const server = createServer((request, response) => {
  if (request.url === "/v1/models") {
    response.statusCode = list ? 200 : 404;
    response.end(JSON.stringify(list ?? { error: { message: "There is nothing here." } }));
    return;
  }
  answers.push(response);
  response.writeHead(200, { "content-type": "text/event-stream" });
  response.write(`data: ${JSON.stringify({ choices: [{ index: 0, delta: { content: "One" } }] })}\n\n`);
});

before(async () => {
  await once(server.listen(0, "127.0.0.1"), "listening");
  remote = `http://127.0.0.1:${(server.address() as AddressInfo).port}/v1`;
});
after(() => {
  server.closeAllConnections();
  server.close();
});
beforeEach(() => {
  list = LISTED;
  answers = [];
});

function open(model?: string, ended = new AbortController().signal): Promise<RemoteModel> {
  const { signal } = new AbortController();
  return RemoteModel.open({ remote, consent: true, ...(model && { model }) }, { tried: [], signal, ended });
}

/** The first answer that the server has begun. */
async function begun(): Promise<ServerResponse> {
  while (answers.length === 0) await new Promise((resolve) => setImmediate(resolve));
  return answers[0] as ServerResponse;
}

async function closed(response: ServerResponse): Promise<void> {
  if (!response.closed) await once(response, "close");
}

test("a model has the window that the server lists for it", async () => {
  const found = [await open(), await open("second"), await open("unlisted")];
  assert.deepEqual(
    found.map(({ loaded }) => [loaded.id, loaded.contextWindowSize]),
    [["first", 64], ["second", 32], ["unlisted", 0]],
  );
});

test("a server without a list is asked for the model that was named, and is none without a name", async () => {
  list = null;
  assert.equal((await open("mine")).loaded.id, "mine");
  await assert.rejects(open(), { name: "EngineError" });
});

test("leaving a stream ends the server's answer", { timeout: 10_000 }, async () => {
  const stream = (await (await open()).create({ messages, stream: true })) as ChunkStream;
  for await (const _ of stream) break;
  await closed(await begun());
});

test("answers end with the engine, whatever signal they have besides", { timeout: 10_000 }, async () => {
  const ended = new AbortController();
  const model = await open(undefined, ended.signal);
  const { signal } = new AbortController();
  const whole = model.create({ messages }, signal);
  const response = await begun();
  ended.abort(new RangeError("the engine ended"));
  await assert.rejects(whole, RangeError);
  await closed(response);
});
