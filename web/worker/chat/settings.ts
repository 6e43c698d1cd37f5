/** Settings as they come from a form or from storage: checked field by field. */
import type { ContextPolicy } from "../shared/protocol.ts";
import { filled } from "../ui/strings.ts";
import type { ChatSettings } from "../ui/types.ts";
import { record } from "./record.ts";
import { STRINGS } from "./strings.ts";

export const DEFAULT_SETTINGS: ChatSettings = {
  systemPrompt: "",
  temperature: null,
  topP: null,
  minP: null,
  maxTokens: null,
  seed: null,
  contextPolicy: "truncate-oldest",
};

export type SettingName = keyof ChatSettings;

interface NumberField {
  name: "temperature" | "topP" | "minP" | "maxTokens" | "seed";
  min: number;
  /** Exclusive where `above` is set. */
  above?: number;
  max: number;
  integer: boolean;
  step: string;
}

export const NUMBER_FIELDS: readonly NumberField[] = [
  {
    name: "temperature",
    min: 0,
    max: 2,
    integer: false,
    step: "0.1",
  },
  {
    name: "topP",
    min: 0,
    above: 0,
    max: 1,
    integer: false,
    step: "0.05",
  },
  {
    name: "minP",
    min: 0,
    max: 1,
    integer: false,
    step: "0.01",
  },
  {
    name: "maxTokens",
    min: 1,
    max: 1_000_000,
    integer: true,
    step: "1",
  },
  {
    name: "seed",
    min: 0,
    max: 2 ** 31 - 1,
    integer: true,
    step: "1",
  },
];

/** Settings whose defaults are the model's, or a chat's: their names in requests. */
export const SAMPLING_FIELDS = [
  { name: "temperature", field: "temperature" },
  { name: "topP", field: "top_p" },
  { name: "minP", field: "min_p" },
] as const;

export type SettingsResult =
  | { ok: true; settings: ChatSettings }
  | { ok: false; wrong: Partial<Record<SettingName, string>> };

/** Reads a form's raw texts; an empty number means the model's default. */
export function parseSettings(raw: Record<SettingName, string>): SettingsResult {
  const wrong: Partial<Record<SettingName, string>> = {};
  const settings: ChatSettings = { ...DEFAULT_SETTINGS, systemPrompt: raw.systemPrompt.trim() };
  for (const field of NUMBER_FIELDS) {
    const text = raw[field.name].trim();
    if (text === "") continue;
    const value = Number(text);
    if (allows(field, value)) settings[field.name] = value;
    else wrong[field.name] = expectation(field);
  }
  if (isContextPolicy(raw.contextPolicy)) settings.contextPolicy = raw.contextPolicy;
  return Object.keys(wrong).length ? { ok: false, wrong } : { ok: true, settings };
}

/** Settings from storage: whatever an older or damaged record lacks falls back to the default. */
export function restoreSettings(stored: unknown): ChatSettings {
  const fields = record(stored);
  const text = (name: string) => {
    const value = fields[name];
    return typeof value === "string" || typeof value === "number" ? String(value) : "";
  };
  const raw = {
    systemPrompt: text("systemPrompt"),
    temperature: text("temperature"),
    topP: text("topP"),
    minP: text("minP"),
    maxTokens: text("maxTokens"),
    seed: text("seed"),
    contextPolicy: text("contextPolicy"),
  };
  const result = parseSettings(raw);
  if (result.ok) return result.settings;
  for (const name of Object.keys(result.wrong) as SettingName[]) raw[name] = "";
  const repaired = parseSettings(raw);
  return repaired.ok ? repaired.settings : DEFAULT_SETTINGS;
}

function allows(field: NumberField, value: number): boolean {
  if (!Number.isFinite(value) || value < field.min || value > field.max) return false;
  if (field.above !== undefined && value <= field.above) return false;
  return !field.integer || Number.isInteger(value);
}

function expectation(field: NumberField): string {
  const bounds = { low: String(field.above ?? field.min), high: String(field.max) };
  if (field.above !== undefined) return filled(STRINGS.numberAbove, bounds);
  return filled(field.integer ? STRINGS.wholeNumberFrom : STRINGS.numberFrom, bounds);
}

function isContextPolicy(value: string): value is ContextPolicy {
  return value === "error" || value === "truncate-oldest";
}

const KEY = "mlc-edge.settings";

/** Defaults for new chats, as last saved. */
export function loadDefaults(): ChatSettings {
  try {
    return restoreSettings(JSON.parse(localStorage.getItem(KEY) ?? "null"));
  } catch {
    return DEFAULT_SETTINGS;
  }
}

export function saveDefaults(settings: ChatSettings): void {
  try {
    localStorage.setItem(KEY, JSON.stringify(settings));
  } catch {
    // Storage is off or full: the settings then last for this chat alone.
  }
}
