/** What a model library says about itself. */
import { EngineError } from "../shared/errors.ts";
import { ABI_VERSION, abiMismatch } from "../shared/lock.ts";
import type { FloatType } from "./float-types.ts";

export interface ParameterShape {
  readonly name: string;
  readonly shape: readonly number[];
  readonly dtype: "uint32" | "float32" | "float16";
  /** Of a parameter that is some rows of what is stored by its name: where they begin. */
  readonly first_row?: number;
}

/** A weight [out_features, in_features] and how it is stored. */
export interface StoredWeight {
  readonly parameters: readonly string[];
  readonly layout: "plain" | "q4" | "q4m" | "q8";
  readonly in_features: number;
  readonly out_features: number;
}

/** A root mean square normalisation. */
export interface Norm {
  readonly parameters: readonly [string];
  readonly epsilon: number;
}

export interface LinearResult extends StoredWeight {
  readonly kind: "linear";
  /** Index of the input that is read. */
  readonly input: number;
  /** Whether input 0 is added. */
  readonly residual: boolean;
  /** Whether the result is float32 even where others are float16. */
  readonly logits: boolean;
  /** What is done with the input before. */
  readonly norm?: Norm;
  /** Whether the result is the activation of gate and up, the product's halves. */
  readonly gated?: boolean;
}

export interface NormResult extends Norm {
  readonly kind: "rms_norm";
  readonly input: number;
}

/** The activation of the result before it, gate and up. */
export interface GatedResult {
  readonly kind: "gated_silu";
}

/** One call of a function, with inputs [...lead, width]; which of all results it gives. */
export interface TestRun {
  readonly function: string;
  readonly lead: readonly number[];
  readonly results: readonly number[];
}

export interface SelfTest {
  /** Widths of the functions' inputs. */
  readonly inputs: readonly number[];
  readonly results: readonly (LinearResult | NormResult | GatedResult)[];
  readonly runs: readonly TestRun[];
  /** The table, and how many of its rows are compared. */
  readonly embedding: StoredWeight & { readonly rows: number };
  readonly attention: {
    readonly prefill_length: number;
    /** Where in the output for the token after the prefill its `expected_decode` are. */
    readonly places: readonly number[];
    readonly expected_decode: readonly number[];
  };
  /** Tokens of a prompt that is computed twice. */
  readonly prompt_length: number;
  /**
   * Relative to the sum of a product's magnitudes; to a value; what may be taken for zero; relative to a gated
   * value; absolute; and relative to the root mean square of all logits.
   */
  readonly tolerance: Readonly<Record<"sum" | "value" | "least" | "activation" | "attention" | "logits", number>>;
}

/** Fields of `_metadata` that the engine uses. */
export interface Metadata {
  readonly abi_version: number;
  readonly context_window_size: number;
  readonly prefill_chunk_size: number;
  /** In the order in which functions take them. */
  readonly params: readonly ParameterShape[];
  /** Names of the programs whose kernels each stage launches; older libraries name the kernels. */
  readonly kernels: Readonly<Record<string, readonly string[]>>;
  /** Its shape, under the names that MLC's runtimes read too. */
  readonly kv_cache: {
    readonly num_hidden_layers: number;
    readonly num_key_value_heads: number;
    readonly num_attention_heads: number;
    readonly head_dim: number;
  };
  readonly self_test: SelfTest;
  /** Whether the library draws tokens on the device; older ones don't. */
  readonly draws?: boolean;
  readonly quantization: string;
  /** What shapes the model: the same as in mlc-chat-config.json. */
  readonly model_config: Readonly<Record<string, unknown>>;
  readonly dtype: FloatType;
}

const FIELDS = [
  "context_window_size",
  "prefill_chunk_size",
  "params",
  "kernels",
  "kv_cache",
  "self_test",
  "quantization",
  "model_config",
  "dtype",
] as const;

/** Throws EngineError: abi_mismatch, or bundle_invalid if fields are missing. */
export function parseMetadata(text: string): Metadata {
  const metadata = JSON.parse(text) as Metadata;
  if (metadata.abi_version !== ABI_VERSION) throw abiMismatch(metadata.abi_version);
  const missing = FIELDS.filter((field) => metadata[field] === undefined);
  if (missing.length === 0) return metadata;
  throw invalid(`The model library's metadata lacks ${missing.join(", ")}.`);
}

/** Whether a library was compiled for the model of its bundle. Throws EngineError "bundle_invalid". */
export function checkModel(metadata: Metadata, quantization: string, config: object): void {
  const own = Object.entries({ ...metadata.model_config, quantization: metadata.quantization });
  const bundled = new Map(Object.entries({ ...config, quantization }));
  const differing = own.filter(
    ([field, value]) => JSON.stringify(value) !== JSON.stringify(bundled.get(field)),
  );
  const [field, value] = differing[0] ?? [];
  if (field === undefined) return;
  const [found, wanted] = [value, bundled.get(field)].map((value) => JSON.stringify(value));
  throw invalid(
    `The library was compiled for another model: its ${field} is ${found}, the bundle's is ${wanted}.`,
  );
}

function invalid(message: string): EngineError {
  return new EngineError({
    code: "bundle_invalid",
    message,
    remedy: "Build the bundle again with `mlc-edge build`.",
  });
}
