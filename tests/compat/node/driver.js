// driver.js - one of the Node.js clients, as clients.py starts it:
//   node driver.js LIBRARY check|load standalone|sentinel|cluster PORT,PORT,... [SECONDS]
'use strict';
const assert = require('assert');

const [library, mode, face, portList, seconds] = process.argv.slice(2);
const ports = portList.split(',').map(Number);
const nodes = ports.map((port) => ({ host: '127.0.0.1', port }));
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// What differs between the libraries: connecting, a plain command, a pipeline, a transaction, messages.
async function openIoredis(version) {
  const Redis = require(`ioredis${version}`);
  const make = () => {
    if (face === 'cluster') return new Redis.Cluster(nodes, { lazyConnect: false });
    if (face === 'sentinel') return new Redis({ sentinels: nodes, name: 'mymaster' });
    return new Redis(nodes[0]);
  };
  const client = make();
  client.on('error', () => {});
  return {
    call: (...args) => client.call(...args),
    set: (key, value) => client.set(key, value),
    get: (key) => client.get(key),
    getBinary: (key) => client.getBuffer(key),
    pipeline: async (commands) => {
      const replies = await client.pipeline(commands).exec();
      return replies.map(([error, reply]) => { if (error) throw error; return reply; });
    },
    // Watches a key, lets `change` happen, then tries to write.
    watched: async (key, change) => {
      const own = make();
      own.on('error', () => {});
      if (face === 'cluster') await new Promise((resolve) => own.once('ready', resolve));
      const one = face === 'cluster' ? own.nodes('master')[0] : own;
      await one.watch(key);
      await change();
      const reply = await one.multi([['set', key, 'lost']]).exec();
      own.disconnect();
      return reply;
    },
    transaction: async (commands) => {
      const replies = await client.multi(commands).exec();
      return replies.map(([error, reply]) => { if (error) throw error; return reply; });
    },
    listen: async (channel, got) => {
      const own = make();
      own.on('error', () => {});
      own.on('message', (_, message) => got(message));
      await own.subscribe(channel);
      return () => own.disconnect();
    },
    close: () => client.disconnect(),
  };
}

async function openNodeRedis(version) {
  const { createClient, createCluster, createSentinel } = require(`redis${version}`);
  const make = () => {
    if (face === 'cluster') return createCluster({ rootNodes: nodes.map((node) => ({ socket: node })) });
    if (face === 'sentinel') return createSentinel({ name: 'mymaster', sentinelRootNodes: nodes });
    return createClient({ socket: nodes[0] });
  };
  const client = make();
  client.on('error', () => {});
  await client.connect();
  const send = (args) => {
    const parts = args.map(String);
    if (face === 'cluster') return client.sendCommand(parts[1], false, parts);
    if (face === 'sentinel') return client.sendCommand(false, parts);
    return client.sendCommand(parts);
  };
  const queue = (commands) => {
    const multi = client.multi();
    for (const [name, key, ...rest] of commands) multi[name === 'setex' ? 'setEx' : name](key, ...rest);
    return multi;
  };
  return {
    call: (...args) => send(args),
    set: (key, value) => client.set(key, value),
    get: (key) => client.get(key),
    getBinary: null,
    pipeline: (commands) => queue(commands).execAsPipeline(),
    watched: face !== 'standalone' ? null : async (key, change) => {
      const own = make();
      own.on('error', () => {});
      await own.connect();
      await own.watch(key);
      await change();
      try {
        await own.multi().set(key, 'lost').exec();
        return 'carried out';
      } catch (error) {
        if (error.constructor.name !== 'WatchError') throw error;
        return null;
      } finally {
        own.destroy ? own.destroy() : await own.disconnect();
      }
    },
    transaction: (commands) => queue(commands).exec(),
    listen: async (channel, got) => {
      const own = make();
      own.on('error', () => {});
      await own.connect();
      await own.subscribe(channel, got);
      return () => (own.destroy ? own.destroy() : own.disconnect());
    },
    close: () => (client.destroy ? client.destroy() : client.disconnect()),
  };
}

