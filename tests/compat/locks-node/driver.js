// Lock libraries for Node.js. driver.js LIBRARY PORT OTHER-PORT: prints ok, or fails.
'use strict';

const assert = require('assert');
const Redis = require('ioredis');

const [library, port, other] = process.argv.slice(2);
const one = new Redis({ port: Number(port), maxRetriesPerRequest: 3 });
const two = new Redis({ port: Number(other), maxRetriesPerRequest: 3 });
const name = `lock-${library}`;
const settings = { retryCount: 0 };

async function until(what, condition) {
  for (const end = Date.now() + 20000; !(await condition());) {
    assert(Date.now() < end, what);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

// A lock is { extend(ttl), release() }; each of them may reject. The keys are those that the lock takes.
const libraries = {
  redlock3: (client) => {
    const redlock = new (require('redlock3'))([client], settings);
    return { keys: [name], take: async (ttl) => wrap(await redlock.lock(name, ttl), 'unlock') };
  },
  redlock4: (client) => {
    const redlock = new (require('redlock4'))([client], settings);
    const keys = [name, `${name}-2`];
    return { keys, take: async (ttl) => wrap(await redlock.lock(keys, ttl), 'unlock') };
  },
  redlock5: (client) => {
    const redlock = new (require('redlock5').default)([client], settings);
    const keys = [name, `${name}-2`];
    return { keys, take: async (ttl) => wrap(await redlock.acquire(keys, ttl), 'release') };
  },
  'redis-semaphore': (client) => {
    const { Mutex } = require('redis-semaphore');
    const take = async (ttl) => {
      const options = { lockTimeout: ttl, refreshInterval: 0, acquireTimeout: 100, acquireAttemptsLimit: 1 };
      const mutex = new Mutex(client, name, options);
      if (!(await mutex.tryAcquire())) throw new Error('it is another\'s');
      return { extend: null, release: () => mutex.release() };
    };
    return { keys: [`mutex:${name}`], take };
  },
};

function wrap(lock, release) {
  return { extend: async (ttl) => wrap(await lock.extend(ttl), release), release: () => lock[release]() };
}

async function main() {
  const first = libraries[library](one);
  const second = libraries[library](two);
  let lock = await first.take(5000);
  for (const key of first.keys) assert((await two.pttl(key)) > 3000, `${key} is there`);
  await assert.rejects(second.take(5000));
  if (lock.extend !== null) lock = await lock.extend(60000);
  if (lock.extend !== null) for (const key of first.keys) assert((await two.pttl(key)) > 30000, 'extended');
  await lock.release();
  for (const key of first.keys) assert.strictEqual(await two.get(key), null);
  // Whose lock is over takes nothing from the next one.
  lock = await first.take(500);
  await until('it is over', async () => (await two.get(first.keys[0])) === null);
  const next = await second.take(5000);
  await lock.release().catch(() => {});
  for (const key of first.keys) assert.notStrictEqual(await one.get(key), null);
  await next.release();
  for (const key of first.keys) assert.strictEqual(await one.get(key), null);
  if (library === 'redis-semaphore') await refreshes();
}

// It prolongs its lock by itself.
async function refreshes() {
  const { Mutex } = require('redis-semaphore');
  const mutex = new Mutex(one, `${name}-long`, { lockTimeout: 3000, refreshInterval: 100 });
  await mutex.acquire();
  await new Promise((resolve) => setTimeout(resolve, 1000));
  assert((await two.pttl(`mutex:${name}-long`)) > 2500, 'it was prolonged');
  await mutex.release();
  assert.strictEqual(await two.get(`mutex:${name}-long`), null);
}

main().then(() => { console.log('ok'); process.exit(0); }, (error) => { console.error(error); process.exit(1); });
