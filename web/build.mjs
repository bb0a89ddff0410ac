// Builds the page: src/page.ts and src/page.css into dist/page.js, dist/page.css, and
// src/page.html with both inside into dist/page.html, which is what the Rust writer embeds.
// `--check` builds to memory and fails if the committed files differ.
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { build } from "esbuild";

const here = new URL(".", import.meta.url);
const read = (path) => readFileSync(new URL(path, here), "utf8");

const bundle = async (entry, options) => {
  const result = await build({
    entryPoints: [new URL(entry, here).pathname],
    absWorkingDir: here.pathname.replace(/\/$/, ""),
    bundle: true,
    minify: true,
    write: false,
    charset: "ascii",
    legalComments: "none",
    logLevel: "warning",
    ...options,
  });
  return result.outputFiles[0].text.trimEnd();
};

const script = await bundle("src/page.ts", { format: "iife", target: "es2022" });
const style = await bundle("src/page.css", { target: "chrome100" });
if (/<\/script|<!--/i.test(script) || /<\/style/i.test(style)) {
  throw new Error("the built script or style would end its own element");
}

const sha256 = (text) => `'sha256-${createHash("sha256").update(text).digest("base64")}'`;
const policy =
  `default-src 'none'; script-src ${sha256(script)}; style-src ${sha256(style)}; ` +
  "img-src data:; base-uri 'none'; form-action 'none'";
const page = read("src/page.html")
  .replace("{{policy}}", () => policy)
  .replace("{{style}}", () => style)
  .replace("{{script}}", () => script);

const files = { "dist/page.js": script + "\n", "dist/page.css": style + "\n", "dist/page.html": page };
if (process.argv.includes("--check")) {
  const stale = Object.keys(files).filter((path) => {
    try {
      return read(path) !== files[path];
    } catch {
      return true;
    }
  });
  if (stale.length > 0) {
    console.error(`stale: ${stale.join(", ")}; run \`npm run build\` in web/ and commit`);
    process.exit(1);
  }
  console.log("the built page is fresh");
} else {
  mkdirSync(new URL("dist", here), { recursive: true });
  for (const [path, text] of Object.entries(files)) writeFileSync(new URL(path, here), text);
  console.log(Object.entries(files).map(([path, text]) => `${path} ${text.length}`).join("\n"));
}
