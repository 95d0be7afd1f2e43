/** Each Raft invariant of the simulator, broken once by hand: a checker that cannot fail proves nothing. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Disk } from "../../../simulation/disk.js";
import { Glimpse } from "../../../simulation/glimpse.js";
import { Marks } from "../../../simulation/marks.js";
import { RaftChecker } from "../../../simulation/raft-checker.js";
import { Violation } from "../../../simulation/violation.js";
import type { Configuration, Entry, Message, NodeId, Ready } from "../../../src/raft/types.js";

const config: Configuration = {
  voters: [1, 2, 3],
  votersOutgoing: [],
  learners: [],
  learnersNext: [],
  autoLeave: false,
};
const snapshot = { index: 1, term: 1, config, data: new Uint8Array(0) };

/** Three nodes on the state that every schedule starts from. */
class Bench {
  readonly disks: Array<Disk | undefined> = [undefined];
  readonly checker = new RaftChecker(this.disks, new Marks());

  constructor() {
    this.checker.begin(snapshot);
    for (const id of config.voters) {
      const initial = { hardState: { term: 1, vote: 0, commit: 1 }, snapshot, entries: [] };
      this.disks[id] = new Disk(id, initial, this.checker, new Marks());
      this.checker.started(id, this.at({}));
    }
  }

  disk(id: NodeId): Disk {
    return this.disks[id] as Disk;
  }

  at(facts: Partial<Glimpse>): Glimpse {
    const usual = { term: 1, commit: 1, applied: 1, firstIndex: 2, lastIndex: 1, lastTerm: 1, config };
    return Object.assign(new Glimpse(), usual, facts);
  }

  store(id: NodeId, entries: readonly Entry[], term = 2, vote: NodeId = 1): void {
    this.disk(id).begin({ hardState: { term, vote, commit: 1 }, entries, mustSync: true });
    this.disk(id).written();
    this.disk(id).sync();
  }

  /** Node 1 leads term 2 with a no-op at 2, which it and node 2 have durable. */
  elect(): void {
    this.store(1, [noop(2)]);
    this.store(2, [noop(2)]);
    this.checker.observe(1, this.leading({}));
  }

  leading(facts: Partial<Glimpse>): Glimpse {
    return this.at({ role: "leader", term: 2, vote: 1, leader: 1, lastIndex: 2, lastTerm: 2, ...facts });
  }

  commit(): void {
    this.elect();
    this.checker.observe(1, this.leading({ commit: 2 }));
  }
}

function noop(index: number, term = 2): Entry {
  return { index, term, type: "noop" };
}

function change(index: number, voters: number[], term = 2): Entry {
  return { index, term, type: "config", config: { ...config, voters } };
}

function ready(...entries: Entry[]): Ready {
  return { entries, mustSync: true, messages: [], messagesAfterPersist: [], committedEntries: [], readStates: [] };
}

function vote(from: NodeId, to: NodeId, term = 2): Message {
  return { type: "RequestVoteResponse", from, to, term, granted: true, elapsedMs: 0 };
}

function ack(from: NodeId, matchIndex: number, term = 2): Message {
  return { type: "AppendEntriesResponse", from, to: 1, term, success: true, matchIndex };
}

