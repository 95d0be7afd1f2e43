// The wall between layers: which folder of src/ may import which. Run by `npm run lint`.
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { fileURLToPath } from "node:url";

/** folder -> folders of src/ that it may import from, and whether it may import packages or Node's own modules. */
const rules = {
  raft: { folders: [], outside: false },
  control: { folders: ["raft"], outside: false },
  storage: { folders: ["raft"], outside: true },
  transport: { folders: ["raft", "control"], outside: true },
  postgres: { folders: ["control", "storage"], outside: true },
  http: { folders: ["control", "raft"], outside: true },
  agent: { folders: ["raft", "control", "storage", "transport", "postgres", "http"], outside: true },
  cli: { folders: ["raft", "control", "storage", "transport", "postgres", "http", "agent"], outside: true },
};

const root = fileURLToPath(new URL("../src", import.meta.url));
const problems = [];
for (const file of readdirSync(root, { recursive: true })) {
  if (!file.endsWith(".ts")) continue;
  const folder = file.split("/")[0];
  const rule = rules[folder];
  if (rule === undefined) {
    problems.push(`src/${file}: no layer rule for folder "${folder}"`);
    continue;
  }
  const text = readFileSync(join(root, file), "utf8");
  for (const [, target] of text.matchAll(/(?:\bfrom\s+|\bimport\s*\(\s*|^import\s+)"([^"]+)"/gm)) {
    if (!target.startsWith(".")) {
      if (!rule.outside) problems.push(`src/${file}: imports "${target}"; ${folder} imports nothing outside itself`);
      continue;
    }
    const reached = relative(root, resolve(root, dirname(file), target)).split("/")[0];
    if (reached !== folder && !rule.folders.includes(reached)) {
      problems.push(`src/${file}: ${folder} may not import from ${reached} ("${target}")`);
    }
  }
}
for (const problem of problems) console.error(problem);
process.exit(problems.length === 0 ? 0 : 1);
