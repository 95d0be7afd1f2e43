import assert from "node:assert/strict";
import { test } from "node:test";
import { tickIntervalMs } from "../../../src/agent/raft-settings.js";
import { leaseTimings } from "../../../src/control/index.js";

test("a heartbeat waits for its tick only a little, whatever the lease", () => {
  for (let leaseMs = 500; leaseMs <= 60_000; leaseMs += 10) {
    const { heartbeatIntervalMs } = leaseTimings(leaseMs);
    const tickMs = tickIntervalMs({ heartbeatIntervalMs });
    assert.ok(tickMs >= 10 && tickMs <= 51, `lease ${leaseMs}: a tick every ${tickMs} ms`);
    // One ms for a timer that fires before its time by the clock's whole milliseconds.
    const sentAfterMs = Math.ceil((heartbeatIntervalMs + 1) / tickMs) * tickMs;
    assert.ok(
      sentAfterMs <= heartbeatIntervalMs * 1.1,
      `lease ${leaseMs}: ${heartbeatIntervalMs} becomes ${sentAfterMs}`,
    );
  }
});
