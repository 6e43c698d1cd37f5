/** Where a site's models are, with a network that gives what it is told to. */
import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { capabilitiesOf } from "../../web/worker/client/capabilities.ts";
import { bundleOf, bundlesOf } from "../../web/worker/client/site.ts";
import { EngineError } from "../../web/worker/shared/errors.ts";
import { install, PlainCache } from "./plain-cache.ts";

const SITE = "https://site.example/v1/";
const INDEX = `${SITE}bundles/index.json`;
const ODD = [null, 5, {}, ...["../../evil", "..", "", "a\0b", "a b", "%zz", "\ud800", 7, {}].map((id) => ({ id }))];
let asked: string[] = [];
/** What the network answers. */
let answer: (signal: AbortSignal) => Promise<Response>;

beforeEach(() => {
  asked = [];
  answer = async () => Response.json({ bundles: [{ id: "a" }, { id: "b" }] });
  install(new PlainCache());
  const fetch = (request: string | Request, { signal }: { signal: AbortSignal }) => {
    asked.push(String(request));
    return answer(signal);
  };
  Object.assign(globalThis, { fetch });
});

function lists(bundles: unknown[]): void {
  answer = async () => Response.json({ bundles });
}

const hrefs = (urls: URL[]): string[] => urls.map(({ href }) => href);

test("a folder is the same with and without a slash at its end", async () => {
  for (const base of ["https://site.example/v1", "https://site.example/v1/"]) {
    const found = hrefs(await bundlesOf(base, undefined));
    assert.deepEqual(found, ["a", "b"].map((id) => `https://site.example/v1/bundles/${id}/`));
  }
  assert.deepEqual(asked, [INDEX, INDEX]);
  const named = await bundleOf("https://site.example/bundles/a", undefined)(undefined);
  assert.equal(named.href, "https://site.example/bundles/a/");
});

test("who leaves while models are asked for gets the reason, though they were seen before", async () => {
  const before = await bundlesOf("https://site.example/v1/", undefined);
  assert.equal(before.length, 2);
  const leaving = new AbortController();
  answer = (signal) => {
    leaving.abort(new RangeError("mine"));
    return Promise.reject(signal.reason);
  };
  await assert.rejects(bundlesOf("https://site.example/v1/", leaving.signal), { message: "mine" });
});

test("models are as last seen where the network gives something else", async () => {
  const before = hrefs(await bundlesOf("https://site.example/v1/", undefined));
  for (const portal of [new Response("<html>Log in</html>"), Response.json({}), new Response("", { status: 404 })]) {
    answer = async () => portal;
    assert.deepEqual(hrefs(await bundlesOf("https://site.example/v1/", undefined)), before);
  }
});

/** Paths of the bundles that are looked at, none of which is whole. */
async function looked(model?: string): Promise<{ paths: string[]; ids: string[] }> {
  const paths: string[] = [];
  const check = async ({ pathname }: URL): Promise<never> => {
    paths.push(pathname);
    throw new EngineError({ code: "bundle_invalid", message: "It is damaged.", remedy: "Use another." });
  };
  const reports = await capabilitiesOf({ check }, { baseURL: SITE, ...(model !== undefined && { model }) });
  return { paths, ids: reports.map(({ id }) => id) };
}

test("entries that no model can have hide no other one", async () => {
  lists([...ODD, { id: "tiny-q0f32" }, { id: "Qwen3_0.6B" }]);
  const paths = ["/v1/bundles/tiny-q0f32/", "/v1/bundles/Qwen3_0.6B/"];
  assert.deepEqual(await looked(), { paths, ids: ["tiny-q0f32", "Qwen3_0.6B"] });
  assert.equal((await bundleOf(undefined, SITE)(undefined)).pathname, paths[0]);
});

test("a list of such entries alone names no model", async () => {
  lists(ODD);
  await assert.rejects(looked(), { name: "EngineError", code: "network_error" });
});

test("a name that no model can have is refused, and an address may have any", async () => {
  for (const name of ["..", "a b", "\ud800", "%zz"]) {
    assert.throws(() => bundleOf(name, SITE), { name: "EngineError", code: "invalid_request", param: "model" });
  }
  assert.deepEqual(await looked(`${SITE}%zz/`), { paths: ["/v1/%zz/"], ids: ["%zz"] });
});
