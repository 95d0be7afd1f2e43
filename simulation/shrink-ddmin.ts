/**
 * Delta debugging (Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", 2002): leaves out ever
 * smaller parts of a list as long as the rest still fails.
 */

/**
 * @param fails whether a sublist still fails; null: no more tries, keep what there is.
 * @returns a sublist that fails, given that the whole list does, and from which no single item can be left out when
 *   the tries sufficed.
 */
export function ddmin<Item>(items: readonly Item[], fails: (some: readonly Item[]) => boolean | null): readonly Item[] {
  let kept = items;
  let parts = 2;
  while (kept.length > 0) {
    const size = Math.ceil(kept.length / parts);
    let shrunk = false;
    for (let start = 0; start < kept.length; ) {
      const rest = [...kept.slice(0, start), ...kept.slice(start + size)];
      const answer = fails(rest);
      if (answer === null) return kept;
      // What followed the part that is gone has moved to its place: the next try begins there.
      if (answer) {
        kept = rest;
        shrunk = true;
      } else start += size;
    }
    if (size === 1 && !shrunk) return kept;
    parts = shrunk ? Math.max(2, Math.min(parts, kept.length)) : Math.min(2 * parts, kept.length);
  }
  return kept;
}
