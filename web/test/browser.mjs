// The page in Debian's Chromium, over pages that the Rust writer made.
//
// HOTFRAME_PAGES names the folder of them, which run.mjs fills by crates/formats/examples/page.rs;
// PICTURES, if set, one for screenshots.
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { pathToFileURL } from "node:url";
import { gunzipSync, gzipSync } from "node:zlib";
import { chromium } from "playwright-core";

const pages = process.env.HOTFRAME_PAGES;
const chromiumPath = process.env.CHROMIUM ?? "/usr/bin/chromium";
const skip = !pages ? "HOTFRAME_PAGES is not set" : !existsSync(chromiumPath) ? `no ${chromiumPath}` : false;

describe("the page in a browser", { skip }, () => {
  let browser;
  before(async () => {
    browser = await chromium.launch({
      executablePath: chromiumPath, headless: true, args: ["--no-sandbox", "--disable-gpu"],
    });
  });
  after(() => browser?.close());

  /** Opens a page; fails on anything it complains about or loads. */
  async function open(name, { fragment = "", scheme = "light", ready = true, width = 1400, prepare = async () => {} } = {}) {
    const context = await browser.newContext({ viewport: { width, height: 860 }, colorScheme: scheme });
    const page = await context.newPage();
    await prepare(context, page);
    const problems = [];
    page.on("console", (message) => message.type() === "error" && problems.push(message.text()));
    page.on("pageerror", (error) => problems.push(String(error)));
    page.on("dialog", (dialog) => { problems.push(`dialog: ${dialog.message()}`); void dialog.dismiss(); });
    page.on("request", (request) => {
      if (!/^(file|data|blob):/.test(request.url())) problems.push(`request: ${request.url()}`);
    });
    await page.goto(`${pathToFileURL(`${pages}/${name}.html`)}${fragment}`);
    if (ready) await page.waitForFunction(() => window.hotframe !== undefined, null, { timeout: 60_000 });
    return { page, problems, context, close: async () => {
      assert.deepEqual(problems, []);
      await context.close();
    } };
  }
  const inspect = (page) => page.evaluate(() => window.hotframe.page.inspect());
  const box = async (page, name) => {
    const found = (await inspect(page)).filter((box) => box.name === name).sort((a, b) => b.width - a.width)[0];
    assert.ok(found, `${name} is drawn`);
    return found;
  };
  /** Samples of a function, wherever it is called, drawn or not. */
  const weight = (page, name) => page.evaluate((name) => {
    const { symbols, weighed } = window.hotframe.page;
    const { total } = weighed.bySymbol();
    return total.reduce((sum, weight, s) => sum + (symbols.text(s) === name ? weight : 0), 0);
  }, name);
  const settle = (page) => page.waitForTimeout(300);
  const middle = (box) => [box.x + box.width / 2, box.y + 9];
  const picture = async (page, name) => {
    if (process.env.PICTURES) await page.screenshot({ path: `${process.env.PICTURES}/${name}.png` });
  };

  test("a click zooms to the box, Escape zooms out, the address follows", async () => {
    const { page, close } = await open("real");
    await picture(page, "flame");
    const whole = await box(page, "postgres");
    assert.ok(whole.width < 900);
    await page.mouse.click(...middle(whole));
    await settle(page);
    const zoomed = await box(page, "postgres");
    assert.ok(Math.abs(zoomed.width - 1400) < 30, `zoomed to ${zoomed.width}`);
    assert.match(new URL(page.url()).hash, /zoom=/);
    await page.keyboard.press("Escape");
    await settle(page);
    assert.ok(Math.abs((await box(page, "postgres")).width - whole.width) < 1);
    await close();
  });

  test("search shows the matched share, of text and of expressions", async () => {
    const { page, close } = await open("real");
    await page.keyboard.press("/");
    await page.keyboard.type("ParseAST");
    await settle(page);
    await picture(page, "search");
    const all = await box(page, "all");
    const match = await weight(page, "clang::ParseAST(clang::Sema&, bool, bool)");
    const shown = parseFloat(await page.locator(".matched").textContent());
    assert.ok(Math.abs(shown - (100 * match) / all.value) < 0.06, `${shown}`);
    await page.locator(".search input").fill("/^main$|^postgresmain$/");
    const main = await weight(page, "main");
    const postgres = await weight(page, "PostgresMain");
    const two = parseFloat(await page.locator(".matched").textContent());
    assert.ok(Math.abs(two - (100 * (main + postgres)) / all.value) < 0.06, `${two}`);
    await page.locator(".search input").fill("/(/");
    assert.equal(await page.locator(".matched").textContent(), "not a valid expression");
    await page.locator(".search input").fill("brk");
    await page.keyboard.press("Enter");
    await settle(page);
    assert.match(await page.locator(".status").textContent(), /match 1 of [12] · __x64_sys_brk/);
    await close();
  });

  test("the chooser lists processes with shares and shows one", async () => {
    const { page, close } = await open("real");
    const before = (await box(page, "all")).value;
    await page.keyboard.press("p");
    await page.keyboard.type("java");
    await picture(page, "chooser");
    assert.equal(await page.locator(".choice").count(), 1);
    const share = parseFloat(await page.locator(".choice .number").first().textContent());
    await page.keyboard.press("Enter");
    await settle(page);
    const after = (await box(page, "all")).value;
    assert.ok(after < before && Math.abs((100 * after) / before - share) < 0.06);
    assert.deepEqual((await inspect(page)).filter((box) => box.depth === 1).map((box) => box.name), ["java"]);
    await close();
  });

  test("a tooltip says function, file and line, module, build id, own and total", async () => {
    const { page, close } = await open("real");
    await page.mouse.move(...middle(await box(page, "exec_simple_query")));
    await page.waitForSelector(".tip:not([hidden])");
    const tip = await page.locator(".tip").innerText();
    for (const part of ["exec_simple_query", "src/backend/tcop/postgres.c:1100", "/usr/lib/postgresql/17/bin/postgres",
      "58749c528985eab03e6700ebc1469fa50aa41219", "native", "Own", "Total", "samples", "%"]) {
      assert.ok(tip.includes(part), `${part} in ${tip}`);
    }
    await picture(page, "tooltip");
    await close();
  });

  test("names are text, whatever they hold", async () => {
    const { page, close } = await open("small");
    await page.keyboard.press("4");
    await settle(page);
    await picture(page, "hostile");
    const rows = await page.locator(".rows .cell.name").allInnerTexts();
    for (const name of ["<script>alert(\"x\")</script>", "</title><!--", "a && b 'quoted' \\ back",
      "new\\u{a}line\\u{d}\\u{a}and\\u{9}tab", "nul\\u{0} esc\\u{1b}[31m del\\u{7f}", "שלום עולם",
      "\\u{202e}txet detrever\\u{202c} \\u{2028}\\u{2029}", "(no name)"]) {
      assert.ok(rows.includes(name), `${name} in ${rows.join(" | ")}`);
    }
    for (const key of ["5", "2", "3", "1"]) {
      await page.keyboard.press(key);
      await settle(page);
    }
    assert.equal(await page.locator("script").count(), 1);
    const svg = await page.evaluate(() => new DOMParser().parseFromString(window.hotframe.page.svg(), "image/svg+xml"
      ).querySelectorAll("parsererror, script").length);
    assert.equal(svg, 0);
    await close();
  });

  test("every view shows the same selection", async () => {
    const { page, close } = await open("real", { fragment: "#view=callers" });
    const all = (await box(page, "all")).value;
    assert.ok((await box(page, "_bt_compare")).depth === 1);
    await picture(page, "callers");
    await page.keyboard.press("3");
    await settle(page);
    await picture(page, "sandwich");
    const [above, below] = await page.evaluate(() => {
      const { above, below } = window.hotframe.page.flames;
      return [above.root.value, below.root.value];
    });
    assert.equal(above, below);
    await page.keyboard.press("4");
    await settle(page);
    const first = page.locator(".rows .row").first();
    await first.click();
    await picture(page, "table");
    const own = await page.locator(".rows .cell.self").evaluateAll((cells) =>
      cells.map((cell) => Number(cell.lastChild.textContent.replaceAll("\u202f", ""))));
    assert.deepEqual(own, [...own].sort((a, b) => b - a));
    assert.equal(own.reduce((a, b) => a + b, 0) <= all, true);
    await page.locator(".head .name").click();
    const names = await page.evaluate(() => window.hotframe.page.names);
    assert.deepEqual(names, [...names].sort((a, b) => (a < b ? -1 : 1)));
    await page.keyboard.press("5");
    await settle(page);
    await picture(page, "books");
    assert.match(await page.locator("main").innerText(), /no_unwind_info/);
    await close();
  });

  test("a range of the time strip selects its samples", async () => {
    const { page, close } = await open("real");
    const all = (await box(page, "all")).value;
    const strip = await page.locator(".strip canvas").boundingBox();
    await page.mouse.move(strip.x + strip.width * 0.4, strip.y + 20);
    await page.mouse.down();
    await page.mouse.move(strip.x + strip.width * 0.5, strip.y + 20, { steps: 4 });
    await page.mouse.up();
    await settle(page);
    await picture(page, "range");
    const part = (await box(page, "all")).value;
    assert.ok(part > 0 && part < all * 0.08, `${part} of ${all} in the idle tenth`);
    assert.match(page.url(), /range=39\d\d|range=40\d\d/);
    await page.locator(".chip button").click();
    await settle(page);
    assert.equal((await box(page, "all")).value, all);
    await close();
  });

  test("a link restores the view", async () => {
    const { page, close } = await open("real");
    await page.keyboard.press("p");
    await page.keyboard.type("clang");
    await page.keyboard.press("Enter");
    await page.keyboard.press("r");
    await page.mouse.click(...middle(await box(page, "clang::ParseAST(clang::Sema&, bool, bool)")));
    await settle(page);
    const state = await page.evaluate(() => window.hotframe.page.current);
    const boxes = await inspect(page);
    const second = await open("real", { fragment: new URL(page.url()).hash });
    assert.deepEqual(await second.page.evaluate(() => window.hotframe.page.current), state);
    assert.deepEqual((await inspect(second.page)).map((box) => box.name), boxes.map((box) => box.name));
    await second.close();
    const odd = await open("real", { fragment: "#view=nonsense&process=p99999&zoom=1.2.x&focus=function.99999999&range=5-1&function=9e9" });
    await odd.close();
    await close();
  });

  test("the keyboard alone reaches a box, its zoom, its menu and its sandwich", async () => {
    const { page, close } = await open("real");
    for (const key of ["ArrowUp", "ArrowRight", "ArrowUp", "Enter"]) await page.keyboard.press(key);
    await settle(page);
    const status = await page.locator(".status").textContent();
    assert.match(status, /samples$/);
    await page.keyboard.press("m");
    await page.waitForSelector(".menu:popover-open");
    await picture(page, "menu");
    await page.keyboard.press("Enter");
    await settle(page);
    const state = await page.evaluate(() => window.hotframe.page.current);
    assert.equal(state.view, "sandwich");
    assert.ok(status.startsWith(await page.locator(".sandwich-head .chooser bdi").textContent()));
    await page.keyboard.press("?");
    await page.waitForSelector(".help:popover-open");
    await picture(page, "help");
    await close();
  });

  test("where callers are missing stands a box that says why, and leads to the books", async () => {
    const { page, close } = await open("real");
    const cut = (await inspect(page)).filter(({ name }) => name.startsWith("[cut: "));
    assert.ok(cut.length > 0 && cut.every(({ depth }) => depth === 2), JSON.stringify(cut));
    await page.locator(".legend button", { hasText: "cut" }).click();
    await settle(page);
    assert.equal((await page.evaluate(() => window.hotframe.page.current)).view, "books");
    await close();
  });

  test("f lists functions, and the sandwich begins with one", async () => {
    const { page, close } = await open("real", { fragment: "#view=sandwich" });
    const chosen = () => page.locator(".sandwich-head .chooser bdi").textContent();
    const names = await page.evaluate(() => Array.from({ length: 20 }, (_, s) => window.hotframe.page.symbols.text(s)));
    assert.ok(await page.evaluate(() => window.hotframe.page.current.symbol < window.hotframe.page.symbols.functions.length), await chosen());
    assert.ok(names.length > 0);
    await page.keyboard.press("1");
    await page.keyboard.press("f");
    await page.keyboard.type("PostgresMain");
    await page.keyboard.press("Enter");
    await settle(page);
    assert.equal(await chosen(), "PostgresMain");
    assert.match(page.url(), /view=sandwich.*function=/);
    await close();
  });

  test("the table goes by keys at once, row by row, to a menu and to a sandwich", async () => {
    const { page, close } = await open("real");
    await page.keyboard.press("4");
    for (const key of ["ArrowDown", "ArrowDown"]) await page.keyboard.press(key);
    const names = await page.evaluate(() => window.hotframe.page.names);
    assert.equal(await page.locator(".row.chosen .name").textContent(), names[1]);
    await page.keyboard.press("m");
    await page.waitForSelector(".menu:popover-open");
    await page.keyboard.press("Escape");
    await page.keyboard.press("Enter");
    await settle(page);
    assert.equal(await page.locator(".sandwich-head .chooser bdi").textContent(), names[1]);
    await close();
  });

  test("an empty selection says so and leads out of it", async () => {
    const { page, close } = await open("real", { fragment: "#process=p999999" });
    assert.match(await page.locator(".empty").innerText(), /No sample is in this selection/);
    assert.match(await page.locator("nav .chooser").first().innerText(), /unknown/);
    await page.locator(".empty button").click();
    await settle(page);
    assert.ok((await box(page, "all")).value > 0);
    await close();
  });

  test("the list of keys is closed by Esc, by its own key and by what another one does", async () => {
    const { page, close } = await open("real", { fragment: "#search=malloc" });
    const isOpen = () => page.evaluate(() => document.querySelector(".help:popover-open") !== null);
    const after = async (key) => {
      await page.keyboard.press(key);
      await settle(page);
      return isOpen();
    };
    for (const key of ["Escape", "?", "2", "/"]) {
      assert.equal(await after("?"), true, "opened");
      assert.equal(await after(key), false, `closed by ${key}`);
      assert.equal(await page.locator("nav input").inputValue(), "malloc", "and nothing else");
    }
    await close();
  });

  test("a phone shows shares and names", async () => {
    const { page, close } = await open("real", { fragment: "#view=table", width: 400 });
    await settle(page);
    await picture(page, "phone");
    const [cell, screen] = await page.evaluate(() => [document.querySelector(".rows .cell.name").getBoundingClientRect().right, innerWidth]);
    assert.ok(cell <= screen, `${cell} of ${screen}`);
    for (let view = 1; view <= 5; view++) {
      await page.keyboard.press(`${view}`);
      await settle(page);
      assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `nothing sticks out of view ${view}`);
    }
    await close();
  });

  test("focus keeps stacks, hide removes frames", async () => {
    const { page, close } = await open("real");
    const all = (await box(page, "all")).value;
    const total = await weight(page, "PostgresMain");
    const menu = async (name, item) => {
      await page.mouse.click(...middle(await box(page, name)), { button: "right" });
      await page.locator(".menu button", { hasText: item }).first().click();
      await settle(page);
    };
    await menu("PostgresMain", "Only stacks with PostgresMain");
    assert.equal((await box(page, "all")).value, total);
    await page.locator(".chip button").click();
    await menu("PostgresMain", "Hide PostgresMain");
    assert.equal((await box(page, "all")).value, all);
    assert.equal((await inspect(page)).some((box) => box.name === "PostgresMain"), false);
    assert.ok(await box(page, "exec_simple_query"));
    await close();
  });

  test("recursion collapses", async () => {
    const { page, close } = await open("real", { fragment: "#process=p2" });
    const name = "JSONEncoder.iterencode";
    // On the first level behind the process's it may stand alone, as a cut stack.
    const levels = async () => (await inspect(page)).filter((box) => box.name === name && box.depth > 3).length;
    assert.equal(await levels(), 3);
    const total = (await box(page, name)).value;
    await page.keyboard.press("r");
    await settle(page);
    assert.equal(await levels(), 1);
    assert.equal((await box(page, name)).value, total);
    await close();
  });

  test("folded stacks add up to the selection", async () => {
    const { page, close } = await open("real");
    const all = (await box(page, "all")).value;
    const folded = await page.evaluate(() => window.hotframe.page.folded());
    const lines = folded.trimEnd().split("\n");
    assert.equal(lines.reduce((sum, line) => sum + Number(/ (\d+)$/.exec(line)[1]), 0), all);
    assert.equal(new Set(lines).size, lines.length);
    const kernel = lines.find((line) => line.includes("_[k]"));
    assert.ok(kernel && !/^[^;]*_\[k\]/.test(kernel), "kernel frames are marked, processes are not");
    await close();
  });

  test("dark follows the system and the button", async () => {
    const { page, close } = await open("real", { scheme: "dark" });
    const paper = () => page.evaluate(() => getComputedStyle(document.querySelector("main")).backgroundColor);
    const dark = await paper();
    await settle(page);
    await picture(page, "dark");
    await page.keyboard.press("d");
    assert.notEqual(await paper(), dark);
    await close();
  });

  test("a damaged payload is an error in words", async () => {
    const whole = readFileSync(`${pages}/small.html`, "utf8");
    const payload = /id="hotframe-payload">([^<]*)</.exec(whole)[1];
    const bytes = gunzipSync(Buffer.from(payload, "base64"));
    const later = Buffer.from(bytes);
    later[8] = 7;
    const spoilt = Buffer.from(bytes);
    spoilt[12] = 0xff;
    const folder = mkdtempSync(join(tmpdir(), "hotframe-page-"));
    const cases = {
      cut: payload.slice(0, payload.length / 2 & ~3), foreign: "aGVsbG8=", odd: "%%%",
      later: gzipSync(later).toString("base64"), spoilt: gzipSync(spoilt).toString("base64"),
    };
    for (const [name, inside] of Object.entries(cases)) {
      const path = join(folder, `${name}.html`);
      writeFileSync(path, whole.replace(payload, () => inside));
      const page = await browser.newPage();
      await page.goto(pathToFileURL(path).href);
      await page.waitForSelector(".empty");
      const text = await page.locator(".empty").textContent();
      assert.match(text, /^The profile in this page cannot be shown: ./, name);
      if (name === "later") assert.match(text, /version 7, this page reads 1/);
      await page.close();
    }
    rmSync(folder, { recursive: true });
  });

  test("a comparison colours what changed and nothing else, and says by how much", async () => {
    const { page, close } = await open("comparison");
    await picture(page, "comparison");
    const changes = await page.evaluate(() => {
      const { flame } = window.hotframe.page.flames;
      const { changes } = flame.view.weighed;
      return flame.drawn().map(({ node }) => [window.hotframe.page.symbols.text(node.symbol === -1 ? 0 : node.symbol),
        changes.level(changes.of(flame.view, node)), changes.of(flame.view, node).before, changes.of(flame.view, node).after]);
    });
    const query = changes.filter(([name]) => name === "exec_simple_query").sort((a, b) => b[3] - a[3])[0];
    assert.ok(query[1] > 0 && query[3] === 3 * query[2], `${query}`);
    // What grew was in one process: shares of the others fell, none grew.
    assert.equal(changes.some(([name, level]) => level > 0 && name.startsWith("clang::")), false);
    await page.mouse.move(...middle(await box(page, "exec_simple_query")));
    await page.waitForSelector(".tip:not([hidden])");
    const tip = await page.locator(".tip").innerText();
    for (const part of ["Before", "After", "points (×", "p < "]) assert.ok(tip.includes(part), `${part} in ${tip}`);
    for (const [key, name] of [["2", "callers"], ["3", "sandwich"], ["4", "table"]]) {
      await page.keyboard.press(key);
      await settle(page);
      await picture(page, `comparison-${name}`);
    }
    assert.equal(await page.locator(".tab").count(), 4, "no books");
    assert.equal(await page.locator(".strip").count(), 0);
    const [first] = await page.locator(".rows .cell.total").allInnerTexts();
    assert.match(first, /^[+−]/);
    const folded = await page.evaluate(() => window.hotframe.page.folded());
    const [before, after] = await page.evaluate(() => window.hotframe.page.weighed.changes.sums);
    const sums = folded.trimEnd().split("\n").map((line) => / (\d+) (\d+)$/.exec(line)).reduce(
      (sums, [, a, b]) => [sums[0] + Number(a), sums[1] + Number(b)], [0, 0]);
    assert.deepEqual(sums, [before, after]);
    await close();
  });

  test("what a lossy file lacks is hidden, and why is said", async () => {
    const { page, close } = await open("lossy", { fragment: "#view=books" });
    await settle(page);
    await picture(page, "lossy");
    assert.match(await page.locator("header").innerText(), /holds no times, threads, modules and files or books/);
    assert.equal(await page.locator(".strip").count(), 0);
    assert.doesNotMatch(await page.locator("header").innerText(), /% whole/);
    assert.deepEqual(await page.locator(".tab").allInnerTexts(), ["Flame graph", "Callers", "Sandwich", "Table"]);
    await close();
  });

  const speedscope = new URL("../../testing/oracles/node_modules/speedscope/dist/release/index.html", import.meta.url);
  test("speedscope's own application shows our file", {
    skip: !existsSync(speedscope) ? "speedscope is not installed (make oracles)"
      : !existsSync(`${pages}/real.speedscope.json`) ? "no real.speedscope.json" : false,
  }, async () => {
    const folder = mkdtempSync(join(tmpdir(), "hotframe-page-"));
    const file = readFileSync(`${pages}/real.speedscope.json`);
    const script = join(folder, "file.js");
    writeFileSync(script, `speedscope.loadFileFromBase64("real.speedscope.json", "${file.toString("base64")}")`);
    const context = await browser.newContext({ viewport: { width: 1400, height: 860 } });
    const page = await context.newPage();
    const problems = [];
    page.on("pageerror", (error) => problems.push(String(error)));
    await page.goto(`${speedscope.href}#localProfilePath=${script}`);
    await page.waitForFunction(() => /Left Heavy/.test(document.body.innerText), null, { timeout: 30_000 });
    const first = JSON.parse(file).profiles[JSON.parse(file).activeProfileIndex ?? 0].name;
    await page.waitForFunction((name) => document.body.innerText.includes(name), first, { timeout: 10_000 });
    await page.keyboard.press("3");
    await page.waitForFunction(() => /Self/.test(document.body.innerText), null, { timeout: 10_000 });
    await picture(page, "speedscope");
    assert.deepEqual(problems, []);
    rmSync(folder, { recursive: true });
    await context.close();
  });

  // Of the page's thread only what it computes counts, as other programs' load is none of the page's.
  for (const [name, limitMs] of [["large-50000-40", 1000], ["large-100000-60", 2000]]) {
    test(`${name} opens and zooms`, async (t) => {
      let cdp;
      const { page, close } = await open(name, { prepare: async (context, page) => {
        cdp = await context.newCDPSession(page);
        await cdp.send("Performance.enable", { timeDomain: "threadTicks" });
      } });
      const computed = async () =>
        1000 * (await cdp.send("Performance.getMetrics")).metrics.find(({ name }) => name === "TaskDuration").value;
      const computedMs = await computed();
      const times = await page.evaluate(() => window.hotframe.times);
      t.diagnostic(`unpacked ${Math.round(times.unpacked)} read ${Math.round(times.read)} shown ${Math.round(times.shown)} ms since navigation, ` +
        `script began at ${Math.round(times.start)}; computed for ${Math.round(computedMs)} ms`);
      await picture(page, name);
      const frames = await page.evaluate(async () => {
        const { page } = window.hotframe;
        const flame = page.flames.flame;
        const gaps = [];
        flame.drawMs.length = 0;
        for (let i = 0; i < 6; i++) {
          let last = performance.now();
          let node = flame.root;
          for (let d = 0; d < 1 + i * 3; d++) node = flame.view.children(node)[0] ?? node;
          flame.zoom(i % 2 === 0 ? node : flame.root);
          for (let f = 0; f < 14; f++) {
            await new Promise(requestAnimationFrame);
            const now = performance.now();
            if (f > 0) gaps.push(now - last);
            last = now;
          }
        }
        const sorted = (list) => [...list].sort((a, b) => a - b);
        const at = (list, q) => sorted(list)[Math.floor((list.length - 1) * q)];
        return { n: 6 * 14, draw: [at(flame.drawMs, 0.5), at(flame.drawMs, 0.95)], gap: [at(gaps, 0.5), at(gaps, 0.95)], boxes: flame.drawn().length };
      });
      const frameMs = (await computed() - computedMs) / frames.n;
      t.diagnostic(`a frame computes for ${frameMs.toFixed(1)} ms; draw median ${frames.draw[0].toFixed(1)} p95 ${frames.draw[1].toFixed(1)} ms; ` +
        `frame median ${frames.gap[0].toFixed(1)} p95 ${frames.gap[1].toFixed(1)} ms; ${frames.boxes} boxes`);
      assert.ok(computedMs > 10 && computedMs <= limitMs, `shown after ${computedMs} ms of computing`);
      assert.ok(frameMs > 0.1 && frameMs <= 1000 / 60, `a frame takes ${frameMs} ms`);
      await close();
    });
  }
});
