import assert from "node:assert/strict";
import { it } from "node:test";
import { fuzzStorage } from "../../../simulation/fuzz-storage.js";
import { Random } from "../../../simulation/random.js";

it("damage is refused cleanly, or what is left is right (a longer run: npm run fuzz)", () => {
  const counts: Record<string, number> = {};
  for (let number = 1; number <= 4000; number++) {
    try {
      const outcome = fuzzStorage(new Random(20, number));
      counts[outcome] = (counts[outcome] ?? 0) + 1;
    } catch (error) {
      throw new Error(`npm run fuzz -- --seed 20 --part storage --first ${number} --cases 1`, { cause: error });
    }
  }
  for (const outcome of ["refused", "prefix", "whole", "forged"]) assert.ok((counts[outcome] ?? 0) > 10, outcome);
});