const open = () => (library.startsWith('ioredis') ? openIoredis : openNodeRedis)(library.at(-1));

async function check(client) {
  const key = (name) => `{${library}:${face}}${name}`;
  assert.equal(await client.set(key('k'), 'v'), 'OK');
  assert.equal(await client.get(key('k')), 'v');
  assert.equal(await client.get(key('nothing')), null);
  assert.equal(await client.call('SET', key('k'), 'w', 'NX'), null);
  assert.equal(await client.call('SET', key('k'), 'w', 'GET', 'PX', '100000'), 'v');
  assert.ok(Number(await client.call('PTTL', key('k'))) > 90000);
  assert.equal(Number(await client.call('APPEND', key('k'), '!')), 2);
  assert.equal(Number(await client.call('INCRBY', key('n'), '41')), 41);
  assert.equal(Number(await client.call('INCR', key('n'))), 42);
  assert.equal(await client.call('INCRBYFLOAT', key('f'), '1.5'), '1.5');
  assert.equal(await client.call('MSET', key('a'), '1', key('b'), '2'), 'OK');
  assert.deepEqual(await client.call('MGET', key('a'), key('b'), key('c')), ['1', '2', null]);
  assert.equal(Number(await client.call('EXISTS', key('a'), key('b'), key('c'))), 2);
  assert.equal(await client.call('GETDEL', key('a')), '1');
  assert.equal(await client.call('GETRANGE', key('k'), '0', '0'), 'w');
  assert.equal(await client.call('TYPE', key('k')), 'string');
  if (client.getBinary) {
    const bytes = Buffer.from([0, 255, 13, 10, 128]);
    await client.set(key('bytes'), bytes);
    assert.deepEqual(await client.getBinary(key('bytes')), bytes);
  }
  await assert.rejects(client.call('LPUSH', key('list'), 'x'), /unknown command/);
  const commands = [];
  for (let i = 0; i < 200; i++) commands.push(['set', key(`p:${i}`), String(i)], ['get', key(`p:${i}`)]);
  const replies = await client.pipeline(commands);
  assert.deepEqual(replies, commands.map(([name, , value]) => (name === 'set' ? 'OK' : undefined))
    .map((reply, i) => reply || String((i - 1) / 2)));
  assert.deepEqual((await client.transaction([['set', key('t'), '1'], ['incr', key('t')], ['get', key('t')]])).map(String),
    ['OK', '2', '2']);
  if (client.watched) {
    assert.equal(await client.watched(key('t'), () => client.set(key('t'), 'changed')), null);
    assert.equal(await client.get(key('t')), 'changed');
  }
  let heard;
  const message = new Promise((resolve) => { heard = resolve; });
  const stop = await client.listen('news', heard);
  // A message goes to who listens at that moment: it is said until it is heard.
  const timer = setInterval(() => { client.call('PUBLISH', 'news', 'hello').catch(() => {}); }, 50);
  assert.equal(await Promise.race([message, sleep(5000)]), 'hello');
  clearInterval(timer);
  stop();
}

async function load(client) {
  const end = Date.now() + Number(seconds) * 1000;
  const result = { operations: 0, failed: 0, longest_ms: 0, last: -1, errors: [] };
  for (let i = 0; Date.now() < end; i++) {
    const begin = process.hrtime.bigint();
    try {
      await client.set(`load:${library}:${face}`, String(i));
      result.last = i;
    } catch (error) {
      result.failed++;
      if (result.errors.length < 5) result.errors.push(String(error));
    }
    result.operations++;
    result.longest_ms = Math.max(result.longest_ms, Number((process.hrtime.bigint() - begin) / 1000000n));
    if (i === 0) console.log('running');
    await sleep(20);
  }
  console.log(JSON.stringify(result));
}

process.on('unhandledRejection', (error) => { console.error('unhandled', error); });
(async () => {
  const client = await open();
  await (mode === 'check' ? check(client) : load(client));
  if (mode === 'check') console.log('ok');
  process.exit(0);
})().catch((error) => { console.error(error); process.exit(1); });
