/** 32-bit digests of entries and configurations: what the checkers compare instead of whole logs. */
import type { Configuration, Entry } from "../src/raft/types.js";
import { mix } from "./random.js";

export function configurationDigest(config: Configuration): number {
  let hash = config.autoLeave ? 17 : 19;
  for (const ids of [config.voters, config.votersOutgoing, config.learners, config.learnersNext]) {
    hash = mix(hash, -1);
    for (const id of ids) hash = mix(hash, id);
  }
  return hash;
}

export function entryDigest(entry: Entry): number {
  switch (entry.type) {
    case "noop":
      return mix(1, entry.term);
    case "data": {
      let hash = mix(2, entry.term);
      const { data } = entry;
      for (let i = 0; i < data.length; i++) hash = (Math.imul(hash, 0x01000193) ^ (data[i] as number)) | 0;
      return mix(hash, data.length);
    }
    case "config":
      return mix(mix(3, entry.term), configurationDigest(entry.config));
  }
}
