/** docs/raft-rules.md says where each rule is enforced and what tests it: whatever it names is there. */
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

/** The sources, whether this runs from them or from the build folder. */
function projectRoot(): string {
  let dir = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(dir, "docs", "raft-rules.md"))) dir = dirname(dir);
  return dir;
}

const root = projectRoot();
const page = readFileSync(join(root, "docs", "raft-rules.md"), "utf8");

interface Row {
  readonly rule: number;
  readonly enforced: string;
  readonly tests: string;
}

const rows: Row[] = [...page.matchAll(/^\| R(\d+) \|(.*)\|(.*)\|(.*)\|$/gm)].map((match) => ({
  rule: Number(match[1]),
  enforced: (match[3] as string).trim(),
  tests: (match[4] as string).trim(),
}));

function source(...path: string[]): string {
  const file = join(root, ...path);
  assert.ok(existsSync(file), `${path.join("/")} does not exist`);
  return readFileSync(file, "utf8");
}

test("every rule from R1 to R64 has its row, once", () => {
  assert.deepEqual(
    rows.map(({ rule }) => rule),
    Array.from({ length: 64 }, (_, i) => i + 1),
  );
});

test("every place that enforces a rule exists", () => {
  for (const { rule, enforced } of rows.filter((row) => row.enforced !== "-")) {
    const places = [...enforced.matchAll(/`([^`]+)` ([#\w]+)/g)];
    assert.ok(places.length > 0, `R${rule} names no place`);
    for (const [, file, name] of places) {
      assert.ok(source("src", file as string).includes(name as string), `R${rule}: no ${name} in src/${file}`);
    }
  }
});

test("every test of a rule exists, or the row says why there is none", () => {
  for (const { rule, enforced, tests } of rows) {
    const named = [...tests.matchAll(/`([^`]+\.ts)` "([^"]+)"/g)];
    if (enforced === "-") assert.match(tests, /not applicable: |a rule for the tests: /);
    else assert.ok(named.length > 0, `R${rule} names no test`);
    for (const [, file, name] of named) {
      const text = source("test", "unit", file as string);
      assert.ok(text.includes(name as string), `R${rule}: no test "${name}" in test/unit/${file}`);
    }
  }
});

test("R29, R63: the core waits for nothing and knows no clock, timer or chance of its own", () => {
  const forbidden =
    /\b(Date|performance|process|setTimeout|setInterval|setImmediate|queueMicrotask|Promise|async|await|Intl|structuredClone)\b|Math\.(random|sin|exp)|\.sort\(\)/;
  for (const file of readdirSync(join(root, "src", "raft"))) {
    const code = source("src", "raft", file).replace(/\/\*[\s\S]*?\*\/|\/\/.*$|`[^`]*`|"[^"]*"/gm, "");
    const found = forbidden.exec(code);
    assert.equal(found, null, `src/raft/${file} uses ${found?.[0]}`);
  }
});
