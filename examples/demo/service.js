// A service desk on rhea: node service.js URL ADDRESS_TO_READ ADDRESS_TO_ANSWER. One task, one answer.
'use strict';
const rhea = require('rhea');

const [url, reads, answers] = process.argv.slice(2);
const { hostname, port } = new URL(url.replace(/^amqp:/, 'http:'));
const connection = rhea.create_container().connect({ host: hostname, port: Number(port), reconnect: false });
const receiver = connection.open_receiver({ source: reads, autoaccept: false });
const sender = connection.open_sender(answers);
let task;

receiver.once('receiver_open', () => console.log('ready'));
receiver.on('message', (context) => {
  task = context.delivery;
  const { body } = context.message;
  console.log((body.content || body).toString());                // bytes, as other protocols send them
  sender.send({ body: 'replace the tool', durable: true });
});
for (const outcome of ['accepted', 'rejected', 'released']) {
  sender.on(outcome, () => {
    console.log(outcome);
    task.accept();
    connection.close();
  });
}
connection.on('connection_close', () => process.exit(0));
