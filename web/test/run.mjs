// Runs the unit tests (bundled by esbuild, run by Node's own runner), or with `--browser` those
// that need pages and Chromium.
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { build } from "esbuild";

const here = new URL(".", import.meta.url).pathname;
if (process.argv.includes("--browser")) {
  const { status } = spawnSync(process.execPath, ["--test", "--test-reporter=spec", join(here, "browser.mjs")], { stdio: "inherit" });
  process.exit(status ?? 1);
}
const out = mkdtempSync(join(tmpdir(), "hotframe-page-"));
await build({
  entryPoints: readdirSync(here).filter((name) => name.endsWith(".test.ts")).map((name) => join(here, name)),
  outdir: out, outExtension: { ".js": ".mjs" }, bundle: true, platform: "node", format: "esm", logLevel: "warning",
});
const files = readdirSync(out).map((name) => join(out, name));
const { status } = spawnSync(process.execPath, ["--test", ...files], { stdio: "inherit" });
rmSync(out, { recursive: true });
process.exit(status ?? 1);
