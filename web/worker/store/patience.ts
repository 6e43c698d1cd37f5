/** How long a silent network is waited for. */

/** What the network says within so long; TypeError, as for any network that fails, if nothing. */
export async function within<T>(silenceMs: number, said: Promise<T>): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const silence = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new TypeError("The network says nothing.")), silenceMs);
  });
  try {
    return await Promise.race([said, silence]);
  } finally {
    clearTimeout(timer);
  }
}
