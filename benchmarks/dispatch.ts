/** A decode step's commands, through the engine's dispatcher and through tvmjs's, for kernels that do nothing. */
import { open, type Opened, WAYS } from "./steps.ts";

const SETTLING_STEPS = 10;
/** Room beyond a round's. */
const MORE_TOKENS = 16;
const COUNTED: [{ prototype: object }, string[]][] = [
  [GPUDevice, ["createBindGroup", "createBuffer"]],
  [GPUQueue, ["submit", "writeBuffer"]],
  [GPUCommandEncoder, ["beginComputePass"]],
  [GPUComputePassEncoder, ["dispatchWorkgroups"]],
];

/** How often each of WebGPU's functions is called in a step. */
async function count({ begin, step }: Opened): Promise<Record<string, number>> {
  const counts: Record<string, number> = {};
  const undo: (() => void)[] = [];
  for (const [type, names] of COUNTED) {
    const prototype = type.prototype as Record<string, (...args: unknown[]) => unknown>;
    for (const name of names) {
      const original = prototype[name]!;
      counts[name] = 0;
      prototype[name] = function (...args) {
        counts[name]! += 1;
        return original.apply(this, args);
      };
      undo.push(() => (prototype[name] = original));
    }
  }
  begin();
  await step();
  for (const restore of undo) restore();
  return counts;
}

const opened = new Map<string, Opened>();

Object.assign(globalThis, {
  /** Opens the library each way, for so many steps in a round, and counts a step's calls. */
  async prepare(url: string, steps: number) {
    const library = await (await fetch(url)).arrayBuffer();
    const calls: Record<string, Record<string, number>> = {};
    for (const name of Object.keys(WAYS) as (keyof typeof WAYS)[]) {
      const way = await open(name, library, steps + MORE_TOKENS);
      opened.set(name, way);
      // TVM's temporaries take turns for some steps.
      for (let done = 0; done < SETTLING_STEPS; done++) await way.step();
      calls[name] = await count(way);
    }
    return calls;
  },

  async round(name: string, steps: number) {
    const { begin, step } = opened.get(name)!;
    begin();
    for (let done = 0; done < steps; done++) await step();
  },

  ready: true,
});
