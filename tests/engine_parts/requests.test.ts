import assert from "node:assert/strict";
import { test } from "node:test";
import { parseRequest } from "../../web/worker/engine/request.ts";
import { golden } from "./golden.ts";

const { model, cases } = golden("requests");

for (const { request, accepted, refused } of cases) {
  const { messages, ...rest } = request;
  const name = JSON.stringify(Object.keys(rest).length ? rest : messages);
  if (refused) {
    test(`refused: ${name}`, () => {
      assert.throws(() => parseRequest(request, model), refused);
    });
  } else {
    test(`accepted: ${name}`, () => {
      const { sampling, ...parsed } = parseRequest(request, model);
      const logitBias = [...sampling.logitBias];
      assert.deepEqual({ ...parsed, sampling: { ...sampling, logitBias } }, accepted);
    });
  }
}

test("values of any depth and names of any length are refused by name", () => {
  let deep: unknown = [];
  for (let depth = 0; depth < 200_000; depth++) deep = [deep];
  const messages = [{ role: "user" as const, content: "Hello" }];
  for (const [param, field] of [
    ["temperature", { temperature: deep }],
    ["tools", { tools: deep }],
    ["response_format", { response_format: { type: deep } }],
    ["stop", { stop: deep }],
    ["x".repeat(120), { ["x".repeat(1_000_000)]: 1 }],
    ["__proto__", JSON.parse('{"__proto__": 1}')],
  ] as const) {
    const request = { messages, ...field };
    if (param === "__proto__") Object.defineProperty(request, param, { value: 1, enumerable: true });
    assert.throws(
      () => parseRequest(request, model),
      (error: any) => error.code === "invalid_request" && error.param === param && error.message.length < 200,
    );
  }
});
