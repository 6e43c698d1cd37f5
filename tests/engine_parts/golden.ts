/** Reads the vectors of tests/golden. */
import { readFileSync } from "node:fs";

export function golden(name: string): any {
  return JSON.parse(readFileSync(`${process.env["GOLDEN"]}/${name}.json`, "utf8"));
}
