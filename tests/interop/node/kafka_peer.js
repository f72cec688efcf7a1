// kafkajs against a broker: node kafka_peer.js BOOTSTRAP. Reads scenarios from standard input, one a line, and answers
// each with "ok NAME", or with what was wrong and "failed NAME".
'use strict';
const assert = require('assert');
const readline = require('readline');
const { Kafka, CompressionTypes, logLevel } = require('kafkajs');

const DEADLINE_MS = 50000;
const kafka = new Kafka({ brokers: [process.argv[2]], logLevel: logLevel.NOTHING, retry: { initialRetryTime: 50 } });
const admin = kafka.admin();
let number = 0;

const unique = (label) => `kafkajs.${label}.${process.pid}.${++number}`;
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

async function until(condition, what) {
  for (const end = Date.now() + DEADLINE_MS; !condition(); await sleep(20)) {
    assert(Date.now() < end, `waited for: ${what}`);
  }
}

async function topic(numPartitions = 1, configEntries = []) {
  const name = unique('topic');
  assert(await admin.createTopics({ topics: [{ topic: name, numPartitions, configEntries }], waitForLeaders: true }));
  return name;
}

async function produce(topic, label, count) {
  const producer = kafka.producer();
  await producer.connect();
  await producer.send({ topic, messages: [...Array(count).keys()].map((n) => ({ key: `${n}`, value: `${label}-${n}` })) });
  await producer.disconnect();
}

/** One consumer of a group: what it has read goes to found, by value. */
async function join(topic, groupId, found) {
  const consumer = kafka.consumer({ groupId, sessionTimeout: 6000, heartbeatInterval: 300, rebalanceTimeout: 6000 });
  const member = { consumer, partitions: [] };
  consumer.on(consumer.events.GROUP_JOIN, (event) => { member.partitions = event.payload.memberAssignment[topic] || []; });
  await consumer.connect();
  await consumer.subscribe({ topics: [topic], fromBeginning: true });
  await consumer.run({ eachMessage: async ({ message }) => { found.add(String(message.value)); } });
  return member;
}

async function read(topic, count, options = {}) {
  const found = [];
  const consumer = kafka.consumer({ groupId: unique('group'), ...options });
  await consumer.connect();
  await consumer.subscribe({ topics: [topic], fromBeginning: true });
  await consumer.run({ eachMessage: async ({ message }) => { found.push(message); } });
  await until(() => found.length >= count, `${count} messages`);
  await consumer.disconnect();
  return found;
}