const broken: Record<string, (bench: Bench) => void> = {
  "term-regressed": ({ checker, at }) => {
    checker.observe(1, at({ term: 3 }));
    checker.observe(1, at({ term: 2 }));
  },
  "vote-changed": ({ checker, at }) => {
    checker.observe(1, at({ term: 2, vote: 2 }));
    checker.observe(1, at({ term: 2, vote: 3 }));
  },
  "applied-regressed": (bench) => {
    bench.commit();
    bench.checker.observe(1, bench.leading({ commit: 2, applied: 2 }));
    bench.checker.observe(1, bench.leading({ commit: 2, applied: 1 }));
  },
  "applied-beyond-commit": ({ checker, at }) => checker.observe(1, at({ applied: 2 })),
  "commit-beyond-log": ({ checker, at }) => checker.observe(1, at({ commit: 2 })),
  "snapshot-beyond-commit": ({ checker, at }) => checker.observe(1, at({ firstIndex: 3, lastIndex: 4 })),
  "commit-regressed": (bench) => {
    bench.commit();
    bench.checker.observe(1, bench.leading({ commit: 1 }));
  },
  "two-leaders": (bench) => {
    bench.elect();
    bench.store(3, [], 2, 3);
    bench.checker.observe(3, bench.at({ role: "leader", term: 2, vote: 3 }));
  },
  "leader-before-sync": ({ checker, at }) => checker.observe(1, at({ role: "leader", term: 2, vote: 1 })),
  "leader-incomplete": (bench) => {
    bench.commit();
    bench.store(3, [], 3, 3);
    bench.checker.observe(3, bench.at({ role: "leader", term: 3, vote: 3 }));
  },
  "commit-without-quorum": (bench) => {
    bench.store(1, [noop(2)]);
    bench.checker.observe(1, bench.leading({ commit: 2 }));
  },
  "commit-unproven": (bench) => {
    bench.elect();
    bench.checker.observe(2, bench.at({ term: 2, vote: 1, commit: 2, lastIndex: 2, lastTerm: 2 }));
  },
  "vote-before-sync": ({ checker }) => checker.sending(vote(2, 1)),
  "double-vote": (bench) => {
    bench.store(2, [], 2, 1);
    bench.checker.sending(vote(2, 1));
    bench.disk(2).hardState = { term: 2, vote: 3, commit: 1 };
    bench.checker.sending(vote(2, 3));
  },
  "vote-forgotten": (bench) => {
    bench.store(2, [], 2, 1);
    bench.checker.sending(vote(2, 1));
    bench.checker.started(2, bench.at({ term: 2, vote: 0 }));
  },
  "ack-before-sync": (bench) => {
    bench.store(2, []);
    bench.checker.sending(ack(2, 2));
  },
  "ack-forgotten": (bench) => {
    bench.store(2, [noop(2)]);
    bench.checker.sending(ack(2, 2));
    bench.checker.started(2, bench.at({ term: 2, vote: 1, lastIndex: 1 }));
  },
  "log-mismatch": (bench) => {
    bench.store(1, [noop(2)]);
    bench.store(2, [{ index: 2, term: 2, type: "data", data: new Uint8Array([1]) }]);
  },
  "configuration-before-noop": (bench) => {
    bench.elect();
    bench.checker.appending(1, ready(change(3, [1, 2])), bench.leading({ lastIndex: 3 }));
  },
  "two-configurations": (bench) => {
    bench.commit();
    bench.checker.appending(1, ready(change(3, [1, 2])), bench.leading({ commit: 2 }));
    bench.checker.appending(1, ready(change(4, [1])), bench.leading({ commit: 2 }));
  },
  "configuration-jump": (bench) => {
    bench.store(1, [change(2, [4, 5, 6])]);
    bench.checker.applied(1, change(2, [4, 5, 6]), 1);
  },
  "configuration-not-of-log": (bench) => {
    bench.checker.observe(1, bench.at({ role: "candidate", config: { ...config, voters: [1] } }));
  },
  "snapshot-uncommitted": ({ checker }) => checker.snapshotDurable(1, { ...snapshot, index: 5, term: 2 }),
  "snapshot-configuration": ({ checker }) =>
    checker.snapshotDurable(1, { ...snapshot, config: { ...config, voters: [1] } }),
  "applied-before-sync": ({ checker }) => checker.applied(1, noop(2), 1),
  "applied-gap": (bench) => {
    bench.store(1, [noop(2), noop(3)]);
    bench.checker.applied(1, noop(3), 1);
  },
  "committed-changed": (bench) => {
    bench.store(1, [noop(2)]);
    bench.checker.applied(1, noop(2), 1);
    bench.store(2, [noop(2, 3)], 3);
    bench.checker.applied(2, noop(2, 3), 1);
  },
  "state-differs": (bench) => {
    bench.store(1, [noop(2)]);
    bench.store(2, [noop(2)]);
    bench.checker.applied(1, noop(2), 1);
    bench.checker.applied(2, noop(2), 2);
  },
};

for (const [code, breakIt] of Object.entries(broken)) {
  test(`sees ${code}`, () => {
    assert.throws(
      () => breakIt(new Bench()),
      (error: unknown) => error instanceof Violation && error.code === code,
    );
  });
}

test("a sound election, commit and change of members break nothing", () => {
  const bench = new Bench();
  bench.commit();
  bench.checker.applied(1, noop(2), 1);
  const entry = change(3, [1, 2]);
  bench.checker.appending(1, ready(entry), bench.leading({ commit: 2 }));
  bench.store(1, [entry]);
  bench.store(2, [entry]);
  bench.checker.sending(ack(2, 3));
  bench.checker.observe(
    1,
    bench.leading({ commit: 3, applied: 2, lastIndex: 3, config: { ...config, voters: [1, 2] } }),
  );
  bench.checker.applied(1, entry, 2);
  bench.checker.applied(2, noop(2), 1);
});
