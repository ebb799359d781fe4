// The example `chat` in a real browser: two tabs exchange messages, a tab that is frozen is dropped, and comes back.
//
//   cargo build --release --features server,json --example chat
//   node tests/browser/chat.mjs [--screenshots FOLDER]

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { Browser, findBrowser, sleep, until } from "./browser.mjs";

const DROP_AFTER = 2_500;
const [, , option, folder] = process.argv;
const root = new URL("../..", import.meta.url).pathname;
const program = join(process.env.CARGO_TARGET_DIR ?? join(root, "target"), "release", "examples", "chat");

const path = findBrowser();
if (!path) {
  console.error("no Chromium was found, so the chat was not tried in a browser; CHROMIUM may name one");
  process.exit(process.env.CI ? 1 : 0);
}

// The server, on any free port, and what it prints.
const server = spawn(program, ["--address", "127.0.0.1:0", "--keepalive", `1,${DROP_AFTER / 1000}`], {
  stdio: ["ignore", "pipe", "inherit"],
});
const printed = [];
createInterface({ input: server.stdout }).on("line", (line) => printed.push(line));
const find = (pattern) => printed.map((line) => line.match(pattern)).find(Boolean);

const browser = new Browser(path);
let step = "start";
const began = Date.now();
const now = (text) => {
  step = text;
  console.log(`${((Date.now() - began) / 1000).toFixed(1)} s  ${text}`);
};

async function shot(tab, name) {
  if (option !== "--screenshots") return;
  await sleep(300); // what comes has come
  writeFileSync(join(folder, `${name}.png`), await tab.screenshot());
}

async function enter(tab, name, room) {
  await tab.type("#name", name);
  await tab.type("#room", room);
  await tab.press("Enter", 13);
}

const isOnline = (tab) => tab.value("document.getElementById('state').dataset.is === 'online'");

async function say(tab, text) {
  await tab.type("#text", text);
  await tab.press("Enter", 13);
  await until(`“${text}” is sent`, () => tab.value("document.getElementById('text').value === ''"));
}

// The lines that a tab shows: of others with their name, notes without.
const lines = (tab) => tab.value(`[...document.querySelectorAll("#lines > *")].map((line) => {
  const text = line.querySelector(".text");
  return text ? line.querySelector(".head b").textContent + ": " + text.textContent : line.textContent;
})`);
const shows = (tab, line) => until(`“${line}” is shown`, async () => (await lines(tab)).includes(line));
const people = (tab) => tab.value(`[...document.querySelectorAll("#people li")].map((it) => it.lastChild.textContent)`);

