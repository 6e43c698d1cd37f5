/** Work for when the browser has nothing better to do: the latest first, as that is what people look at. */

const waiting: (() => void)[] = [];
/** What one piece of work may take, in milliseconds: without so much time left none is begun. */
const MIN_LEFT_MS = 8;

export function whenIdle(work: () => void): void {
  waiting.push(work);
  if (waiting.length === 1) next();
}

function next(): void {
  // Safari has no idle callbacks.
  if ("requestIdleCallback" in globalThis) requestIdleCallback((deadline) => run(() => deadline.timeRemaining()), { timeout: 1_000 });
  else setTimeout(() => run(() => 0), 20);
}

function run(timeLeft: () => number): void {
  try {
    do waiting.pop()?.();
    while (waiting.length > 0 && timeLeft() > MIN_LEFT_MS);
  } finally {
    if (waiting.length > 0) next();
  }
}
