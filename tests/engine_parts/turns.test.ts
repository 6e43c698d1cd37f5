import assert from "node:assert/strict";
import { test } from "node:test";
import { Scheduler } from "../../web/worker/engine/scheduler.ts";

const [alice, bob, carol] = [{ name: "alice" }, { name: "bob" }, { name: "carol" }];
const { signal } = new AbortController();

/** Jobs that end when they are told to; `log` has who began. */
function turns() {
  const scheduler = new Scheduler();
  const log: string[] = [];
  const ends: (() => void)[] = [];
  const ask = (client: { name: string }, aborted: AbortSignal = signal) =>
    scheduler.run(
      client,
      () => {
        log.push(client.name);
        return new Promise<void>((resolve) => ends.push(resolve));
      },
      aborted,
    );
  const end = async () => {
    ends.shift()?.();
    await new Promise((resolve) => setImmediate(resolve));
  };
  return { scheduler, log, ask, end };
}

test("jobs run one at a time, and one client's in their order", async () => {
  const scheduler = new Scheduler();
  const log: string[] = [];
  const job = (name: string) => async () => {
    log.push(`${name} begins`);
    await Promise.resolve();
    log.push(`${name} ends`);
  };
  await Promise.all(["a", "b"].map((name) => scheduler.run(alice, job(name), signal)));
  assert.deepEqual(log, ["a begins", "a ends", "b begins", "b ends"]);
});

test("clients take turns, whoever has more requests", async () => {
  const { log, ask, end } = turns();
  for (const client of [alice, alice, alice, bob, carol, bob]) void ask(client);
  for (let done = 0; done < 6; done++) await end();
  assert.deepEqual(log, ["alice", "bob", "carol", "alice", "bob", "alice"]);
});

test("a client that comes later waits for the answer that is written, and no longer", async () => {
  const { log, ask, end } = turns();
  for (let count = 0; count < 3; count++) void ask(alice);
  await end();
  void ask(bob);
  await end();
  assert.deepEqual(log, ["alice", "alice", "bob"]);
});

test("a waiting job that is aborted never starts, and one that fails holds up nobody", async () => {
  const scheduler = new Scheduler();
  const failing = scheduler.run(alice, () => Promise.reject(new Error("broken")), signal);
  const throwing = scheduler.run(bob, () => {
    throw new Error("thrown");
  }, signal);
  const controller = new AbortController();
  let started = false;
  const start = async () => {
    started = true;
  };
  const waiting = scheduler.run(alice, start, controller.signal);
  controller.abort();
  const late = scheduler.run(alice, start, controller.signal);
  const after = scheduler.run(alice, async () => "fine", signal);
  await assert.rejects(waiting, { name: "AbortError" });
  await assert.rejects(late, { name: "AbortError" });
  await assert.rejects(failing, /broken/);
  await assert.rejects(throwing, /thrown/);
  assert.equal(await after, "fine");
  assert.equal(started, false);
});

test("an abort of the job that runs is the job's to heed", async () => {
  const { ask, end, log } = turns();
  const controller = new AbortController();
  const running = ask(alice, controller.signal);
  void ask(bob);
  controller.abort();
  await end();
  assert.equal(await running, undefined);
  assert.deepEqual(log, ["alice", "bob"]);
});
