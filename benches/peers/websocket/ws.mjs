// An echo by `ws` on Node.js. Prints `ready PORT`; sends to all when it reads `broadcast`; ends with its input.
import { createInterface } from 'node:readline';
import { WebSocketServer } from 'ws';

const server = new WebSocketServer({ host: '127.0.0.1', port: 0, backlog: 4096, perMessageDeflate: false });
server.on('connection', (socket) => {
  socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }));
  // A peer that is gone is none of this program's business.
  socket.on('error', () => {});
});
server.on('listening', () => console.log(`ready ${server.address().port}`));
const lines = createInterface({ input: process.stdin });
lines.on('line', () => {
  const text = 'x'.repeat(252);
  for (const socket of server.clients) socket.send(text);
});
lines.on('close', () => process.exit(0));
