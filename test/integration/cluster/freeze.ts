// A whole host that stands still and goes on: a virtual machine that is paused or migrated, memory that is swapped out.
import { readdirSync, readlinkSync } from "node:fs";
import type { DemoNode } from "../../../src/cli/demo-cluster.js";

/** Supervisor, server, backends and agent of `node`. */
function processesOf(node: DemoNode): number[] {
  const inDirectory = readdirSync("/proc")
    .filter((name) => /^\d+$/.test(name))
    .filter((name) => {
      try {
        return readlinkSync(`/proc/${name}/cwd`) === node.pgdata;
      } catch {
        // It ended meanwhile, or is somebody else's.
        return false;
      }
    })
    .map(Number);
  return node.supervisorPid === null ? inDirectory : [node.supervisorPid, ...inDirectory];
}

/** Until a look finds nothing new: a process may have been forked while the others were stopped. @returns what goes on */
export function freezeHost(node: DemoNode): () => void {
  const frozen = new Set<number>();
  const freezeNew = (): number => {
    const found = processesOf(node).filter((pid) => !frozen.has(pid));
    for (const pid of found) {
      frozen.add(pid);
      signal(pid, "SIGSTOP");
    }
    return found.length;
  };
  while (freezeNew() > 0);
  return () => {
    for (const pid of frozen) signal(pid, "SIGCONT");
  };
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ESRCH") throw error;
  }
}
