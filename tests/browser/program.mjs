// The example `dashboard` as a process that takes commands.
import { spawn } from "node:child_process";

/** Starts the program, and returns it with the address of its page and a function that writes it a line. */
export function start(program, ...options) {
  const child = spawn(program, ["--stdin", "--quiet", ...options], { stdio: ["pipe", "pipe", "inherit"] });
  return new Promise((done, failed) => {
    let text = "";
    child.once("exit", code => failed(new Error(`ended with ${code}`)));
    child.stdout.on("data", data => {
      const found = /look at (\S+)/.exec(text += data);
      if (found) done({ child, url: found[1], say: line => child.stdin.write(line + "\n") });
    });
  });
}

/** Ends a process, and waits until it has ended. */
export const stop = ({ child }) => new Promise(done => {
  if (child.exitCode !== null || child.signalCode !== null) return done();
  child.once("exit", done);
  child.kill("SIGKILL");
});
