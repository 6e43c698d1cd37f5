/** Web Locks that tell who lives: whoever holds one does. */

/** What pages that share an engine call it; the number grows with changes of their messages. */
export const ENGINE_NAME = "mlc-edge engine 1";

/** Held until the returned function is called or this page or worker ends. */
export interface Held {
  readonly name: string;
  release(): void;
}

/** Takes a name, once nobody else holds it; null where there are no Web Locks, or where they are denied. */
export function holdNamed(name: string): Promise<Held | null> {
  return new Promise((resolve) => {
    const none = (): void => resolve(null);
    if (!navigator.locks) none();
    else {
      const granted = () => new Promise<void>((release) => resolve({ name, release }));
      navigator.locks.request(name, granted).catch(none);
    }
  });
}

/** Takes a name that nobody else has; null as `holdNamed`. */
export async function hold(prefix: string): Promise<Held | null> {
  return navigator.locks ? holdNamed(`${prefix} ${crypto.randomUUID()}`) : null;
}

/** The name of a lock that is held as long as this page or worker lives; null where there are none. */
export async function holdForLife(prefix: string): Promise<string | null> {
  return (await hold(prefix))?.name ?? null;
}

/** Whether some page or worker holds the lock; false where that can't be known. */
export async function isHeld(name: string): Promise<boolean> {
  const { held = [] } = (await navigator.locks?.query().catch(() => undefined)) ?? {};
  return held.some((lock) => lock.name === name);
}

/** True once nobody holds the lock; false if the signal is aborted before. */
export function whenFree(name: string, signal: AbortSignal): Promise<boolean> {
  const options: LockOptions = { mode: "shared", signal };
  return navigator.locks.request(name, options, async () => true).catch(() => false);
}
