/** mlc-lock.json: what a bundle holds, and what its targets need. */
import { EngineError } from "./errors.ts";

/** Of version 1 targets have neither a device nor minima of adapters. */
const READABLE_VERSIONS: readonly unknown[] = [1, 2];
export const ABI_VERSION = 3;
const MAX_FILES = 10_000;
const MAX_TOLD = 10;
/** Not what files can name: the lock itself and its signature. */
const OWN_NAMES: readonly string[] = ["mlc-lock.json", "mlc-lock.json.sig"];
const DEVICES = ["cpu", "vulkan", "cuda", "webgpu", "wasm"] as const;
/** What Python's `str.isprintable` refuses, halves of surrogate pairs among it. */
const UNPRINTABLE = /[^\p{L}\p{M}\p{N}\p{P}\p{S} ]/gu;

export interface LockedFile {
  readonly path: string;
  readonly bytes: number;
  /** 64 hex digits. */
  readonly sha256: string;
}

export type TargetDevice = (typeof DEVICES)[number];

export interface LockedTarget {
  readonly name: string;
  readonly device: TargetDevice;
  /** Paths inside the bundle. */
  readonly library: string;
  readonly parameters: string;
  /** Device memory of the weights. */
  readonly parameterBytes: number;
  readonly needs: {
    readonly features: readonly string[];
    readonly limits: Readonly<Record<string, number>>;
    /** Minima of numbers that describe an adapter: `subgroupMinSize`, and `isSoftware`, which is 0 or 1. */
    readonly adapter: Readonly<Record<string, number>>;
  };
}

export interface Lock {
  readonly abiVersion: number;
  readonly model: {
    readonly id: string;
    readonly modelType: string;
    readonly quantization: string;
    /** In tokens. */
    readonly contextWindowSize: number;
  };
  readonly files: ReadonlyMap<string, LockedFile>;
  readonly targets: ReadonlyMap<string, LockedTarget>;
}

type Json = Record<string, unknown>;

/** The lock of a bundle that this engine runs. Throws EngineError: bundle_invalid, abi_mismatch. */
export function runnableLock(value: unknown): Lock {
  const lock = parseLock(value);
  if (lock.abiVersion !== ABI_VERSION) throw abiMismatch(lock.abiVersion);
  return lock;
}

export function abiMismatch(version: unknown): EngineError {
  return new EngineError({
    code: "abi_mismatch",
    message: `The model was built for ABI version ${version}, this engine runs ${ABI_VERSION}.`,
    remedy: "Build model and page with one version of mlc-edge, then reload the page.",
  });
}

/**
 * Checks the whole of a parsed mlc-lock.json.
 *
 * Throws EngineError "bundle_invalid" that names the first problems and says how many more there are.
 */
export function parseLock(value: unknown): Lock {
  const reader = new Reader();
  const root = reader.object(value, "mlc-lock.json");
  const version = root["lock_version"];
  if (!READABLE_VERSIONS.includes(version)) {
    const readable = READABLE_VERSIONS.join(" and ");
    reader.problem(`lock_version is ${JSON.stringify(version)}, this engine reads ${readable}`);
  }
  const model = reader.object(root["model"], "model");
  const files = readFiles(root["files"], reader);
  const lock: Lock = {
    abiVersion: reader.count(root["abi_version"], "abi_version"),
    model: {
      id: reader.id(model["id"], "model.id"),
      modelType: reader.name(model["model_type"], "model.model_type"),
      quantization: reader.name(model["quantization"], "model.quantization"),
      contextWindowSize: reader.count(model["context_window_size"], "model.context_window_size"),
    },
    files,
    targets: readTargets(root["targets"], { files, version, reader }),
  };
  // Not for engines, and wrong in no lock that a build wrote.
  reader.count(model["parameters"], "model.parameters");
  if ("formats" in model) readCounts(model["formats"], "model.formats", reader);
  if ("build_inputs" in root) reader.shown(root["build_inputs"], "build_inputs");
  reader.finish();
  return lock;
}

function readFiles(value: unknown, reader: Reader): Map<string, LockedFile> {
  const files = new Map<string, LockedFile>();
  const entries = reader.list(value, "files");
  if (entries.length > MAX_FILES) {
    reader.problem(`it names ${entries.length} files, and a bundle has at most ${MAX_FILES}`);
    return files;
  }
  const sizes = new Map<string, number>();
  for (const [index, entry] of entries.entries()) {
    const at = `files[${index}]`;
    const file = reader.object(entry, at);
    const path = reader.path(file["path"], `${at}.path`);
    const bytes = reader.count(file["bytes"], `${at}.bytes`);
    const sha256 = reader.text(file["sha256"], `${at}.sha256`);
    if (sha256 && !/^[0-9a-f]{64}$/.test(sha256)) {
      reader.problem(`${at}.sha256 must be 64 lower-case hex digits`);
    }
    if ((sizes.get(sha256) ?? bytes) !== bytes) {
      reader.problem(`${at}.sha256 is that of a file with another size`);
    }
    sizes.set(sha256, bytes);
    if (files.has(path)) reader.problem(`${at}.path "${path}" is listed twice`);
    if (OWN_NAMES.includes(path)) reader.problem(`${at}.path "${path}" is the lock's own`);
    files.set(path, { path, bytes, sha256 });
  }
  return files;
}

