/** What is told of models that aren't loaded, or take too much. */
import { EngineError } from "../shared/errors.ts";
import { outOfMemory } from "./gpu/device.ts";
import { invalid, show } from "./fields.ts";
import type { Client } from "./resident.ts";

export function noModel(): EngineError {
  return new EngineError({
    code: "model_not_loaded",
    message: "No model is loaded.",
    remedy: "Load one first.",
  });
}

export function notLoaded({ leases }: Client, asked: unknown): EngineError {
  const loaded = `${[...leases.keys()].join(", ") || "none"} ${leases.size > 1 ? "are" : "is"}`;
  return invalid("model", `${show(asked)} is not loaded, ${loaded}`, "Load it first.");
}

export function superseded(id: string): EngineError {
  return new EngineError({
    code: "model_not_loaded",
    message: `${id} was loaded after a load that was called later, which gave up its place.`,
    remedy: "Use the later one's model, or load this one again.",
  });
}

export function unnamed({ leases }: Client): EngineError {
  return new EngineError({
    code: "invalid_request",
    message: `The request names no model, and ${[...leases.keys()].join(", ")} are loaded.`,
    remedy: "Name one of them as `model`.",
  });
}

export function overBudget(bytes: number, most: number): EngineError {
  const mib = (count: number): string => `${Math.ceil(count / 2 ** 20)} MiB`;
  return outOfMemory(`it needs ${mib(bytes)}, and the budget is ${mib(most)}`);
}
