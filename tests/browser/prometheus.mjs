// A real Prometheus server scrapes the example `dashboard`: `node tests/browser/prometheus.mjs PROGRAM`.
import assert from "node:assert";
import { execFileSync, spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { sleep } from "./browser.mjs";
import { start, stop } from "./program.mjs";

/** Returns a free port. */
const port = () => new Promise(done => {
  const server = createServer().listen(0, "127.0.0.1", () => { const { port } = server.address(); server.close(() => done(port)); });
});

async function main() {
  const token = "secret";
  const running = await start(process.argv[2], "--keys", "400", "--token", token);
  const folder = mkdtempSync(join(tmpdir(), "prometheus-"));
  const own = await port();
  writeFileSync(join(folder, "prometheus.yml"), `
global: { scrape_interval: 1s, evaluation_interval: 1s }
rule_files: ["${new URL("../../docs/observe/alerts.yml", import.meta.url).pathname}"]
scrape_configs:
  - job_name: dashboard
    authorization: { credentials: ${token} }
    static_configs: [{ targets: ["${new URL(running.url).host}"] }]
`);
  const child = spawn("prometheus", [`--config.file=${folder}/prometheus.yml`, `--storage.tsdb.path=${folder}/data`,
    `--web.listen-address=127.0.0.1:${own}`, "--log.level=warn"], { stdio: ["ignore", "inherit", "inherit"] });
  const api = async path => (await (await fetch(`http://127.0.0.1:${own}/api/v1/${path}`)).json()).data;
  const query = async text => (await api("query?query=" + encodeURIComponent(text))).result.map(({ metric, value }) => [metric, Number(value[1])]);
  const until = async (what, done) => {
    for (let tries = 0; tries < 200; tries++) {
      // Until it listens, connections are refused.
      const value = await done().catch(() => null);
      if (value) return value;
      await sleep(100);
    }
    throw new Error(what);
  };
  const single = async text => { const found = await query(text); return found.length === 1 ? found[0][1] : null; };
  try {
    await until("it scrapes without an error", async () => await single("up") === 1);
    await until("all keys are up", async () => await single(`liveness_watcher_keys{name="services",state="up"}`) === 400);
    running.say("down web-007");
    running.say("down db-042");
    await until("two keys are down", async () => await single(`sum(liveness_watcher_keys{state="down"})`) === 2);
    await until("beats have a rate", async () => Math.abs(await single(`rate(liveness_watcher_beats_total{result="applied"}[10s])`) - 2000) < 500);
    const late = await until("a quantile", () => single(`histogram_quantile(0.99, sum by (le) (liveness_watcher_detection_seconds_bucket))`));
    assert(late > 0 && late < 10, `${late}`);
    const [target] = (await api("targets")).activeTargets;
    assert.equal(target.lastError, "");
    const metadata = Object.entries(await api("metadata")).filter(([name]) => name.startsWith("liveness_"));
    assert(metadata.length > 60 && metadata.every(([, [{ type, help }]]) => type !== "unknown" && help), `${metadata.length}`);
    const rules = (await api("rules")).groups.flatMap(group => group.rules);
    assert(rules.length > 10 && rules.every(rule => rule.health !== "err"), JSON.stringify(rules));
    console.log(`passed: ${metadata.length} metrics, ${rules.length} rules, a scrape took ${(target.lastScrapeDuration * 1000).toFixed(1)} ms`);
  } finally {
    await stop({ child });
    await stop(running);
    rmSync(folder, { recursive: true, force: true });
  }
}

let there = true;
try { execFileSync("which", ["prometheus"], { stdio: "ignore" }); } catch { there = false; }
if (!there) {
  if (process.env.CI) throw new Error("`apt-get install prometheus` gives it");
  console.log("NOT TESTED: no prometheus");
} else await main();
