/** Numbers as people of a language read them. Bytes are decimal, as browsers and file managers show them. */

/** Of what isn't translated. */
const DEFAULT = "en";
const UNITS = ["byte", "kilobyte", "megabyte", "gigabyte", "terabyte"] as const;

function unitOf(bytes: number): number {
  let unit = 0;
  while (unit < UNITS.length - 1 && Math.round(bytes) >= 1000 ** (unit + 1)) unit += 1;
  return unit;
}

function inUnit(bytes: number, unit: number, language: string, options: Intl.NumberFormatOptions = {}): string {
  const value = bytes / 1000 ** unit;
  const maximumFractionDigits = unit === 0 || value >= 100 ? 0 : 1;
  return new Intl.NumberFormat(language, { ...options, maximumFractionDigits }).format(value);
}

/** "2.4 MB" */
export function formatBytes(bytes: number, language = DEFAULT): string {
  const unit = unitOf(bytes);
  return inUnit(bytes, unit, language, { style: "unit", unit: UNITS[unit] ?? "byte" });
}

/** Both in the unit of the whole, which `total` names: "1.2" and "2.4 MB". */
export function formatBytesOf(loaded: number, whole: number, language = DEFAULT): { loaded: string; total: string } {
  return { loaded: inUnit(loaded, unitOf(whole), language), total: formatBytes(whole, language) };
}

/** "3.1 MB/s" */
export function formatSpeed(bytesPerSecond: number, language = DEFAULT): string {
  const unit = unitOf(bytesPerSecond);
  return inUnit(bytesPerSecond, unit, language, { style: "unit", unit: `${UNITS[unit] ?? "byte"}-per-second` });
}

/** "0.35 s", "12.4 s", "3 min 5 s" */
export function formatSeconds(seconds: number, language = DEFAULT): string {
  const digits = seconds < 10 ? 2 : 1;
  if (seconds < 60) return withUnit(seconds, "second", digits, language);
  const whole = Math.round(seconds);
  return `${withUnit(Math.floor(whole / 60), "minute", 0, language)} ${withUnit(whole % 60, "second", 0, language)}`;
}

function withUnit(value: number, unit: string, digits: number, language: string): string {
  const exactly = { minimumFractionDigits: digits, maximumFractionDigits: digits };
  return new Intl.NumberFormat(language, { style: "unit", unit, ...exactly }).format(value);
}

/** "12.3", "1,035" */
export function formatRate(perSecond: number, language = DEFAULT): string {
  const digits = perSecond >= 100 ? 0 : 1;
  const exactly = { minimumFractionDigits: digits, maximumFractionDigits: digits };
  return new Intl.NumberFormat(language, exactly).format(perSecond);
}

/** "1,024" */
export function formatCount(count: number, language = DEFAULT): string {
  return new Intl.NumberFormat(language).format(count);
}
