/** Web Locks, which exclude other tabs; where the browser has none, nothing is stored either. */

/** Runs `job` while nobody else runs one under this name. */
export async function exclusively<T>(name: string, signal: AbortSignal, job: () => Promise<T>): Promise<T> {
  if (!navigator.locks) return job();
  // The signal ends the wait alone; the job has its own.
  return navigator.locks.request(name, { signal }, job);
}

/** Runs `job` if nobody holds the name now; whether it did. */
export async function ifFree(name: string, job: () => Promise<void>): Promise<boolean> {
  if (!navigator.locks) return false;
  return navigator.locks.request(name, { ifAvailable: true }, async (lock) => {
    if (lock) await job();
    return lock !== null;
  });
}

/** Holds a name together with others, until the returned function is called or the worker ends. */
export function hold(name: string): Promise<() => void> {
  if (!navigator.locks) return Promise.resolve(() => {});
  return new Promise((resolve, reject) => {
    const held = () => new Promise<void>((release) => resolve(release));
    navigator.locks.request(name, { mode: "shared" }, held).catch(reject);
  });
}
