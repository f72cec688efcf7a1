// MQTT.js against the broker: one scenario per run, named on the command line. Exit code 0: it passed.
//   node peer.js SCENARIO URL VERSION PREFIX [CA]
'use strict'
const assert = require('node:assert')
const fs = require('node:fs')
const mqtt = require('mqtt')

const [scenario, url, version, prefix, ca] = process.argv.slice(2)
const topic = `${prefix}/a`
const five = version === '5'

setTimeout(() => { console.error('deadline'); process.exit(3) }, 40000).unref()

async function open (clientId, options = {}) {
  const client = mqtt.connect(url, {
    clientId: `${prefix}-${clientId}`,
    protocolVersion: Number(version),
    reconnectPeriod: 0,
    connectTimeout: 20000,
    ...(ca ? { ca: fs.readFileSync(ca) } : {}),
    ...options
  })
  client.inbox = []
  client.waiting = []
  client.on('message', (name, payload, packet) => {
    client.inbox.push(packet)
    while (client.waiting.length && client.inbox.length >= client.waiting[0].count) {
      const { count, resolve } = client.waiting.shift()
      resolve(client.inbox.splice(0, count))
    }
  })
  // Messages of a kept session follow CONNACK at once, so the handler above must be there before the connection is.
  await new Promise((resolve, reject) => { client.once('connect', resolve); client.once('error', reject) })
  client.take = (count) => new Promise((resolve) => {
    if (client.inbox.length >= count) resolve(client.inbox.splice(0, count))
    else client.waiting.push({ count, resolve })
  })
  return client
}

const texts = (packets) => packets.map((packet) => packet.payload.toString())
const numbers = (count) => Array.from({ length: count }, (_, index) => String(index))
const keep = five ? { clean: false, properties: { sessionExpiryInterval: 60 } } : { clean: false }