const scenarios = {
  async values(codec) {
    const name = await topic();
    const producer = kafka.producer({ idempotent: codec === 'gzip', maxInFlightRequests: 1 });
    await producer.connect();
    const sent = [{ value: 'no key' }, { key: 'k', value: null }, { key: '', value: '', headers: { h: Buffer.from([255]) } }];
    for (let n = 0; n < 300; n++) sent.push({ key: `${n}`, value: `value ${n} `.repeat(20), headers: { n: `${n}` } });
    const compression = codec === 'gzip' ? CompressionTypes.GZIP : CompressionTypes.None;
    await producer.send({ topic: name, messages: sent, compression });
    await producer.disconnect();
    const text = (data) => (data === null || data === undefined ? null : String(data));
    const found = await read(name, sent.length);
    assert.deepStrictEqual(found.map((one) => [text(one.key), text(one.value)]), sent.map((one) => [text(one.key), text(one.value)]));
    assert.deepStrictEqual(found[2].headers.h, Buffer.from([255]));
    assert.strictEqual(String(found[302].headers.n), '299');
  },

  async group() {
    const name = await topic(6);
    const groupId = unique('group');
    const found = new Set();
    const members = [];
    let expected = 0;
    for (const size of [1, 2, 3]) {
      members.push(await join(name, groupId, found));
      await until(() => members.every((one) => one.partitions.length === 6 / size), 'equal parts');
      await produce(name, `joined${size}`, 60);
      expected += 60;
    }
    while (members.length > 1) {
      await members.shift().consumer.disconnect();
      await until(() => members.every((one) => one.partitions.length === 6 / members.length), 'the parts of who has left');
      await produce(name, `left${members.length}`, 60);
      expected += 60;
    }
    await until(() => found.size === expected, 'all is read');
    await members[0].consumer.disconnect();
  },

  async administration() {
    const name = await topic(2, [{ name: 'retention.ms', value: '3600000' }]);
    const groupId = unique('group');
    await produce(name, 'a', 20);
    const found = new Set();
    const member = await join(name, groupId, found);
    await until(() => found.size === 20, 'all is read');
    await member.consumer.disconnect();
    const resource = { type: 2, name };
    const described = async () => Object.fromEntries((await admin.describeConfigs({ includeSynonyms: false, resources: [resource] }))
      .resources[0].configEntries.map((entry) => [entry.configName, entry.configValue]));
    assert.strictEqual((await described())['retention.ms'], '3600000');
    await admin.alterConfigs({ resources: [{ ...resource, configEntries: [{ name: 'max.message.bytes', value: '5000' }] }] });
    assert.strictEqual((await described())['max.message.bytes'], '5000');
    await admin.createPartitions({ topicPartitions: [{ topic: name, count: 4 }] });
    assert.strictEqual((await admin.fetchTopicMetadata({ topics: [name] })).topics[0].partitions.length, 4);
    assert.strictEqual((await admin.describeCluster()).brokers.length, 1);
    assert((await admin.listGroups()).groups.some((one) => one.groupId === groupId));
    assert.strictEqual((await admin.describeGroups([groupId])).groups[0].state, 'Empty');
    const sum = (await admin.fetchOffsets({ groupId, topics: [name] }))[0].partitions.reduce((all, one) => all + Math.max(one.offset, 0), 0);
    assert.strictEqual(sum, 20);
    await admin.resetOffsets({ groupId, topic: name, earliest: true });
    await admin.setOffsets({ groupId, topic: name, partitions: [{ partition: 0, offset: '3' }] });
    const after = (await admin.fetchOffsets({ groupId, topics: [name] }))[0].partitions;
    assert.strictEqual(after.find((one) => one.partition === 0).offset, '3');
    await admin.deleteTopicRecords({ topic: name, partitions: [{ partition: 0, offset: '1' }] });
    assert.strictEqual((await admin.fetchTopicOffsets(name)).find((one) => one.partition === 0).low, '1');
    await admin.deleteGroups([groupId]);
    await admin.deleteTopics({ topics: [name] });
    assert(!(await admin.listTopics()).includes(name));
  },

  async times() {
    const name = await topic();
    const producer = kafka.producer();
    await producer.connect();
    for (let n = 0; n < 10; n++) await producer.send({ topic: name, messages: [{ value: `${n}`, timestamp: `${1000000 + n * 1000}` }] });
    await producer.disconnect();
    assert.deepStrictEqual(await admin.fetchTopicOffsetsByTimestamp(name, 1003500), [{ partition: 0, offset: '4' }]);
  },

  async transactions() {
    const source = await topic();
    const target = await topic(2);
    const groupId = unique('group');
    const transactionalId = unique('id');
    const options = { transactionalId, maxInFlightRequests: 1, idempotent: true };
    const producer = kafka.producer(options);
    await producer.connect();
    for (const n of [1, 2, 3]) {
      const transaction = await producer.transaction();
      for (const partition of [0, 1]) await transaction.send({ topic: target, messages: [{ value: `${n}`, partition }] });
      if (n === 3) {
        await transaction.sendOffsets({ consumerGroupId: groupId, topics: [{ topic: source, partitions: [{ partition: 0, offset: '1' }] }] });
      }
      await (n === 2 ? transaction.abort() : transaction.commit());
    }
    const found = await read(target, 4, { readUncommitted: false });
    assert.deepStrictEqual(found.map((one) => String(one.value)).sort(), ['1', '1', '3', '3']);
    assert.strictEqual((await admin.fetchOffsets({ groupId, topics: [source] }))[0].partitions[0].offset, '1');
    const open = await producer.transaction();
    await open.send({ topic: target, messages: [{ value: 'lost' }] });
    const other = kafka.producer(options);
    await other.connect();
    await (await other.transaction()).abort();
    await assert.rejects(open.commit());
    await other.disconnect();
    await producer.disconnect();
  },
};

async function main() {
  await admin.connect();
  for await (const line of readline.createInterface({ input: process.stdin })) {
    const [name, ...rest] = line.trim().split(' ');
    try {
      await scenarios[name](...rest);
      console.log(`ok ${name}`);
    } catch (error) {
      console.log(error);
      console.log(`failed ${name}`);
    }
  }
  process.exit(0);
}

main();
