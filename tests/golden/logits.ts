/** The logits of cases in sampling.json. */
export interface Rows {
  values?: (number | string | null)[][];
  vocabulary: number;
  seed: number;
  scale: number;
  levels?: number;
  peaks?: number;
  lift?: number;
  comb?: number;
}

/** Wellons' lowbias32. */
function mix(word: number): number {
  let h = word >>> 0;
  h = Math.imul(h ^ (h >>> 16), 0x7feb352d);
  h = Math.imul(h ^ (h >>> 15), 0x846ca68b);
  return (h ^ (h >>> 16)) >>> 0;
}

/** As sampling.py makes them. */
export function logits(rows: Rows, step: number): Float32Array {
  const given = rows.values?.[step];
  const special = { inf: Infinity, "-inf": -Infinity } as Record<string, number>;
  if (given) return Float32Array.from(given, (v) => (v === null ? NaN : (special[v] ?? Number(v))));
  const first = (8 * rows.seed + step) * 2 ** 20;
  const values = Float64Array.from({ length: rows.vocabulary }, (_, id) => {
    const [a, b, c] = [0, 1, 2].map((j) => mix(4 * id + j + first) / 2 ** 32) as [number, number, number];
    const value = rows.scale * (a + b + c - 1.5);
    return rows.levels ? Math.floor(value * rows.levels) / rows.levels : value;
  });
  for (let i = 0; i < (rows.peaks ?? 0); i++) {
    values[mix(i + first) % rows.vocabulary]! += rows.lift ?? 0;
  }
  for (let id = 0; rows.comb && id < values.length; id += rows.comb) values[id] = rows.lift ?? 0;
  return Float32Array.from(values);
}
