// The live page of the example `dashboard` in a real browser: `node tests/browser/page.mjs PROGRAM`, where PROGRAM is the
// built example. With the package `axe-core` installed beside this file, names and contrast are checked, too.
import assert from "node:assert";
import { existsSync, readFileSync } from "node:fs";
import { Browser, findBrowser, sleep, until } from "./browser.mjs";
import { start as begin, stop } from "./program.mjs";

const start = (...options) => begin(process.argv[2], ...options);
const AXE = new URL("./node_modules/axe-core/axe.min.js", import.meta.url);


/** Opens the page in a tab, whose `until` waits for an expression to be true. */
async function open(browser, url, { width = 1280, dark = false } = {}) {
  const tab = await browser.open(url, width, 900);
  const scheme = { name: "prefers-color-scheme", value: dark ? "dark" : "light" };
  await tab.ask("Emulation.setEmulatedMedia", { features: [scheme] });
  // While the page is loaded or a part is not there yet, names are missing.
  tab.until = expression => until(expression, () => tab.value(expression).catch(() => false));
  return tab;
}
const fleet = `[...parts.values()].find(part => part.name === "services")`;
const state = key => `STATES[${fleet}.members.get("${key}")?.state]`;

async function accessible(tab, what) {
  if (!existsSync(AXE)) {
    assert(!process.env.CI, "`npm install` in tests/browser gives axe-core");
    return console.log("NOT TESTED: no axe-core");
  }
  await tab.value(readFileSync(AXE, "utf8") + ";0");
  const found = await tab.value(`axe.run().then(({ violations }) => violations.map(({ id, nodes }) => id + ": " + nodes.slice(0, 3).map(node => node.html + " " + node.failureSummary).join(" | ")))`);
  assert.deepEqual(found, [], what);
}

async function main() {
  let running = await start("--keys", "400", "--address", "127.0.0.1:0");
  const browser = new Browser(path);
  try {
    const tab = await open(browser, running.url);
    await tab.until(`!lost && ${fleet}?.members.size === 400`);
    await tab.until(`${fleet}.last?.up === 400`);

    // A key goes down and comes back.
    let began = Date.now();
    running.say("down web-007");
    await tab.until(`${state("web-007")} === "down"`);
    const down = Date.now() - began;
    // Half a second of silence is its timeout.
    console.log(`shown as down after ${down} ms, of which 300 to 700 are its timeout`);
    await tab.until(`document.querySelector("#events .list").textContent.includes("web-007 is down")`);
    assert(down < 10_000, "within a second beyond the timeout, with room for a busy machine");
    running.say("up web-007");
    await tab.until(`${state("web-007")} === "up"`);

    // The search filters members, events and connections.
    await tab.value(`{ const box = document.getElementById("search"); box.value = "web-007"; box.dispatchEvent(new Event("input")); }`);
    await tab.until(`${fleet}.rows.textContent.includes("web-007")`);
    assert.equal(await tab.value(`${fleet}.rows.children.length`), 1);
    assert(await tab.value(`[...document.querySelectorAll("#events .row")].every(row => row.textContent.includes("web-007"))`));
    await tab.value(`{ const box = document.getElementById("search"); box.value = ""; box.dispatchEvent(new Event("input")); }`);

    // A dead event is shown with its error, and can be purged.
    const jobs = `[...parts.values()].find(part => part.kind === "dispatcher")`;
    await tab.until(`${jobs}.rows.textContent.includes("customer 0 has no address")`);
    await tab.value(`window.confirm = () => true`);
    await tab.value(`[...document.querySelectorAll("button")].find(button => button.textContent === "Purge dead of invoice").click()`);
    await tab.until(`!${jobs}.rows.textContent.includes("customer 0 has")`);
    await tab.until(`${jobs}.last.topics.length === 3 && [...parts.values()].some(part => part.kind === "server" && part.rows.textContent.includes("over tcp"))`);

    await accessible(tab, "light");
    const dark = await open(browser, running.url, { dark: true, width: 390 });
    await dark.until(`!lost && ${fleet}?.members.size === 400`);
    assert(await dark.value(`document.documentElement.scrollWidth <= 390`), "a phone scrolls one way only");
    await accessible(dark, "dark and narrow");
    assert.deepEqual(dark.errors, []);

    // The program is restarted.
    const { port } = new URL(running.url);
    await stop(running);
    await tab.until(`lost && document.body.classList.contains("lost")`);
    await accessible(tab, "lost");
    running = await start("--keys", "12", "--address", `127.0.0.1:${port}`);
    await tab.until(`!lost && ${fleet}?.members.size === 12`);
    assert.deepEqual(tab.errors, []);

    // Ten thousand keys do not block the page.
    await stop(running);
    running = await start("--keys", "10000", "--read-only");
    const many = await open(browser, running.url);
    await many.until(`!lost && ${fleet}?.members.size === 10000`);
    await many.value(`new PerformanceObserver(list => { window.longest = Math.max(window.longest ?? 0, ...list.getEntries().map(entry => entry.duration)); }).observe({ entryTypes: ["longtask"] })`);
    running.say("down db-1234");
    await many.until(`${state("db-1234")} === "down"`);
    await sleep(2_000);
    const longest = await many.value(`window.longest ?? 0`);
    console.log(`longest task with 10,000 keys: ${longest} ms`);
    assert(longest < 2_000);
    assert.equal(await many.value(`document.querySelectorAll("button").length`), 0, "a page that may not write has no buttons");
    assert.deepEqual(many.errors, []);
    console.log("passed");
  } finally {
    await browser.close();
    await stop(running);
  }
}

const path = findBrowser();
if (!path) {
  if (process.env.CI) throw new Error("`apt-get install chromium` gives a browser");
  console.log("NOT TESTED: no chromium");
} else await main();
