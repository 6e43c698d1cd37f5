/**
 * Web Locks, which exclude other tabs; where the browser has none, nothing is stored either.
 *
 * One that denies site data denies locks, too: that counts as having none.
 */

/** Runs `job` while nobody else runs one under this name. */
export function exclusively<T>(name: string, signal: AbortSignal, job: () => Promise<T>): Promise<T> {
  // The signal ends the wait alone; the job has its own.
  return request(name, { signal }, { granted: job, denied: job });
}

/** Runs `job` if nobody holds the name now; whether it did. */
export function ifFree(name: string, job: () => Promise<void>): Promise<boolean> {
  const granted = async (lock: Lock | null): Promise<boolean> => {
    if (lock) await job();
    return lock !== null;
  };
  return request(name, { ifAvailable: true }, { granted, denied: async () => false });
}

/** Holds a name together with others, until the returned function is called or the worker ends. */
export function hold(name: string): Promise<() => void> {
  return new Promise((resolve, reject) => {
    const granted = () => new Promise<void>((release) => resolve(release));
    const denied = async () => resolve(() => {});
    request(name, { mode: "shared" }, { granted, denied }).catch(reject);
  });
}

interface Jobs<T> {
  granted: (lock: Lock | null) => Promise<T>;
  /** Runs where there are no locks. */
  denied: () => Promise<T>;
}

/** Rejects with what the jobs throw, and with the signal's reason. */
async function request<T>(name: string, options: LockOptions, { granted, denied }: Jobs<T>): Promise<T> {
  if (!navigator.locks) return denied();
  let answered = false;
  const job = (lock: Lock | null): Promise<T> => {
    answered = true;
    return granted(lock);
  };
  try {
    return await navigator.locks.request(name, options, job);
  } catch (error) {
    if (answered || options.signal?.aborted) throw error;
  }
  return denied();
}
