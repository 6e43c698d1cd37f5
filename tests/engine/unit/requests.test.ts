import assert from "node:assert/strict";
import { test } from "node:test";
import { parseRequest } from "../../../web/worker/engine/protocol.ts";
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
