// rhea resumes its links: node amqp10_resume.js PORT. Prints "ok" when everything was as expected.
'use strict';
const assert = require('assert');
const rhea = require('rhea');

const once = (emitter, event) => new Promise((resolve) => emitter.once(event, resolve));
const KEPT = { durable: 2, expiry_policy: 'never' };

async function connect() {
  const connection = rhea.create_container({ id: 'resumer' }).connect({ port: Number(process.argv[2]), reconnect: false });
  await once(connection, 'connection_open');
  return connection;
}

async function lose(connection) {
  const gone = once(connection.socket, 'close');
  connection.socket.destroy();
  await gone;
}

function unsettled(link) {
  const map = link.remote.attach.unsettled;
  return map === undefined || map === null ? [] : map;
}

// rhea has no word for it: its transfers with these tags are sent with resume
function resumes(link, ...tags) {
  const session = link.session, output = session.output;
  session.output = function (frame, payload) {
    if (frame.delivery_tag && tags.includes(frame.delivery_tag.toString())) frame.resume = true;
    return output.call(session, frame, payload);
  };
}

// what its attach says is unsettled: rhea takes maps by text only
function told(map, link) {
  if (map) link.local.attach.value[7] = rhea.types.wrap_map_as_map(map);
  return link;
}

function sender(connection, map) {
  return told(map, connection.open_sender({
    name: 'in', target: { address: 'queue://resumed', ...KEPT }, rcv_settle_mode: 1, snd_settle_mode: 0 }));
}

function receiver(connection, map) {
  return told(map, connection.open_receiver({
    name: 'out', source: { address: 'queue://resumed', ...KEPT }, credit_window: 0, autoaccept: false, autosettle: false }));
}

async function take(link, count) {
  const found = [];
  const done = new Promise((resolve) => link.on('message', (context) => {
    found.push(context);
    if (found.length === count) resolve();
  }));
  link.add_credit(count);
  await done;
  link.removeAllListeners('message');
  return found;
}

async function main() {
  // what was accepted is told to the sender that lost its connection, and is not stored again
  let connection = await connect();
  let link = sender(connection);
  await once(link, 'sendable');
  let outcome = once(link, 'accepted');
  link.send({ body: 'first', durable: true }, Buffer.from('a'));
  const { delivery } = await outcome;
  assert.strictEqual(delivery.remote_settled, false);
  await lose(connection);
  connection = await connect();
  link = sender(connection, new Map([[Buffer.from('a'), null], [Buffer.from('b'), null]]));
  await once(link, 'sendable');
  const told = JSON.stringify(unsettled(link));
  assert.ok(Object.keys(unsettled(link)).length === 2, told);
  resumes(link, 'a', 'b');
  for (const [tag, body] of [['a', 'first'], ['b', 'second']]) {
    outcome = once(link, 'accepted');
    link.send({ body, durable: true }, Buffer.from(tag));
    (await outcome).delivery.update(true);
  }
  // a receiver that lost its connection goes on where it was
  const reading = receiver(connection);
  const [one, two] = await take(reading, 2);
  assert.deepStrictEqual([one.message.body, two.message.body], ['first', 'second']);
  const tags = [one.delivery.tag, two.delivery.tag];
  await lose(connection);
  connection = await connect();
  const accepted = rhea.message.accepted().described();
  link = receiver(connection, new Map([[tags[0], accepted], [tags[1], null]]));
  await once(link, 'receiver_open');
  assert.strictEqual(Object.keys(unsettled(link)).length, 1);
  const [again] = await take(link, 1);
  assert.strictEqual(again.message.body, 'second');
  assert.ok(again.delivery.tag.equals(tags[1]));
  again.delivery.accept();
  link.drain = true;
  link.add_credit(1);
  await once(link, 'receiver_drained');
  connection.close();
  await once(connection, 'connection_close');
  console.log('ok');
}

main().then(() => process.exit(0), (error) => { console.error(error); process.exit(1); });
