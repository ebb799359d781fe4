// The server under test, and a TCP connection with a length of two bytes before each message.
'use strict';

const { spawn } = require('node:child_process');
const net = require('node:net');
const readline = require('node:readline');

const HOST = '127.0.0.1';

// Gives what is pushed in its order to those who ask, in the order of their questions.
class Queue {
  items = [];
  waiting = [];

  push(item) {
    const first = this.waiting.shift();
    if (first) first(item);
    else this.items.push(item);
  }

  next() {
    if (this.items.length) return Promise.resolve(this.items.shift());
    return new Promise((resolve) => this.waiting.push(resolve));
  }
}

// Calls `use` with a process of `server.rs`, which must end well afterwards.
async function withServer(options, use) {
  const process_ = spawn(process.env.FOREIGN_SERVER, options, { stdio: ['pipe', 'pipe', 'inherit'] });
  const ended = new Promise((resolve) => process_.once('exit', resolve));
  const events = new Queue();
  readline.createInterface(process_.stdout).on('line', (line) => events.push(JSON.parse(line)));
  const server = {
    async event(name) {
      for (;;) {
        const event = await events.next();
        if (event.event === name) return event;
      }
    },
    shutDown: () => process_.stdin.end(),
  };
  try {
    const { tcp, websocket } = await server.event('listening');
    Object.assign(server, { tcp, websocket, url: `ws://${HOST}:${websocket}/` });
    await use(server);
    server.shutDown();
    const code = await ended;
    if (code !== 0) throw new Error(`the server ended with ${code}`);
  } finally {
    process_.kill('SIGKILL');
  }
}

// Connects by TCP.
async function tcp(port) {
  const socket = net.connect(port, HOST);
  const messages = new Queue();
  let rest = Buffer.alloc(0);
  socket.on('data', (data) => {
    rest = Buffer.concat([rest, data]);
    while (rest.length >= 2 && rest.length >= 2 + rest.readUInt16BE()) {
      const end = 2 + rest.readUInt16BE();
      messages.push(rest.subarray(2, end));
      rest = rest.subarray(end);
    }
  });
  socket.on('end', () => messages.push(null));
  await new Promise((resolve, reject) => socket.once('connect', resolve).once('error', reject));
  return {
    socket,
    send(message) {
      const length = Buffer.alloc(2);
      length.writeUInt16BE(message.length);
      socket.write(Buffer.concat([length, message]));
    },
    // Returns the next message, or `null` at the end.
    receive: () => messages.next(),
    close: () => socket.destroy(),
  };
}

module.exports = { HOST, Queue, tcp, withServer };
