// Runs the unit tests (bundled by esbuild, run by Node's own runner), or with `--browser` those
// that need Chromium, over pages that the Rust writer makes now (or those of HOTFRAME_PAGES).
import { spawnSync } from "node:child_process";
import { closeSync, mkdtempSync, openSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { build } from "esbuild";

const here = new URL(".", import.meta.url).pathname;
if (process.argv.includes("--browser")) process.exit(browser());

function browser() {
  const given = process.env.HOTFRAME_PAGES;
  const pages = given ?? mkdtempSync(join(tmpdir(), "hotframe-pages-"));
  const run = (program, args, options) => spawnSync(program, args, { stdio: "inherit", ...options }).status ?? 1;
  try {
    for (const words of given ? [] : ["small", "real", "real speedscope", "lossy", "comparison", "large 50000 40", "large 100000 60"]) {
      const file = openSync(join(pages, words === "real speedscope" ? "real.speedscope.json" : `${words.replaceAll(" ", "-")}.html`), "w");
      const made = run("cargo", ["run", "--quiet", "--release", "-p", "hotframe-formats", "--example", "page", "--", ...words.split(" ")],
        { cwd: join(here, "../.."), stdio: ["ignore", file, "inherit"] });
      closeSync(file);
      if (made !== 0) return made;
    }
    return run(process.execPath, ["--test", "--test-reporter=spec", join(here, "browser.mjs")],
      { env: { ...process.env, HOTFRAME_PAGES: pages } });
  } finally {
    if (!given) rmSync(pages, { recursive: true });
  }
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