const scenarios = {
  async pubsub () {
    const [subscriber, publisher] = [await open('sub'), await open('pub')]
    for (const qos of [0, 1, 2]) {
      const [granted] = await subscriber.subscribeAsync(topic, { qos })
      assert.strictEqual(granted.qos, qos)
      for (const text of numbers(20)) await publisher.publishAsync(topic, text, { qos })
      const found = await subscriber.take(20)
      assert.deepStrictEqual(texts(found), numbers(20))
      assert(found.every((packet) => packet.qos === qos && !packet.retain && !packet.dup))
    }
    await subscriber.unsubscribeAsync(topic)
    await Promise.all([subscriber.endAsync(), publisher.endAsync()])
  },
  async pipelined () {
    const client = await open('one')
    await client.subscribeAsync(topic, { qos: 1 })
    await Promise.all(numbers(500).map((text) => client.publishAsync(topic, text, { qos: 1 })))
    assert.deepStrictEqual(texts(await client.take(500)), numbers(500))
    await client.endAsync()
  },
  async flood () {
    const [subscriber, client] = [await open('sub'), await open('one', keep)]
    await subscriber.subscribeAsync(topic, { qos: 2 })
    const count = five ? 1000 : 3000      // MQTT.js does not look at our Receive Maximum
    await Promise.all(numbers(count).map((text) => client.publishAsync(topic, text, { qos: 2 })))
    assert.deepStrictEqual(texts(await subscriber.take(count)), numbers(count))
    assert(client.connected)
    await Promise.all([subscriber.endAsync(), client.endAsync()])
  },
  async retained () {
    const [publisher, subscriber] = [await open('pub'), await open('sub')]
    await publisher.publishAsync(topic, 'kept', { qos: 1, retain: true })
    await subscriber.subscribeAsync(topic, { qos: 1 })
    const [found] = await subscriber.take(1)
    assert.strictEqual(found.payload.toString(), 'kept')
    assert.strictEqual(found.retain, true)
    await publisher.publishAsync(topic, '', { qos: 1, retain: true })
    await Promise.all([publisher.endAsync(), subscriber.endAsync()])
  },
  async will () {
    const watcher = await open('watch')
    await watcher.subscribeAsync(topic, { qos: 1 })
    const dies = await open('dies', { will: { topic, payload: Buffer.from('gone'), qos: 1, retain: false } })
    dies.stream.destroy()
    assert.deepStrictEqual(texts(await watcher.take(1)), ['gone'])
    await watcher.endAsync()
  },
  async session () {
    const before = await open('sub', keep)
    await before.subscribeAsync(topic, { qos: 1 })
    await before.endAsync()
    const publisher = await open('pub')
    for (const text of numbers(20)) await publisher.publishAsync(topic, text, { qos: 1 })
    const after = await open('sub', keep)
    assert.deepStrictEqual(texts(await after.take(20)), numbers(20))
    await Promise.all([publisher.endAsync(), after.endAsync()])
  },
  async share () {
    const group = `$share/g-${prefix}/${topic}`
    const [one, two, publisher] = [await open('one'), await open('two'), await open('pub')]
    const got = { one: [], two: [] }
    const done = new Promise((resolve) => {
      for (const [name, client] of [['one', one], ['two', two]]) {
        client.on('message', (_, payload) => {
          got[name].push(payload.toString())
          if (got.one.length + got.two.length === 40) resolve()
        })
      }
    })
    for (const client of [one, two]) await client.subscribeAsync(group, { qos: 1 })
    for (const text of numbers(40)) await publisher.publishAsync(topic, text, { qos: 1 })
    await done
    assert.deepStrictEqual([...got.one, ...got.two].sort(), numbers(40).sort())
    assert(got.one.length > 0 && got.two.length > 0)
    await Promise.all([one.endAsync(), two.endAsync(), publisher.endAsync()])
  },
  async properties () {
    const client = await open('one', { properties: { topicAliasMaximum: 10, receiveMaximum: 5 } })
    await client.subscribeAsync(topic, { qos: 1, properties: { subscriptionIdentifier: 77 } })
    const sent = {
      payloadFormatIndicator: true,
      messageExpiryInterval: 600,
      contentType: 'text/plain',
      responseTopic: 'answer/here',
      correlationData: Buffer.from([0, 1, 255]),
      userProperties: { b: ['2', '3'], a: '1' }
    }
    await client.publishAsync(topic, 'x', { qos: 1, properties: sent })
    const [{ properties }] = await client.take(1)
    assert.strictEqual(properties.contentType, 'text/plain')
    assert.strictEqual(properties.responseTopic, 'answer/here')
    assert.deepStrictEqual([...properties.correlationData], [0, 1, 255])
    assert.deepStrictEqual({ ...properties.userProperties }, { b: ['2', '3'], a: '1' })
    assert.strictEqual(properties.payloadFormatIndicator, true)
    assert.strictEqual(properties.subscriptionIdentifier, 77)
    assert(properties.messageExpiryInterval > 500 && properties.messageExpiryInterval <= 600)
    await client.endAsync()
  },
  async alias () {
    const [subscriber, publisher] = [await open('sub'), await open('pub', { autoAssignTopicAlias: true })]
    await subscriber.subscribeAsync(`${topic}/#`, { qos: 1 })
    const names = numbers(20).map((_, index) => `${topic}/${index % 3}`)
    for (const name of names) await publisher.publishAsync(name, name, { qos: 1 })
    const found = await subscriber.take(20)
    assert.deepStrictEqual(found.map((packet) => packet.topic), names)
    assert.deepStrictEqual(texts(found), names)
    await Promise.all([subscriber.endAsync(), publisher.endAsync()])
  },
  async large () {
    const payload = Buffer.alloc(500000, 'meshgate')
    const client = await open('one')
    await client.subscribeAsync(topic, { qos: 1 })
    await client.publishAsync(topic, payload, { qos: 1 })
    const [found] = await client.take(1)
    assert(payload.equals(found.payload))
    await client.endAsync()
  }
}

scenarios[scenario]().then(() => process.exit(0), (error) => { console.error(error); process.exit(1) })
