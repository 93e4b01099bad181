// Opens a report in headless Chromium, as a reader would, and fails on what would trouble one: errors in the console,
// anything asked of the network, violations of WCAG 2 A and AA (contrast and alternative texts among them), a page that
// is wider than the screen. In light and dark, wide and narrow. Leaves screenshots and the pages as a PDF file.
//
//   npm install && node check.mjs REPORT.html [FOLDER FOR SCREENSHOTS]
//
// Chromium comes with the package @sparticuz/chromium; CHROMIUM names another one.

import { mkdir, readFile, stat, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import path from "node:path";
import { pathToFileURL } from "node:url";

import chromium from "@sparticuz/chromium";
import puppeteer from "puppeteer-core";

const MOST_BYTES = 5e6;
const TALL = 2000;
const VIEWS = [
  { name: "light", scheme: "light", width: 1200, height: 900 },
  { name: "dark", scheme: "dark", width: 1200, height: 900 },
  { name: "narrow", scheme: "light", width: 400, height: 800 },
];

const [report, folder = "screenshots"] = process.argv.slice(2);
if (!report) {
  console.error("usage: node check.mjs REPORT.html [FOLDER FOR SCREENSHOTS]");
  process.exit(2);
}
/** A page in pieces: Chromium's own picture of a long page repeats itself after 16384 pixels, or fewer. */
async function shoot(page, name, width) {
  const height = await page.evaluate(() => document.documentElement.scrollHeight);
  await page.setViewport({ width, height: TALL });
  for (let top = 0, number = 1; top < height; top += TALL, number++) {
    await page.evaluate((y) => window.scrollTo(0, y), top);
    await page.screenshot({ path: path.join(folder, `${name}-${String(number).padStart(2, "0")}.png`) });
  }
}

const url = pathToFileURL(path.resolve(report)).href;
const problems = [];

const { size } = await stat(report);
if (size > MOST_BYTES) problems.push(`${size} bytes, more than ${MOST_BYTES}`);

await mkdir(folder, { recursive: true });
const axe = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const browser = await puppeteer.launch({
  executablePath: process.env.CHROMIUM ?? (await chromium.executablePath()),
  args: process.env.CHROMIUM ? ["--no-sandbox"] : chromium.args,
  headless: "shell",
});
try {
  for (const view of VIEWS) {
    const page = await browser.newPage();
    await page.setViewport({ width: view.width, height: view.height });
    await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: view.scheme }]);
    const complain = (text) => problems.push(`${view.name}: ${text}`);
    page.on("console", (message) => {
      if (["error", "warn", "warning"].includes(message.type())) complain(`console: ${message.text()}`);
    });
    page.on("pageerror", (error) => complain(`error in the page: ${error.message}`));
    page.on("request", (request) => {
      const asked = request.url();
      if (asked !== url && !asked.startsWith("data:")) complain(`asks for ${asked}`);
    });
    await page.goto(url, { waitUntil: "networkidle0" });
    const broken = await page.evaluate(
      () => [...document.images].filter((image) => !image.complete || image.naturalWidth === 0).length,
    );
    if (broken) complain(`${broken} images do not load`);
    const [wide, shown] = await page.evaluate(() => [document.documentElement.scrollWidth, window.innerWidth]);
    if (wide > shown) complain(`the page is ${wide} pixels wide on a screen of ${shown}`);
    await shoot(page, view.name, view.width);
    await page.setViewport({ width: view.width, height: view.height });
    await page.evaluate(axe);
    const found = await page.evaluate(() =>
      window.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"] }),
    );
    for (const violation of found.violations) {
      const where = violation.nodes.slice(0, 3).map((node) => node.target.join(" ")).join(", ");
      complain(`${violation.id}: ${violation.help} (${violation.nodes.length} times: ${where})`);
    }
    // What is scrolled out of a table's sight has a colour, too.
    await page.addStyleTag({ content: ".wide { overflow: visible !important; width: max-content; }" });
    await page.setViewport({ width: 4000, height: view.height });
    const contrast = await page.evaluate(() => window.axe.run(document, { runOnly: { type: "rule", values: ["color-contrast"] } }));
    for (const check of [...contrast.violations, ...contrast.incomplete]) {
      complain(`contrast fails or cannot be told in ${check.nodes.length} places: ${check.nodes[0].target.join(" ")}`);
    }
    console.log(`${view.name}: ${found.passes.length} accessibility rules hold, ${found.violations.length} do not`);
    if (view.name === "dark") {
      // On paper the scheme of the screen has no say.
      await page.reload({ waitUntil: "networkidle0" });
      await writeFile(path.join(folder, "print.pdf"), await page.pdf({ format: "A4", preferCSSPageSize: true }));
      await page.emulateMediaType("print");
      await shoot(page, "print", 703); // A4 less its margins, at 96 dots an inch
    }
    await page.close();
  }
} finally {
  await browser.close();
}

for (const problem of problems) console.error(`problem: ${problem}`);
console.log(`${report}: ${size} bytes, ${problems.length} problems; screenshots in ${folder}`);
process.exit(problems.length ? 1 : 0);
