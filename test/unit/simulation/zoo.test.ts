import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { breed, hunt } from "../../../simulation/zoo/hunt.js";
import { mutants, unkilled } from "../../../simulation/zoo/index.js";
import { applyPatch, PatchError, patchedSources } from "../../../simulation/zoo/patched-tree.js";
import { docsTable, readDocs, readRecords, withTable } from "../../../simulation/zoo/records.js";

const refresh = "run `npm run zoo -- --refresh --docs` when the simulator draws its schedules differently now";

describe("a mutant is the product's own code with one change", () => {
  const patch = { file: "x.js", find: "if (a > b)", replace: "if (a >= b)" };

  test("white space does not matter, everything else does", () => {
    assert.equal(applyPatch("if (a >\n   b) f();", patch), "if (a >= b) f();");
    assert.equal(applyPatch("f($1, [x]);", { ...patch, find: "f($1, [x])", replace: "$&g()" }), "$&g();");
  });

  test("a change that fits nowhere, or twice, is refused", () => {
    assert.throws(() => applyPatch("if (a < b)", patch), PatchError);
    assert.throws(() => applyPatch("if (a > b) if (a > b)", patch), PatchError);
  });

  test("a change of a file that the program does not use is refused", () => {
    const elsewhere = { ...patch, file: "src/cli/main.js" };
    assert.throws(() => patchedSources("simulation/world.js", [elsewhere]), PatchError);
  });

  test("names are unique, and every change fits the code as it is", () => {
    assert.equal(new Set(mutants.map(({ name }) => name)).size, mutants.length);
    for (const { name, patches, faults } of mutants) {
      assert.ok(patches.length > 0 || faults !== undefined, `${name} changes nothing`);
      patchedSources("simulation/world.js", patches);
    }
  });
});

describe("the checkers see known bugs", () => {
  const records = readRecords();
  for (const mutant of mutants) {
    const record = records.get(mutant.name);
    if (unkilled.has(mutant.name)) continue;
    test(`${mutant.name}: ${mutant.text}`, async (context) => {
      assert.ok(record !== undefined, `no schedule is known that kills it: ${refresh}`);
      const prey = await breed(mutant);
      if (prey.run(record.seed, record.nodes).violation !== null) return;
      context.diagnostic(`seed ${record.seed} does not kill it any more: ${refresh}`);
      const kill = hunt(prey, record.seed + 1, Math.min(500, 60 + 10 * record.median));
      assert.notEqual(kill, null, `no invariant was broken: the mutant survived; ${refresh}`);
    });
  }
});

describe("the mutants that nothing has killed yet", () => {
  test("are mutants, and none of them has been killed", () => {
    const names = new Set(mutants.map(({ name }) => name));
    const records = readRecords();
    for (const name of unkilled) assert.ok(names.has(name) && !records.has(name), name);
  });
});

describe("the table of docs/simulator.md", () => {
  test("is the one of the recorded hunts", () => {
    const docs = readDocs();
    assert.equal(docs, withTable(docs, docsTable(readRecords(), mutants)), "run `npm run zoo -- --hunts 0 --docs`");
  });
});

describe("the command line", () => {
  const zoo = fileURLToPath(new URL("../../../simulation/zoo.js", import.meta.url));
  const run = (...args: string[]): string => execFileSync(process.execPath, [zoo, ...args], { encoding: "utf8" });

  test("ends with a JSON line that says who was killed by what", () => {
    const output = run("--only", "vote-before-sync", "--hunts", "2", "--workers", "1", "--json");
    const { mutants: hunted, killed, table } = JSON.parse(output.trim().split("\n").at(-1) ?? "");
    assert.deepEqual([hunted, killed], [1, 1]);
    assert.equal(table[0].killedBy, "vote-before-sync");
  });

  test("ends with exit status 1 when a mutant survives", () => {
    const args = ["--only", "old-round-confirms", "--hunts", "1", "--limit", "1", "--json"];
    assert.throws(
      () => run(...args),
      (error: { status?: number; stdout?: string }) => error.status === 1 && /"killed":0/.test(error.stdout ?? ""),
    );
  });

  test("refuses a mutant that there is none of with exit status 2", () => {
    assert.throws(
      () => run("--only", "unicorn"),
      (error: { status?: number }) => error.status === 2,
    );
  });
});
