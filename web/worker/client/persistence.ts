/** How much a site may store and whether it stays: what browsers tell and ask in windows alone. */

export interface StorageEstimateBytes {
  usage: number;
  quota: number;
  persisted: boolean;
}

/** Asks the browser not to evict stored models; true when granted. Call it on a user's click. */
export async function requestPersistence(): Promise<boolean> {
  if (!navigator.storage?.persist) return false;
  return (await navigator.storage.persisted()) || (await navigator.storage.persist());
}

/** Bytes that this site uses and may use; zeros where the browser doesn't say. */
export async function storageEstimate(): Promise<StorageEstimateBytes> {
  if (!navigator.storage?.estimate) return { usage: 0, quota: 0, persisted: false };
  const [{ usage = 0, quota = 0 }, persisted] = await Promise.all([
    navigator.storage.estimate(),
    navigator.storage.persisted(),
  ]);
  return { usage, quota, persisted };
}
