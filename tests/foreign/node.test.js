// `ws`, `msgpack-lite` and `protobufjs` of Node.js against the server.
'use strict';

const assert = require('node:assert/strict');
const path = require('node:path');
const { test } = require('node:test');
const msgpack = require('msgpack-lite');
const { ExtBuffer } = require('msgpack-lite/lib/ext-buffer.js');
const protobuf = require('protobufjs');
const WebSocket = require('ws');
const { HOST, Queue, tcp, withServer } = require('./kit.js');

const { Envelope, Echo } = protobuf.loadSync(path.join(__dirname, 'envelope.proto')).root;
const ECHO = '{"type":"Echo","data":{"Message":"hello"}}';

const CODECS = {
  json: {
    echo: (text) => Buffer.from(JSON.stringify({ type: 'Echo', data: { Message: text } })),
    ping: Buffer.from('{"type":"Ping","data":{}}'),
    pong: Buffer.from('{"type":"Pong","data":{}}'),
    bytes: Buffer.from(ECHO),
    text: (message) => JSON.parse(message).data.Message,
  },
  msgpack: {
    echo: (text) => msgpack.encode(['Echo', new ExtBuffer(msgpack.encode({ Message: text }), 0x1b)]),
    ping: msgpack.encode(['Ping', new ExtBuffer(msgpack.encode({}), 0x1b)]),
    pong: msgpack.encode(['Pong', new ExtBuffer(msgpack.encode({}), 0x1b)]),
    bytes: Buffer.from('92a44563686fc70f1b81a74d657373616765a568656c6c6f', 'hex'),
    text(message) {
      // An extension of type 0x1B is read as a `Buffer`.
      const [, body] = msgpack.decode(message);
      assert.ok(Buffer.isBuffer(body));
      return msgpack.decode(body).Message;
    },
  },
  protobuf: {
    echo: (message) => Envelope.encode({ name: 'Echo', data: Echo.encode({ message }).finish() }).finish(),
    ping: Envelope.encode({ name: 'Ping' }).finish(),
    pong: Envelope.encode({ name: 'Pong' }).finish(),
    bytes: Buffer.from('0a044563686f12070a0568656c6c6f', 'hex'),
    text: (message) => Echo.decode(Envelope.decode(message).data).message,
  },
};

// Connects by WebSocket.
async function websocket(server, protocols = [], options = {}) {
  const peer = new WebSocket(server.url, protocols, options);
  const messages = new Queue();
  const closed = new Promise((resolve) => peer.once('close', (code) => resolve(code)));
  peer.on('message', (data, isBinary) => messages.push({ data, isBinary }));
  await new Promise((resolve, reject) => peer.once('open', resolve).once('error', reject));
  return { peer, closed, receive: () => messages.next(), messages };
}

// Returns the status with which a client is refused.
function refused(server, options, suffix = '') {
  return new Promise((resolve, reject) => {
    const peer = new WebSocket(server.url + suffix, [], options);
    peer.once('unexpected-response', (_, response) => {
      resolve(response.statusCode);
      response.destroy();
    });
    peer.once('open', () => reject(new Error('it is let in')));
    peer.once('error', () => {});
  });
}

for (const [name, codec] of Object.entries(CODECS)) {
  test(`${name} over WebSocket and TCP: the bytes, an echo, and pings both ways`, async () => {
    assert.deepEqual(Buffer.from(codec.echo('hello')), codec.bytes);
    const options = ['--keepalive', '700,20000', '--ping', 'message'];
    await withServer(options, async (server) => {
      const { peer, receive } = await websocket(server, [`liveness.${name}`]);
      assert.equal(peer.protocol, `liveness.${name}`);
      for (const text of ['hello', '', 'ä'.repeat(200), 'x'.repeat(60_000)]) {
        peer.send(codec.echo(text), { binary: name !== 'json' });
        const { data, isBinary } = await receive();
        assert.equal(isBinary, name !== 'json');
        assert.equal(codec.text(data), text);
      }
      peer.send(codec.ping, { binary: name !== 'json' });
      assert.deepEqual((await receive()).data, Buffer.from(codec.pong));
      assert.deepEqual((await receive()).data, Buffer.from(codec.ping));
      peer.terminate();
    });
    await withServer(['--codec', name, ...options], async (server) => {
      const peer = await tcp(server.tcp);
      peer.send(codec.echo('hello'));
      assert.deepEqual(await peer.receive(), codec.bytes);
      peer.send(codec.ping);
      assert.deepEqual(await peer.receive(), Buffer.from(codec.pong));
      assert.deepEqual(await peer.receive(), Buffer.from(codec.ping));
      peer.close();
    });
  });
}

