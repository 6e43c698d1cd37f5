/** Errors in the words of the people who read them. */
import type { Problem } from "../ui/types.ts";
import type { ProblemKind, WidgetStrings } from "./strings/table.ts";

const KINDS: Record<string, ProblemKind> = {
  webgpu_unavailable: "browser",
  adapter_unsuitable: "browser",
  self_test_failed: "browser",
  out_of_memory: "memory",
  quota_exceeded: "memory",
  device_lost: "device",
  bundle_invalid: "model",
  abi_mismatch: "model",
  integrity_error: "model",
  network_error: "network",
  context_length_exceeded: "context",
};
/** With these, another place may answer what this device can't. */
const UNABLE = new Set(["webgpu_unavailable", "adapter_unsuitable", "self_test_failed", "out_of_memory", "device_lost"]);

export function readable(problem: Problem, strings: WidgetStrings): Problem {
  const kind = KINDS[problem.code] ?? "other";
  const text = strings.problems[kind === "network" && !navigator.onLine ? "offline" : kind];
  return { code: problem.code, ...text };
}

export function isUnable({ code }: Problem): boolean {
  return UNABLE.has(code);
}
