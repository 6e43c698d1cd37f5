/** Where a site's models are, with a network that gives what it is told to. */
import assert from "node:assert/strict";
import { beforeEach, test } from "node:test";
import { bundleOf, bundlesOf } from "../../web/worker/page/site.ts";
import { PlainCache } from "./plain-cache.ts";

const INDEX = "https://site.example/v1/bundles/index.json";
let asked: string[] = [];
/** What the network answers. */
let answer: (signal: AbortSignal) => Promise<Response>;

beforeEach(() => {
  asked = [];
  answer = async () => Response.json({ bundles: [{ id: "a" }, { id: "b" }] });
  const cache = new PlainCache();
  const fetch = (request: string | Request, { signal }: { signal: AbortSignal }) => {
    asked.push(String(request));
    return answer(signal);
  };
  Object.assign(globalThis, {
    self: { location: { origin: "https://site.example" } },
    caches: { open: async () => cache },
    fetch,
  });
});

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
