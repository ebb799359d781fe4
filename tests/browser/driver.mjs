// Drives a headless Chromium by the DevTools protocol over a pipe. Needs no packages.
import { spawn, execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export const sleep = ms => new Promise(done => setTimeout(done, ms));

/** Returns the path of Chromium, or null if there is none. */
export function chromium() {
  for (const name of ["chromium", "chromium-browser", "google-chrome"]) {
    try {
      return execFileSync("which", [name], { stdio: ["ignore", "pipe", "ignore"] }).toString().trim();
    } catch { /* the next name */ }
  }
  return null;
}

/** A running browser. */
export class Browser {
  /** Starts one. */
  static async start() {
    const browser = new Browser();
    browser.folder = mkdtempSync(join(tmpdir(), "browser-"));
    browser.process = spawn(chromium(), [
      "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars",
      "--remote-debugging-pipe", `--user-data-dir=${browser.folder}`,
    ], { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] });
    browser.waiting = new Map();
    browser.listeners = [];
    browser.next = 1;
    let text = "";
    browser.process.stdio[4].on("data", data => {
      text += data;
      const messages = text.split("\0");
      text = messages.pop();
      for (const message of messages.map(JSON.parse)) browser.take(message);
    });
    return browser;
  }

  take(message) {
    const waiting = this.waiting.get(message.id);
    if (!waiting) return this.listeners.forEach(listener => listener(message));
    this.waiting.delete(message.id);
    if (message.error) waiting.reject(new Error(JSON.stringify(message.error)));
    else waiting.resolve(message.result);
  }

  /** Calls a method of the protocol. */
  call(method, params = {}, sessionId = undefined) {
    const id = this.next++;
    this.process.stdio[3].write(JSON.stringify({ id, method, params, sessionId }) + "\0");
    return new Promise((resolve, reject) => this.waiting.set(id, { resolve, reject }));
  }

  /** Opens a tab of this size. */
  async open(url, { width = 1280, height = 900, dark = false, scale = 1 } = {}) {
    const { targetId } = await this.call("Target.createTarget", { url: "about:blank" });
    const { sessionId } = await this.call("Target.attachToTarget", { targetId, flatten: true });
    const tab = new Tab(this, targetId, sessionId);
    await tab.call("Page.enable");
    await tab.call("Runtime.enable");
    await tab.call("Emulation.setDeviceMetricsOverride", { width, height, deviceScaleFactor: scale, mobile: false });
    await tab.call("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value: dark ? "dark" : "light" }] });
    await tab.call("Page.navigate", { url });
    return tab;
  }

  /** Ends the browser. */
  async stop() {
    const ended = new Promise(done => this.process.once("exit", done));
    this.process.kill("SIGKILL");
    await ended;
    rmSync(this.folder, { recursive: true, force: true, maxRetries: 5 });
  }
}

/** A tab. */
export class Tab {
  constructor(browser, targetId, sessionId) {
    Object.assign(this, { browser, targetId, sessionId, faults: [] });
    browser.listeners.push(({ sessionId: from, method, params }) => {
      if (from !== sessionId) return;
      if (method === "Runtime.exceptionThrown") this.faults.push(params.exceptionDetails.exception?.description ?? params.exceptionDetails.text);
    });
  }

  call(method, params) { return this.browser.call(method, params, this.sessionId); }

  /** The value of an expression in the page. */
  async value(expression) {
    const { result, exceptionDetails } = await this.call("Runtime.evaluate", { expression, returnByValue: true, awaitPromise: true });
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    return result.value;
  }

  /** Waits until an expression is true, and returns how long that took, ms. */
  async until(expression, within = 15_000) {
    const began = Date.now();
    for (;;) {
      // While a page loads, names are missing.
      const value = await this.value(expression).catch(() => false);
      if (value) return Date.now() - began;
      if (Date.now() - began > within) throw new Error(`not within ${within} ms: ${expression}`);
      await sleep(20);
    }
  }

  /** A picture, as PNG. */
  async picture() {
    const { data } = await this.call("Page.captureScreenshot", { format: "png" });
    return Buffer.from(data, "base64");
  }
}
