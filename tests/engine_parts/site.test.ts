/** Which models a site's list names, whatever else is in it, and which names no site has. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, beforeEach, test } from "node:test";
import { capabilitiesOf } from "../../web/worker/page/capabilities.ts";
import { bundleOf } from "../../web/worker/page/site.ts";
import { EngineError } from "../../web/worker/shared/errors.ts";
import { install, PlainCache } from "./plain-cache.ts";

const ODD = [null, 5, {}, ...["../../evil", "..", "", "a\0b", "a b", "%zz", "\ud800", 7, {}].map((id) => ({ id }))];
let site = "";
let bundles: unknown[] = [];
const server = createServer((_, response) => response.end(JSON.stringify({ bundles })));

before(async () => {
  await once(server.listen(0, "127.0.0.1"), "listening");
  site = `http://127.0.0.1:${(server.address() as AddressInfo).port}/`;
});
after(() => server.close());
beforeEach(() => install(new PlainCache()));

/** Paths of the bundles that are looked at, none of which is whole. */
async function looked(model?: string): Promise<{ paths: string[]; ids: string[] }> {
  const paths: string[] = [];
  const check = async ({ pathname }: URL): Promise<never> => {
    paths.push(pathname);
    throw new EngineError({ code: "bundle_invalid", message: "It is damaged.", remedy: "Use another." });
  };
  const reports = await capabilitiesOf({ check }, { baseURL: site, ...(model !== undefined && { model }) });
  return { paths, ids: reports.map(({ id }) => id) };
}

test("entries that no model can have hide no other one", async () => {
  bundles = [...ODD, { id: "tiny-q0f32" }, { id: "Qwen3_0.6B" }];
  const paths = ["/bundles/tiny-q0f32/", "/bundles/Qwen3_0.6B/"];
  assert.deepEqual(await looked(), { paths, ids: ["tiny-q0f32", "Qwen3_0.6B"] });
  assert.equal((await bundleOf(undefined, site)(undefined)).pathname, paths[0]);
});

test("a list of such entries alone names no model", async () => {
  bundles = ODD;
  await assert.rejects(looked(), { name: "EngineError", code: "network_error" });
});

test("a name that no model can have is refused, and an address may have any", async () => {
  for (const name of ["..", "a b", "\ud800", "%zz"]) {
    assert.throws(() => bundleOf(name, site), { name: "EngineError", code: "invalid_request", param: "model" });
  }
  assert.deepEqual(await looked(`${site}%zz/`), { paths: ["/%zz/"], ids: ["%zz"] });
});
