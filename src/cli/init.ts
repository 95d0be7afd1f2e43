/** `init`: an empty directory becomes the first node of a new cluster. */
import { existsSync, readdirSync } from "node:fs";
import { join, resolve } from "node:path";
import { ensureHbaLines, writeNodeConfiguration } from "../postgres/configuration.js";
import { initCluster } from "../postgres/init.js";
import { lowLimits } from "../postgres/standby-limits.js";
import { runSingleUserRecovery } from "../postgres/tools.js";
import { findBindir } from "./bindir.js";
import { CliError } from "./errors.js";
import { hbaLines, type NodeFlags, nodeSettings } from "./node-options.js";
import type { Terminal } from "./terminal.js";

const authMethods: ReadonlySet<string> = new Set(["scram-sha-256", "md5", "trust", "cert", "password"]);

export async function runInit(given: NodeFlags, terminal: Terminal): Promise<void> {
  const flags = { ...given, pgdata: resolve(given.pgdata) };
  const bindir = findBindir(flags.bindir);
  refuseRoot();
  requireEmpty(flags.pgdata);
  const auth = flags.auth ?? "scram-sha-256";
  if (!authMethods.has(auth)) {
    throw new CliError("bad-auth", `"${auth}" is not a method`, `Use one of: ${[...authMethods].join(", ")}.`);
  }
  if (needsPassword(auth) && flags.pwfile === undefined) {
    throw new CliError(
      "no-password",
      `with --auth ${auth} the superuser needs a password, or nobody can log in`,
      "Name a file that holds it with --pwfile, or choose --auth cert or trust.",
    );
  }
  terminal.note(`making a database cluster in ${flags.pgdata}`);
  await initCluster({
    pgdata: flags.pgdata,
    bindir,
    superuser: flags.superuser ?? "postgres",
    authLocal: auth === "cert" ? "peer" : auth,
    authHost: auth,
    ...(flags.pwfile === undefined ? {} : { passwordFile: flags.pwfile }),
  });
  writeNodeConfiguration(flags.pgdata, nodeSettings(flags, true));
  await recordLimits(flags.pgdata, bindir, terminal);
  ensureHbaLines(join(flags.pgdata, "pg_hba.conf"), hbaLines({ ...flags, auth }));
  terminal.print(nextSteps(flags, bindir));
}

/** initdb has recorded its own settings; where this node's are lower, a start in between records those. */
async function recordLimits(pgdata: string, bindir: string, terminal: Terminal): Promise<void> {
  const low = await lowLimits({ pgdata, bindir });
  if (low.length === 0) return;
  terminal.note(`recording ${low.map(({ name, configured }) => `${name} = ${configured}`).join(", ")}`);
  await runSingleUserRecovery({ pgdata, bindir, configFile: null });
}

function needsPassword(auth: string): boolean {
  return auth === "scram-sha-256" || auth === "md5" || auth === "password";
}

export function refuseRoot(): void {
  if (process.geteuid?.() !== 0) return;
  throw new CliError(
    "root",
    "PostgreSQL's programs refuse to run as root",
    "Run this as the server's user, for example: runuser -u postgres -- pg_replica ...",
  );
}

/** @throws CliError unless the directory is empty or not there */
export function requireEmpty(pgdata: string): void {
  if (existsSync(join(pgdata, "PG_VERSION"))) {
    throw new CliError(
      "exists",
      `${pgdata} holds a PostgreSQL cluster already`,
      "This release makes new nodes only: name an empty directory, and load the data with pg_dump.",
    );
  }
  if (existsSync(pgdata) && readdirSync(pgdata).length > 0) {
    throw new CliError("not-empty", `${pgdata} is not empty`, "Name an empty or a new directory.");
  }
}

export function nextSteps(flags: NodeFlags, bindir: string): string {
  return [
    `node ${flags.nodeId} is ready. Start it with your service manager, which runs "pg_replica prepare" first, or with`,
    `  pg_replica supervise -D ${flags.pgdata} --bindir ${bindir} --log ${flags.pgdata}.log`,
    "then see",
    `  pg_replica list -D ${flags.pgdata}`,
  ].join("\n");
}