test('requests and answers', async () => {
  await withServer([], async (server) => {
    const { peer, receive } = await websocket(server, ['liveness.protobuf']);
    const data = Echo.encode({ message: 'four' }).finish();
    peer.send(Envelope.encode({ name: 'Length', data, id: 300 }).finish());
    const answer = Envelope.decode((await receive()).data);
    assert.deepEqual([answer.name, Number(answer.re), [...answer.data]], ['Length', 300, [8, 4]]);
    peer.terminate();
    const other = await websocket(server, ['liveness.msgpack']);
    // A `Buffer` is written as bytes.
    other.peer.send(msgpack.encode(['Length', msgpack.encode({ Message: 'four' }), 300, 0]));
    const [type, body, id, re] = msgpack.decode((await other.receive()).data);
    assert.deepEqual([type, msgpack.decode(body), Number(id), Number(re)], ['Length', { value: 4 }, 0, 300]);
    other.peer.terminate();
  });
});

test('pings both ways, and a client that stops to answer them', async () => {
  await withServer(['--keepalive', '300,900'], async (server) => {
    const { peer, receive } = await websocket(server);
    const began = performance.now();
    const silent = await websocket(server, [], { autoPong: false });
    const pong = new Promise((resolve) => peer.once('pong', resolve));
    peer.ping('are you there');
    assert.equal(String(await pong), 'are you there');
    assert.equal(await silent.closed, 1011);
    const took = performance.now() - began;
    assert.ok(took >= 899 && took < 10_000, `${took} ms`);
    assert.equal((await server.event('closed')).cause, 'silence');
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    peer.send(ECHO);
    assert.equal(String((await receive()).data), ECHO);
    peer.terminate();
  });
});

test('fragments and a large message', async () => {
  await withServer(['--max-message', '8388608', '--outbound', '33554432'], async (server) => {
    const { peer, receive } = await websocket(server);
    for (const [at, character] of [...ECHO].entries()) {
      peer.send(character, { fin: at === ECHO.length - 1, binary: false });
    }
    assert.equal(String((await receive()).data), ECHO);
    const large = ECHO.replace('hello', 'x'.repeat(4 << 20));
    peer.send(large);
    assert.equal(String((await receive()).data), large);
    peer.terminate();
  });
});

test('close codes', async () => {
  const cases = [
    [1000, (peer) => peer.close(1000)],
    [4001, (peer) => peer.send('{"type":"Close","data":{"value":4001}}')],
    [1001, (_, server) => server.shutDown()],
    [1007, (peer) => peer.send('nonsense')],
    [1009, (peer) => peer.send('x'.repeat(100_000))],
    [1002, (peer) => peer._socket.write(Buffer.from([0x81, 0x01, 0x78]))],
  ];
  for (const [code, act] of cases) {
    await withServer([], async (server) => {
      const { peer, closed } = await websocket(server);
      act(peer, server);
      assert.equal(await closed, code);
    });
  }
  await withServer([], async (server) => {
    const { peer, closed } = await websocket(server, ['liveness.msgpack']);
    peer.send('text');
    assert.equal(await closed, 1003);
  });
});

test('who is refused', async () => {
  await withServer(['--token', 'secret', '--path', '/game'], async (server) => {
    const headers = { Authorization: 'Bearer secret' };
    assert.equal(await refused(server, { headers }, 'lobby'), 404);
    assert.equal(await refused(server, {}, 'game'), 401);
    assert.equal(await refused(server, { headers, origin: 'http://example.org' }, 'game'), 403);
    assert.equal(await refused(server, { headers, protocolVersion: 8 }, 'game'), 426);
    server.url += 'game';
    const { peer } = await websocket(server, [], { headers, origin: `http://${HOST}:${server.websocket}` });
    peer.terminate();
  });
});

test('a length that is none', async () => {
  await withServer([], async (server) => {
    const peer = await tcp(server.tcp);
    peer.socket.write(Buffer.from([0, 0]));
    assert.equal(JSON.parse(await peer.receive()).code, 1002);
    assert.equal(await peer.receive(), null);
  });
});
