/** Bytes as people of a language read them: decimal, as browsers and file managers show them. */
import type { Language } from "./strings/launcher.ts";

const UNITS = ["byte", "kilobyte", "megabyte", "gigabyte", "terabyte"] as const;

/** "2.4 MB" */
export function formatBytes(bytes: number, language: Language): string {
  let unit = 0;
  while (unit < UNITS.length - 1 && Math.round(bytes) >= 1000 ** (unit + 1)) unit += 1;
  const value = bytes / 1000 ** unit;
  const maximumFractionDigits = unit === 0 || value >= 100 ? 0 : 1;
  const format = new Intl.NumberFormat(language, { style: "unit", unit: UNITS[unit] ?? "byte", maximumFractionDigits });
  return format.format(value);
}
