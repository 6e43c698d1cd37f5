/** Numbers as people read them. Bytes are decimal, as browsers and file managers show them. */

const UNITS = ["B", "kB", "MB", "GB", "TB"];

function unitOf(bytes: number): number {
  let unit = 0;
  while (unit < UNITS.length - 1 && Math.round(bytes) >= 1000 ** (unit + 1)) unit += 1;
  return unit;
}

function inUnit(bytes: number, unit: number): string {
  const value = bytes / 1000 ** unit;
  return unit === 0 || value >= 100 ? String(Math.round(value)) : value.toFixed(1);
}

/** "2.4 MB" */
export function formatBytes(bytes: number): string {
  const unit = unitOf(bytes);
  return `${inUnit(bytes, unit)} ${UNITS[unit]}`;
}

/** "1.2 of 2.4 MB", both in the unit of the whole. */
export function formatBytesOf(loaded: number, total: number): string {
  const unit = unitOf(total);
  return `${inUnit(loaded, unit)} of ${inUnit(total, unit)} ${UNITS[unit]}`;
}

/** "3.1 MB/s" */
export function formatSpeed(bytesPerSecond: number): string {
  return `${formatBytes(bytesPerSecond)}/s`;
}

/** "0.35 s", "12.4 s", "3 min 5 s" */
export function formatSeconds(seconds: number): string {
  if (seconds < 10) return `${seconds.toFixed(2)} s`;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const whole = Math.round(seconds);
  return `${Math.floor(whole / 60)} min ${whole % 60} s`;
}

/** "12.3", "104" */
export function formatRate(perSecond: number): string {
  return perSecond >= 100 ? String(Math.round(perSecond)) : perSecond.toFixed(1);
}

/** "1,024 tokens", "1 token" */
export function formatCount(count: number, noun: string): string {
  return `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;
}
