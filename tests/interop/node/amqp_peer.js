// amqplib against a broker: node amqp_peer.js URL. Prints "ok" when everything was as expected.
'use strict';
const assert = require('assert');
const amqp = require('amqplib');

async function refused(connection, act, code) {
  const channel = await connection.createChannel();
  const closed = new Promise((resolve) => channel.on('error', resolve));
  act(channel).catch(() => {});
  const error = await closed;
  assert.strictEqual(error.code, code, error.message);
}

async function main() {
  const connection = await amqp.connect(process.argv[2]);
  const channel = await connection.createConfirmChannel();
  const returned = [];
  channel.on('return', (message) => returned.push(message.content.toString()));

  await channel.assertExchange('js', 'topic', { durable: true });
  await channel.assertQueue('js-jobs', { durable: true, deadLetterExchange: '', deadLetterRoutingKey: 'js-dead' });
  await channel.assertQueue('js-dead', { durable: true });
  await channel.bindQueue('js-jobs', 'js', 'job.#');
  for (let n = 0; n < 100; n++) {
    channel.publish('js', `job.${n}`, Buffer.from(`${n}`), {
      persistent: true, headers: { n, when: { '!': 'timestamp', value: 1700000000 }, list: [1, 'two', { three: 3 }] } });
  }
  channel.publish('js', 'other', Buffer.from('nobody'), { mandatory: true });
  await channel.waitForConfirms();
  assert.deepStrictEqual(returned, ['nobody']);

  const seen = [];
  await channel.prefetch(10);
  await new Promise((resolve, reject) => channel.consume('js-jobs', (message) => {
    try {
      const n = Number(message.content);
      assert.strictEqual(message.fields.routingKey, `job.${n}`);
      assert.deepStrictEqual(message.properties.headers, {
        n, when: { '!': 'timestamp', value: 1700000000 }, list: [1, 'two', { three: 3 }] });
      seen.push(n);
      if (n === 99) channel.nack(message, false, false); else channel.ack(message);
      if (seen.length === 100) resolve();
    } catch (error) { reject(error); }
  }));
  assert.deepStrictEqual(seen, Array.from({ length: 100 }, (_, n) => n));

  let dead = false;
  for (let tries = 0; tries < 100 && !dead; tries++) {
    dead = await channel.get('js-dead', { noAck: true });
    if (!dead) await new Promise((resolve) => setTimeout(resolve, 50));
  }
  assert.strictEqual(dead.content.toString(), '99');
  assert.strictEqual(dead.properties.headers['x-death'][0].reason, 'rejected');

  const answer = new Promise((resolve) => channel.consume('amq.rabbitmq.reply-to', resolve, { noAck: true }));
  await channel.assertQueue('js-rpc', { autoDelete: true });
  await channel.consume('js-rpc', (message) => {
    channel.sendToQueue(message.properties.replyTo, Buffer.from('pong'), {
      correlationId: message.properties.correlationId });
    channel.ack(message);
  });
  channel.sendToQueue('js-rpc', Buffer.from('ping'), { replyTo: 'amq.rabbitmq.reply-to', correlationId: 'c1' });
  const message = await answer;
  assert.strictEqual(message.content.toString(), 'pong');
  assert.strictEqual(message.properties.correlationId, 'c1');

  await refused(connection, (one) => one.checkQueue('js-missing'), 404);
  await refused(connection, (one) => one.assertQueue('js-jobs', { durable: false }), 406);
  await connection.close();
  console.log('ok');
}

main().catch((error) => { console.error(error); process.exit(1); });
