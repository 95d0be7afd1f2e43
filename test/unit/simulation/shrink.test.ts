import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import fc from "fast-check";
import { Injector } from "../../../simulation/injector.js";
import { type Failing, shrinkReport } from "../../../simulation/report.js";
import { ddmin } from "../../../simulation/shrink-ddmin.js";
import { EditError, formatEdit, parseEdit } from "../../../simulation/shrink-edit.js";
import { breed, hunt, type Prey } from "../../../simulation/zoo/hunt.js";
import { mutants } from "../../../simulation/zoo/index.js";

describe("ddmin", () => {
  test("finds exactly the items that a failure needs, and leaves no other one in", () => {
    const lists = fc.uniqueArray(fc.integer({ min: 0, max: 60 }), { maxLength: 40 });
    fc.assert(
      fc.property(lists, fc.infiniteStream(fc.boolean()), (items, coin) => {
        const needed = new Set(items.filter(() => coin.next().value === true).slice(0, 4));
        const kept = ddmin(items, (some) => [...needed].every((item) => some.includes(item)));
        assert.deepEqual(
          kept,
          items.filter((item) => needed.has(item)),
        );
      }),
    );
  });

  test("gives what it has when there are no more tries", () => {
    let tries = 3;
    const kept = ddmin([1, 2, 3, 4, 5, 6, 7, 8], (some) => (tries-- > 0 ? some.includes(8) : null));
    assert.deepEqual(kept, [7, 8]);
  });
});

describe("a changed schedule on the command line", () => {
  test("comes back as it was", () => {
    const edit = parseEdit("crash:1,crash:3-5,host-crash:7", "lossChance=0.5,ordered=true,partition=none");
    assert.equal(
      formatEdit(edit),
      "--keep crash:1,crash:3-5,host-crash:7 --set lossChance=0.5,ordered=true,partition=none",
    );
    assert.equal(formatEdit(parseEdit("nothing", undefined)), "--keep nothing");
    assert.equal(formatEdit(parseEdit(undefined, undefined)), "");
  });

  test("is refused when it is not understood", () => {
    for (const keep of ["crash", "crash:", "crash:1-", "crash:one", ""]) {
      assert.throws(() => parseEdit(keep, undefined), EditError, keep);
    }
    for (const set of ["colour=1", "lossChance=much", "ordered=1", "ordered"]) {
      assert.throws(() => parseEdit(undefined, set), EditError, set);
    }
  });
});

describe("an injector", () => {
  test("numbers what is done by kind, and leaves out what is not kept", () => {
    const injector = new Injector(parseEdit("crash:2,loss:1", undefined).kept, true);
    const done = ["crash", "loss", "crash", "loss", "pause"].map((kind) => injector.allows(kind));
    assert.deepEqual(done, [false, true, true, false, false]);
    assert.deepEqual(
      injector.injected?.map(({ kind, number }) => `${kind}:${number}`),
      ["loss:1", "crash:2"],
    );
  });
});

/** A schedule of a mutant that fails after a good many faults and operations. */
async function failingMutant(name: string): Promise<{ prey: Prey; failed: Failing }> {
  const mutant = mutants.find((one) => one.name === name);
  assert.ok(mutant !== undefined);
  const prey = await breed(mutant);
  for (let from = 1; ; from++) {
    const kill = hunt(prey, from, 500);
    assert.ok(kill !== null);
    from = kill.seed;
    const injector = new Injector(null, true);
    prey.run(kill.seed, kill.nodes, { injector });
    if ((injector.injected?.length ?? 0) < 30) continue;
    const run: Failing["run"] = (nodes, edited) => prey.run(kill.seed, nodes, edited);
    return { prey, failed: { seed: kill.seed, nodes: kill.nodes, command: "again", run } };
  }
}

describe("a failing schedule", () => {
  for (const name of ["commit-old-term", "window-wedges", "lease-without-hold"]) {
    test(`of ${name} shrinks to a third of its faults and operations, and fails alike when run again`, async () => {
      const { prey, failed } = await failingMutant(name);
      const report = shrinkReport(failed);
      assert.ok(report !== null);
      const { shrunk, text } = report;
      assert.ok(
        3 * shrunk.injected.length <= shrunk.injectedBefore,
        `${shrunk.injectedBefore} became ${shrunk.injected.length}:\n${text}`,
      );
      const words = (text.split("\n").at(-1) ?? "").split(" ");
      const word = (option: string): string | undefined => words[words.indexOf(option) + 1];
      const edit = parseEdit(word("--keep"), words.includes("--set") ? word("--set") : undefined);
      const again = prey.run(failed.seed, Number(word("--nodes")), {
        set: edit.set,
        injector: new Injector(edit.kept),
      });
      assert.equal(again.violation?.code, shrunk.code);
      assert.equal(again.events, shrunk.events);
    });
  }

  test("shrinks to the same each time", async () => {
    const { failed } = await failingMutant("vote-twice");
    assert.equal(shrinkReport(failed)?.text, shrinkReport(failed)?.text);
  });

  test("that does not fail is not shrunk", () => {
    const main = fileURLToPath(new URL("../../../simulation/main.js", import.meta.url));
    const output = execFileSync(process.execPath, [main, "--shrink", "--seed", "1"], { encoding: "utf8" });
    assert.match(output, /seed 1 with 3 nodes breaks no invariant/);
  });
});
