/** `run` at most once in `everyMs`: at once, or as soon as that allows. `now` runs what is put off. */
export function paced(run: () => void, everyMs: number): { soon(): void; now(): void } {
  let ranAt = -Infinity;
  let timer: ReturnType<typeof setTimeout> | null = null;
  const go = (): void => {
    if (timer !== null) clearTimeout(timer);
    timer = null;
    ranAt = performance.now();
    run();
  };
  return {
    soon: () => {
      const wait = ranAt + everyMs - performance.now();
      if (wait <= 0) go();
      else timer ??= setTimeout(go, wait);
    },
    now: () => {
      if (timer !== null) go();
    },
  };
}
