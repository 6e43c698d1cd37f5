/** What a model library says about itself. */
import { EngineError } from "../shared/errors.ts";
import { ABI_VERSION, abiMismatch } from "./bundle.ts";

export interface ParameterShape {
  readonly name: string;
  readonly shape: readonly number[];
  readonly dtype: "uint32" | "float32" | "float16";
}

export interface TestArray {
  readonly shape: readonly number[];
  readonly dtype: "float32" | "uint32";
  readonly data: readonly number[];
}

export interface Tolerance {
  readonly atol: number;
  readonly rtol: number;
}

/** Fields of `_metadata` that the engine uses. */
export interface Metadata {
  readonly abi_version: number;
  readonly context_window_size: number;
  readonly prefill_chunk_size: number;
  /** In the order in which functions take them. */
  readonly params: readonly ParameterShape[];
  /** Names of the device kernels that each stage launches. */
  readonly kernels: Readonly<Record<string, readonly string[]>>;
  /** Its shape, under the names that MLC's runtimes read too. */
  readonly kv_cache: {
    readonly num_key_value_heads: number;
    readonly num_attention_heads: number;
    readonly head_dim: number;
  };
  readonly self_test: {
    readonly matmul: Tolerance & {
      readonly inputs: readonly TestArray[];
      readonly expected: readonly number[];
    };
    readonly attention: Tolerance & {
      readonly prefill_length: number;
      /** First values of the output for the token after the prefill. */
      readonly expected_decode: readonly number[];
    };
  };
}

const FIELDS = [
  "context_window_size",
  "prefill_chunk_size",
  "params",
  "kernels",
  "kv_cache",
  "self_test",
] as const;

/** Throws EngineError: abi_mismatch, or bundle_invalid if fields are missing. */
export function parseMetadata(text: string): Metadata {
  const metadata = JSON.parse(text) as Metadata;
  if (metadata.abi_version !== ABI_VERSION) throw abiMismatch(metadata.abi_version);
  const missing = FIELDS.filter((field) => metadata[field] === undefined);
  if (missing.length === 0) return metadata;
  throw new EngineError({
    code: "bundle_invalid",
    message: `The model library's metadata lacks ${missing.join(", ")}.`,
    remedy: "Build the bundle again with `mlc-edge build`.",
  });
}