async function run() {
  const address = await until("the server listens", () => find(/^the page is at (.*)$/)?.[1]);

  now("two tabs enter");
  const ada = await browser.open(address, 1100, 760);
  const bob = await browser.open(address, 390, 780);
  await shot(ada, "door-wide");
  await shot(bob, "door-narrow");
  await enter(ada, "ada", "lounge");
  await until("ada is online", () => isOnline(ada));
  await enter(bob, "ADA", "lounge");
  await until("the name is refused", () => bob.value("document.getElementById('refused').textContent.includes('already')"));
  await enter(bob, "bob", "lounge");
  await until("bob is online", () => isOnline(bob));
  await shows(ada, "bob came");
  assert.deepEqual(await people(ada), ["ada (you)", "bob"]);
  assert.deepEqual(await people(bob), ["ada", "bob (you)"]);

  now("they exchange messages");
  await say(ada, "hello bob");
  await shows(bob, "ada: hello bob");
  await say(bob, "hello ada");
  await shows(ada, "bob: hello ada");
  await shows(ada, "You: hello bob");
  const markup = '<img src=x onerror="document.title=1"><b>not bold</b>';
  await say(bob, markup);
  await shows(ada, "bob: " + markup);
  for (let number = 0; number < 20; number += 1) {
    const [tab, name, other] = number % 3 ? [ada, "ada", bob] : [bob, "bob", ada];
    await say(tab, `line ${number}`);
    // What is sent later on another connection may arrive sooner.
    await shows(other, `${name}: line ${number}`);
    await shows(tab, `You: line ${number}`);
  }
  for (const tab of [ada, bob]) {
    const seen = (await lines(tab)).map((line) => line.match(/: line (\d+)$/)?.[1]).filter(Boolean);
    assert.deepEqual(seen.map(Number), [...Array(20).keys()], "each line once, and in the order of the world");
    const isBelow = await tab.value("{ const it = document.getElementById('lines'); it.scrollHeight - it.scrollTop - it.clientHeight < 2 }");
    assert.ok(isBelow, "the last line is in sight");
    const fits = await tab.value("document.documentElement.scrollWidth <= innerWidth && document.documentElement.scrollHeight <= innerHeight");
    assert.ok(fits, "the page does not scroll");
    const controls = await tab.controls();
    const nameless = controls.filter(({ role, name }) => !name && role !== "status");
    assert.deepEqual(nameless, [], "all that can be used has a name");
    for (const name of ["Message", "Send", "Another room", "Go", "lounge, 2 people", "Messages"]) {
      assert.ok(controls.some((it) => it.name === name), `${name} is in ${JSON.stringify(controls)}`);
    }
  }
  await shot(ada, "chat-wide");
  await shot(bob, "chat-narrow");
  await bob.ask("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value: "dark" }] });
  await shot(bob, "chat-dark");

  now("a room has its own messages");
  await bob.type("#other", "garden");
  await bob.press("Enter", 13);
  await until("bob is in the garden", () => bob.value("document.getElementById('title').textContent === 'garden'"));
  await shows(ada, "bob left the room");
  await say(ada, "nobody hears this");
  await say(bob, "nor this");
  assert.ok(!(await lines(bob)).includes("ada: nobody hears this"));
  await bob.value("document.querySelector('#rooms button').click()");
  await shows(bob, "ada: nobody hears this");
  assert.ok(!(await lines(ada)).includes("bob: nor this"));

  now("both stay, because their scripts answer pings");
  await sleep(2 * DROP_AFTER);
  assert.equal(find(/silence/), undefined);
  assert.ok((await isOnline(ada)) && (await isOnline(bob)));

  now("a tab that is frozen is dropped in time");
  const number = find(/^agent (\d+): bob came/)[1];
  await bob.freeze(true);
  const [, silent] = await until("bob is dropped", () => find(new RegExp(`^agent ${number}: silence \\(1011\\) .*silent for ([0-9.]+)s`)));
  assert.ok(silent * 1000 >= DROP_AFTER, `never early: ${silent} s`);
  assert.ok(silent * 1000 < DROP_AFTER + 10_000, `not late: ${silent} s`);
  await shows(ada, "bob fell silent");
  assert.deepEqual(await people(ada), ["ada (you)"]);
  await say(ada, "bob?");
  assert.ok(await isOnline(ada));
  assert.equal(printed.filter((line) => line.includes("silence")).length, 1, "nobody else was dropped");

  now("it comes back by itself, and sees what it missed");
  await bob.freeze(false);
  await shows(bob, "ada: bob?");
  await until("bob is online", () => isOnline(bob));
  await say(bob, "here");
  await shows(ada, "bob: here");

  now("a server that ends is noticed, and looked for");
  server.kill();
  await until("ada is offline", async () => !(await isOnline(ada)));
  await ada.type("#text", "is anybody there?");
  await ada.press("Enter", 13);
  await until("the problem is shown", () => ada.value("document.getElementById('problem').textContent.includes('offline')"));
  await shot(ada, "offline-wide");
  assert.deepEqual([...ada.errors, ...bob.errors], [], "errors of the script");
}

try {
  await run();
  now("passed");
} catch (error) {
  console.error(`failed at “${step}”:`, error);
  console.error("the server printed:", printed.slice(-20));
  process.exitCode = 1;
} finally {
  server.kill("SIGKILL");
  await browser.close();
}
