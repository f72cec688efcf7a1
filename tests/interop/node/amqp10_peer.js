// rhea against a node: node amqp10_peer.js PORT PORT_OF_HTTP. Prints "ok" when everything was as expected.
'use strict';
const assert = require('assert');
const rhea = require('rhea');

const once = (emitter, event) => new Promise((resolve) => emitter.once(event, resolve));

async function connect(options = {}) {
  const connection = rhea.create_container().connect({ port: Number(process.argv[2]), reconnect: false, ...options });
  await once(connection, 'connection_open');
  return connection;
}

async function send(sender, ...messages) {
  const outcomes = [];
  const done = new Promise((resolve) => {
    for (const name of ['accepted', 'rejected', 'released', 'modified']) {
      sender.on(name, (context) => {
        outcomes.push(name);
        if (outcomes.length === messages.length) resolve();
      });
    }
  });
  if (!sender.sendable()) await once(sender, 'sendable');
  for (const message of messages) sender.send(message);
  await done;
  return outcomes;
}

async function main() {
  const connection = await connect();
  // typed values, sections and annotations
  const sent = {
    message_id: rhea.types.wrap_ulong(7), to: 'queue://rhea', subject: 's', reply_to: 'queue://back', correlation_id: 'c',
    content_type: 'application/json', group_id: 'g', durable: true, priority: 6, ttl: 60000,
    message_annotations: { 'x-opt-a': 1, 'x-opt-b': 'two' },
    application_properties: { text: 'x', number: rhea.types.wrap_int(3), real: 2.5, yes: true, none: null },
    body: { list: [1, 'two', null], nested: { yes: true } } };
  const sender = connection.open_sender('queue://rhea');
  assert.deepStrictEqual(await send(sender, sent), ['accepted']);
  const receiver = connection.open_receiver({ source: 'queue://rhea', credit_window: 0, autoaccept: false });
  await once(receiver, 'receiver_open');
  receiver.add_credit(1);
  let context = await once(receiver, 'message');
  for (const name of ['subject', 'reply_to', 'correlation_id', 'content_type', 'group_id', 'durable', 'priority']) {
    assert.strictEqual(context.message[name], sent[name], name);
  }
  assert.deepStrictEqual(context.message.body, sent.body);
  assert.deepStrictEqual(context.message.message_annotations, sent.message_annotations);
  assert.strictEqual(context.message.application_properties.number, 3);
  assert.strictEqual(context.message.application_properties.none, null);
  // modified counts, released does not, and it comes again
  context.delivery.modified({ delivery_failed: true });
  receiver.add_credit(1);
  context = await once(receiver, 'message');
  assert.strictEqual(context.message.delivery_count, 1);
  context.delivery.release();
  receiver.add_credit(1);
  context = await once(receiver, 'message');
  assert.strictEqual(context.message.delivery_count, 1);
  context.delivery.accept();
  // drain
  receiver.drain_credit();
  receiver.add_credit(5);
  await once(receiver, 'receiver_drained');
  receiver.close();
  // credit windows under load
  const many = connection.open_sender('queue://rhea-many');
  await once(many, 'sendable');
  let accepted = 0;
  let next = 0;
  const total = 3000;
  const allAccepted = new Promise((resolve) => many.on('accepted', () => { if (++accepted === total) resolve(); }));
  const push = () => { while (many.sendable() && next < total) many.send({ body: next++ }); };
  many.on('sendable', push);
  push();
  await allAccepted;
  const seen = [];
  const reader = connection.open_receiver({ source: 'queue://rhea-many', credit_window: 100 });
  await new Promise((resolve) => reader.on('message', (found) => {
    seen.push(found.message.body);
    if (seen.length === total) resolve();
  }));
  assert.deepStrictEqual(seen, [...Array(total).keys()]);
  // request and reply on a dynamic node; whoever waits for an event does so before what causes it
  let coming;
  const server = connection.open_receiver('queue://rhea-ask');
  const answers = connection.open_sender({ target: {} });
  server.on('message', (asked) => answers.send({
    to: asked.message.reply_to, body: asked.message.body.toUpperCase(), correlation_id: asked.message.correlation_id }));
  const client = connection.open_receiver({ source: { dynamic: true } });
  await once(client, 'receiver_open');
  const asker = connection.open_sender('queue://rhea-ask');
  await once(asker, 'sendable');
  coming = once(client, 'message');
  asker.send({ body: 'hello', reply_to: client.source.address, correlation_id: 5 });
  context = await coming;
  assert.strictEqual(context.message.body, 'HELLO');
  // a topic with a selector
  const selected = connection.open_receiver({ source: {
    address: 'topic://rhea/#', filter: rhea.filter.selector("color = 'red'") } });
  await once(selected, 'receiver_open');
  const topic = connection.open_sender('topic://rhea/a');
  coming = once(selected, 'message');
  await send(topic, { body: 'blue', application_properties: { color: 'blue' } },
             { body: 'red', application_properties: { color: 'red' } });
  context = await coming;
  assert.strictEqual(context.message.body, 'red');
  // a large one in many frames
  const small = await connect({ max_frame_size: 1024 });
  const large = small.open_receiver('queue://rhea-large');
  const body = 'x'.repeat(200000);
  coming = once(large, 'message');
  await send(connection.open_sender('queue://rhea-large'), { body });
  context = await coming;
  assert.strictEqual(context.message.body, body);
  // what is refused says why
  const refused = connection.open_receiver('/queues/not-there');
  context = await once(refused, 'receiver_error');
  assert.strictEqual(refused.error.condition, 'amqp:not-found');
  // the same over a WebSocket
  const container = rhea.create_container();
  const webSocket = container.connect({
    connection_details: container.websocket_connect(require('ws'))(`ws://127.0.0.1:${process.argv[3]}/amqp`, ['amqp'], {}),
    reconnect: false });
  await once(webSocket, 'connection_open');
  const browser = webSocket.open_receiver('queue://rhea-ws');
  coming = once(browser, 'message');
  await send(webSocket.open_sender('queue://rhea-ws'), { body: 'from a browser' });
  context = await coming;
  assert.strictEqual(context.message.body, 'from a browser');
  connection.close();
  small.close();
  webSocket.close();
  console.log('ok');
}

main().catch((error) => { console.error(error); process.exit(1); });