function readTargets(
  value: unknown,
  { files, version, reader }: { files: ReadonlyMap<string, LockedFile>; version: unknown; reader: Reader },
): Map<string, LockedTarget> {
  const targets = new Map<string, LockedTarget>();
  for (const [name, entry] of Object.entries(reader.object(value, "targets"))) {
    const at = `targets.${name}`;
    reader.name(name, "a name in targets");
    const target = reader.object(entry, at);
    const library = reader.path(target["library"], `${at}.library`);
    const parameters = reader.path(target["parameters"], `${at}.parameters`);
    for (const path of [library, parameters]) {
      if (path && !files.has(path)) reader.problem(`${at} names "${path}", which files lacks`);
    }
    targets.set(name, {
      name,
      device: version === 1 ? deviceByName(name, library) : readDevice(target["device"], `${at}.device`, reader),
      library,
      parameters,
      parameterBytes: reader.count(target["parameter_bytes"], `${at}.parameter_bytes`),
      needs: readNeeds(target["needs"], `${at}.needs`, reader),
    });
  }
  if (targets.size === 0) reader.problem("targets is empty");
  return targets;
}

function readDevice(value: unknown, at: string, reader: Reader): TargetDevice {
  const device = DEVICES.find((known) => known === value);
  if (!device) reader.problem(`${at} must be one of ${DEVICES.join(", ")}`);
  return device ?? "cpu";
}

function deviceByName(name: string, library: string): TargetDevice {
  if (library.endsWith(".so")) return "cpu";
  return name.startsWith("wasm") ? "wasm" : "webgpu";
}

function readNeeds(value: unknown, at: string, reader: Reader): LockedTarget["needs"] {
  const needs = reader.object(value, at);
  const features = reader.list(needs["features"], `${at}.features`);
  return {
    features: features.map((name) => reader.name(name, `a name in ${at}.features`)),
    limits: readCounts(needs["limits"], `${at}.limits`, reader),
    adapter: "adapter" in needs ? readCounts(needs["adapter"], `${at}.adapter`, reader) : {},
  };
}

function readCounts(value: unknown, at: string, reader: Reader): Record<string, number> {
  const counts = reader.object(value, at);
  return Object.fromEntries(
    Object.entries(counts).map(([name, count]) => [
      reader.name(name, `a name in ${at}`),
      reader.count(count, `${at}.${name}`),
    ]),
  );
}

/** Reads untrusted JSON, collecting problems; what it returns for a bad value is never used. */
class Reader {
  readonly #problems: string[] = [];

  problem(text: string): void {
    this.#problems.push(text);
  }

  object(value: unknown, name: string): Json {
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as Json;
    this.problem(`${name} must be an object`);
    return {};
  }

  list(value: unknown, name: string): unknown[] {
    if (Array.isArray(value)) return value;
    this.problem(`${name} must be a list`);
    return [];
  }

  text(value: unknown, name: string): string {
    if (typeof value === "string" && value) return value;
    this.problem(`${name} must be a text`);
    return "";
  }

  /** A text that people are shown. */
  name(value: unknown, name: string): string {
    const text = this.text(value, name);
    return text && this.shown(text, name);
  }

  /** A text that may be empty. */
  shown(value: unknown, name: string): string {
    if (typeof value === "string" && value.search(UNPRINTABLE) < 0) return value;
    this.problem(`${name} must be a printable text, not ${JSON.stringify(value)}`);
    return "";
  }

  id(value: unknown, name: string): string {
    const id = this.text(value, name);
    if (id && !isBundleId(id)) {
      this.problem(`${name} "${id}" has characters that URLs can't carry`);
    }
    return id;
  }

  count(value: unknown, name: string): number {
    if (typeof value === "number" && Number.isSafeInteger(value) && value >= 0) return value;
    this.problem(`${name} must be a whole number below 2^53, not ${JSON.stringify(value)}`);
    return 0;
  }

  /** A path that stays inside the bundle. */
  path(value: unknown, name: string): string {
    const path = this.name(value, name);
    const parts = path.split("/");
    if (path && (/[\\:?#%]/.test(path) || parts.some((p) => p === "" || p === "." || p === ".."))) {
      this.problem(`${name} "${path}" must be a relative path inside the bundle`);
    }
    return path;
  }

  finish(): void {
    if (this.#problems.length === 0) return;
    const more = this.#problems.length - MAX_TOLD;
    const first = this.#problems.slice(0, MAX_TOLD).concat(more > 0 ? [`and ${more} more`] : []);
    const told = first.join("; ").replace(UNPRINTABLE, escaped);
    throw new EngineError({
      code: "bundle_invalid",
      message: `mlc-lock.json can't be used: ${told}.`,
      remedy: "Build the bundle again with `mlc-edge build`.",
    });
  }
}

/** What can be a folder's name and a part of its URL. */
export function isBundleId(value: unknown): value is string {
  return typeof value === "string" && /^[A-Za-z0-9][A-Za-z0-9._-]*$/.test(value);
}

function escaped(character: string): string {
  return `\\u{${character.codePointAt(0)?.toString(16)}}`;
}
