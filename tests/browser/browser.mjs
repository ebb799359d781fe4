// A headless Chromium, driven through its DevTools protocol over a pipe. Needs nothing but node and the browser.

import { spawn } from "node:child_process";
import { accessSync, constants, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";

const NAMES = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome"];

// The path of a browser, or undefined.
export function findBrowser() {
  if (process.env.CHROMIUM) return process.env.CHROMIUM;
  const folders = (process.env.PATH ?? "").split(delimiter);
  const paths = NAMES.flatMap((name) => folders.map((folder) => join(folder, name)));
  return paths.find((path) => {
    try {
      accessSync(path, constants.X_OK);
      return true;
    } catch {
      return false;
    }
  });
}

export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

// Waits until `holds` returns something true, and returns it.
export async function until(what, holds, within = 30_000) {
  const began = Date.now();
  for (;;) {
    const held = await holds();
    if (held) return held;
    if (Date.now() - began > within) throw new Error(`not within ${within} ms: ${what}`);
    await sleep(25);
  }
}

export class Browser {
  #process;
  #folder;
  #lastId = 0;
  #waiting = new Map();
  #tabs = new Map();

  constructor(path) {
    this.#folder = mkdtempSync(join(tmpdir(), "browser-"));
    const isRoot = process.getuid?.() === 0;
    const options = [
      "--headless", "--remote-debugging-pipe", `--user-data-dir=${this.#folder}`, "--no-first-run", "--disable-gpu",
      "--disable-dev-shm-usage", ...(isRoot ? ["--no-sandbox"] : []), "about:blank",
    ];
    this.#process = spawn(path, options, { stdio: ["ignore", "ignore", "ignore", "pipe", "pipe"] });
    this.#process.on("exit", () => this.#end(new Error("the browser has ended")));
    this.#process.on("error", (error) => this.#end(error));
    // Messages end with a zero byte.
    let rest = "";
    this.#process.stdio[4].setEncoding("utf8").on("data", (text) => {
      const messages = (rest + text).split("\0");
      rest = messages.pop();
      messages.forEach((message) => this.#receive(JSON.parse(message)));
    });
  }

  #end(error) {
    for (const [, reject] of this.#waiting.values()) reject(error);
    this.#waiting.clear();
  }

  #receive({ id, sessionId, method, params, result, error }) {
    if (this.#waiting.has(id)) {
      const [resolve, reject, asked] = this.#waiting.get(id);
      this.#waiting.delete(id);
      if (error) reject(new Error(`${asked}: ${error.message}`)); else resolve(result);
    } else if (method) {
      this.#tabs.get(sessionId)?.happened(method, params);
    }
  }

  ask(method, params = {}, sessionId = undefined) {
    return new Promise((resolve, reject) => {
      const id = ++this.#lastId;
      this.#waiting.set(id, [resolve, reject, method]);
      this.#process.stdio[3].write(JSON.stringify({ id, method, params, sessionId }) + "\0");
    });
  }

  // Opens a tab with storage of its own.
  async open(url, width, height) {
    const { browserContextId } = await this.ask("Target.createBrowserContext");
    const { targetId } = await this.ask("Target.createTarget", { url: "about:blank", browserContextId });
    const { sessionId } = await this.ask("Target.attachToTarget", { targetId, flatten: true });
    const tab = new Tab(this, sessionId);
    this.#tabs.set(sessionId, tab);
    for (const domain of ["Page", "Runtime", "Log"]) await tab.ask(`${domain}.enable`);
    await tab.ask("Emulation.setDeviceMetricsOverride", { width, height, deviceScaleFactor: 1, mobile: width < 600 });
    await tab.ask("Page.navigate", { url });
    await until(`${url} is loaded`, () => tab.value("document.readyState === 'complete' && location.href !== 'about:blank'"));
    return tab;
  }

  async close() {
    const ended = new Promise((resolve) => this.#process.once("exit", resolve));
    await Promise.race([this.ask("Browser.close").catch(() => {}), sleep(2_000)]);
    await Promise.race([ended, sleep(3_000)]);
    this.#process.kill("SIGKILL");
    rmSync(this.#folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 });
  }
}

class Tab {
  // Errors of the page's script.
  errors = [];

  constructor(browser, sessionId) {
    this.browser = browser;
    this.sessionId = sessionId;
  }

  happened(method, params) {
    if (method === "Runtime.exceptionThrown") {
      const { text, exception } = params.exceptionDetails;
      this.errors.push(exception?.description ?? text);
    }
  }

  ask(method, params) {
    return this.browser.ask(method, params, this.sessionId);
  }

  // The value of an expression in the page.
  async value(expression) {
    const { result, exceptionDetails } = await this.ask("Runtime.evaluate", {
      expression, awaitPromise: true, returnByValue: true,
    });
    if (exceptionDetails) throw new Error(`${expression}: ${exceptionDetails.exception?.description}`);
    return result.value;
  }

  // Clicks into an element, and types in place of what is there.
  async type(selector, text) {
    await this.value(`{ const it = document.querySelector(${JSON.stringify(selector)}); it.focus(); it.select(); }`);
    await this.ask("Input.insertText", { text });
  }

  async press(key, code) {
    const how = { key, code: key, windowsVirtualKeyCode: code, text: key === "Enter" ? "\r" : undefined };
    await this.ask("Input.dispatchKeyEvent", { type: "keyDown", ...how });
    await this.ask("Input.dispatchKeyEvent", { type: "keyUp", ...how });
  }

  // Freezes the page, as a browser does with tabs in the background, or lets it go on.
  freeze(isFrozen) {
    return this.ask("Page.setWebLifecycleState", { state: isFrozen ? "frozen" : "active" });
  }

  // What assistive software knows of the page: role and name of each element that can be used.
  async controls() {
    const { nodes } = await this.ask("Accessibility.getFullAXTree");
    const roles = ["button", "textbox", "log", "navigation", "status", "link"];
    return nodes
      .filter((node) => !node.ignored && roles.includes(node.role?.value))
      .map((node) => ({ role: node.role.value, name: node.name?.value ?? "" }));
  }

  async screenshot() {
    const { data } = await this.ask("Page.captureScreenshot", { format: "png" });
    return Buffer.from(data, "base64");
  }
}
