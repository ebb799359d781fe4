// An echo by `Bun.serve`, which is uWebSockets. Prints `ready PORT`; publishes to all when it reads `broadcast`; ends with
// its input. With the argument `broadcast` each connection subscribes.
const subscribes = process.argv.includes('broadcast');
const server = Bun.serve({
  hostname: '127.0.0.1',
  port: 0,
  fetch: (request, it) => (it.upgrade(request) ? undefined : new Response('', { status: 426 })),
  websocket: {
    perMessageDeflate: false,
    open: (socket) => {
      if (subscribes) socket.subscribe('all');
    },
    message: (socket, message) => {
      socket.send(message);
    },
  },
});
console.log(`ready ${server.port}`);
for await (const _ of console) server.publish('all', 'x'.repeat(252));
process.exit(0);
