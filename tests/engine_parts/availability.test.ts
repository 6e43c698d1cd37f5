/** What the Prompt API says of an engine that isn't there yet, by the reports on its models. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { availabilityOf } from "../../web/worker/prompt-api/host.ts";
import type { Backend, FitReport } from "../../web/worker/shared/protocol.ts";

function report(kind: Backend["kind"] | null, fits: boolean, missingBytes = 0): FitReport {
  const backend: Backend | null = kind && { kind, target: null, adapter: null, origin: null, reason: "", tried: [] };
  const storage = { usage: 0, quota: 0, persisted: false, available: true };
  const bytes = { downloadBytes: missingBytes, missingBytes, memoryBytes: 0 };
  return { id: "a", fits, target: null, backend, problems: [], storage, speed: null, ...bytes };
}

const here = report("webgpu-f32", true);

test("a model that is refused isn't offered, though a backend would be there", () => {
  assert.equal(availabilityOf([report("webgpu-f32", false)]), "unavailable");
  assert.equal(availabilityOf([report(null, false)]), "unavailable");
});

test("a server needs no room on the device", () => {
  assert.equal(availabilityOf([report("remote", false)]), "available");
});

test("of several models all must be there", () => {
  assert.equal(availabilityOf([here, here]), "available");
  assert.equal(availabilityOf([here, report("webgpu-f32", true, 7)]), "downloadable");
  assert.equal(availabilityOf([here, report("webgpu-f32", false)]), "unavailable");
});
