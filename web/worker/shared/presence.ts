/** Web Locks that tell who lives: whoever holds one does. */

/** What pages that share an engine call it; the number grows with changes of their messages. */
export const ENGINE_NAME = "mlc-edge engine 1";

/** Held until the returned function is called or this page or worker ends. */
export interface Held {
  readonly name: string;
  release(): void;
}

/** Takes a name that nobody else has; null where there are no Web Locks, or where they are denied. */
export function hold(prefix: string): Promise<Held | null> {
  const name = `${prefix} ${crypto.randomUUID()}`;
  return new Promise((resolve) => {
    const none = (): void => resolve(null);
    if (!navigator.locks) none();
    else {
      const granted = () => new Promise<void>((release) => resolve({ name, release }));
      navigator.locks.request(name, granted).catch(none);
    }
  });
}

/** The name of a lock that is held as long as this page or worker lives; null where there are none. */
export async function holdForLife(prefix: string): Promise<string | null> {
  return (await hold(prefix))?.name ?? null;
}

/** True once nobody holds the lock; false if the signal is aborted before. */
export function whenFree(name: string, signal: AbortSignal): Promise<boolean> {
  const options: LockOptions = { mode: "shared", signal };
  return navigator.locks.request(name, options, async () => true).catch(() => false);
}
