/** The commands and their options. What a command does stands in the module that it loads when it runs. */
import { Command, InvalidArgumentError } from "commander";
import type { TargetOptions } from "./agent-client.js";
import { exitCodesHelp } from "./errors.js";
import { addNodeOptions, type NodeFlags } from "./node-options.js";
import { version } from "./run.js";
import type { Terminal } from "./terminal.js";

type TargetFlags = TargetOptions & { readonly format?: string };
type ChangeFlags = TargetFlags & { readonly yes?: boolean; readonly dryRun?: boolean };

export function buildProgram(terminal: Terminal): Command {
  const program = new Command("pg_replica")
    .description("Consensus-driven failover for PostgreSQL")
    .version(version)
    .exitOverride()
    .showHelpAfterError("(pg_replica COMMAND --help shows the options)")
    .showSuggestionAfterError(true);
  addShowCommands(program, terminal);
  addChangeCommands(program, terminal);
  addNodeCommands(program, terminal);
  addInternalCommands(program);
  for (const command of program.commands) command.exitOverride().addHelpText("after", exitCodesHelp);
  return program;
}

function withTarget(command: Command): Command {
  return command
    .option("-D, --pgdata <directory>", "data directory of a server on this machine", process.env.PGDATA)
    .option("--socket <path>", "the agent's socket (.s.pg_replica.PORT)")
    .option("--host <host:raftport>", "ask another node, through its raft_port")
    .option("--secret-file <file>", "the cluster's secret (pg_replica.secret_file), for --host");
}

function withFormat(command: Command): Command {
  return command.option("-f, --format <format>", "pretty, json, yaml or tsv", "pretty");
}

function withChange(command: Command): Command {
  return command.option("--yes", "do not ask").option("--dry-run", "only say what would be done");
}

/** @throws InvalidArgumentError naming what was expected */
export function wholeNumber(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = /^\d{1,10}$/.test(text) ? Number(text) : Number.NaN;
    if (!(value >= min && value <= max)) throw new InvalidArgumentError(`Expected a number from ${min} to ${max}.`);
    return value;
  };
}

const watchSeconds = wholeNumber(1, 3600);

interface ListFlags extends TargetFlags {
  readonly watch?: number | true;
}

function addShowCommands(program: Command, terminal: Terminal): void {
  const list = (name: string, description: string, topology: boolean) =>
    withTarget(withFormat(program.command(name).description(description)))
      .option("-w, --watch [seconds]", "show it again and again", watchSeconds)
      .action(async (flags: ListFlags) => {
        const { runList } = await import("./show.js");
        await runList(flags, { topology, watchSeconds: flags.watch === true ? 2 : (flags.watch ?? null) }, terminal);
      });
  list("list", "the members of the cluster and their state", false).alias("status");
  list("topology", "the same, the standbys below their primary", true);
  withTarget(program.command("watch [seconds]").description("list, refreshed"))
    .option("-f, --format <format>", "pretty, json, yaml or tsv", "pretty")
    .action(async (seconds: string | undefined, flags: TargetFlags) => {
      const { runList } = await import("./show.js");
      const every = seconds === undefined ? 2 : watchSeconds(seconds);
      await runList(flags, { topology: false, watchSeconds: every }, terminal);
    });
  withTarget(
    withFormat(program.command("history").description("what happened: promotions, failovers, members")),
  ).action(async (flags: TargetFlags) => (await import("./show.js")).runHistory(flags, terminal));
  withTarget(program.command("uri").description("the URL by which clients always reach the primary"))
    .option("-d, --dbname <name>", "database", "postgres")
    .option("-U, --user <name>", "user name to put into the URL")
    .action(async (flags: TargetFlags & { readonly dbname: string; readonly user?: string }) =>
      (await import("./show.js")).runUri(flags, { dbname: flags.dbname, user: flags.user ?? null }, terminal),
    );
}

interface FailoverFlags extends ChangeFlags {
  readonly candidate?: string;
  readonly allowDataLoss?: boolean;
  readonly timeout: number;
}

function addChangeCommands(program: Command, terminal: Terminal): void {
  const failover = (kind: "switchover" | "failover", description: string) =>
    withChange(withTarget(program.command(kind).description(description)))
      .option("--candidate <node>", "the node that becomes primary (default: the most advanced)")
      .option("--timeout <seconds>", "how long to wait for the new primary", wholeNumber(1, 3600), 60);
  const run = async (kind: "switchover" | "failover", flags: FailoverFlags): Promise<void> => {
    const { findAgent } = await import("./agent-client.js");
    const { runFailover } = await import("./failover.js");
    await runFailover(
      await findAgent(flags),
      {
        kind,
        candidate: flags.candidate ?? null,
        allowDataLoss: flags.allowDataLoss === true,
        deadlineMs: flags.timeout * 1000,
        yes: flags.yes === true,
        dryRun: flags.dryRun === true,
      },
      terminal,
    );
  };
  failover("switchover", "hand over to a standby in good order, losing nothing").action((flags: FailoverFlags) =>
    run("switchover", flags),
  );
  failover("failover", "replace the primary now (a switchover when it is healthy)")
    .option("--allow-data-loss", "also when committed transactions are lost by it")
    .action((flags: FailoverFlags) => run("failover", flags));
  const pause = (name: "pause" | "resume", description: string) =>
    withChange(withTarget(program.command(name).description(description))).action(async (flags: ChangeFlags) => {
      const { findAgent } = await import("./agent-client.js");
      const { runPause } = await import("./failover.js");
      const change = { yes: flags.yes === true, dryRun: flags.dryRun === true };
      await runPause(await findAgent(flags), name === "pause", change, terminal);
    });
  pause("pause", "no automatic failover until resume");
  pause("resume", "automatic failover again");
}

function withDataDirectory(command: Command): Command {
  const fromEnvironment = process.env.PGDATA;
  command.option("--bindir <directory>", "PostgreSQL's programs (default: found beside pg_config)");
  const flags = "-D, --pgdata <directory>";
  return fromEnvironment === undefined
    ? command.requiredOption(flags, "the data directory")
    : command.option(flags, "the data directory", fromEnvironment);
}

function addNodeCommands(program: Command, terminal: Terminal): void {
  addNodeOptions(
    withDataDirectory(
      program.command("init").description("make the first node of a new cluster in an empty directory"),
    ),
  )
    .option("--superuser <name>", "name of the database superuser", "postgres")
    .option("--auth <method>", "how clients prove who they are (pg_hba.conf)", "scram-sha-256")
    .option("--pwfile <file>", "file with the superuser's password")
    .action(async (flags: NodeFlags) => (await import("./init.js")).runInit(flags, terminal));
  addNodeOptions(
    withDataDirectory(
      program.command("join").description("make another node: clone the primary into an empty directory"),
    ),
  )
    .requiredOption("--from <host:raftport>", "any node of the cluster")
    .action(async (flags: NodeFlags & { readonly from: string }) =>
      (await import("./join.js")).runJoin(flags, terminal),
    );
  withDataDirectory(program.command("prepare").description("run before each start of the server: rejoin if needed"))
    .option("--config-file <file>", "postgresql.conf, when it is not in the data directory")
    .option("--state-dir <directory>", "pg_replica.state_dir (default: as configured)")
    .addHelpText(
      "after",
      "\nFor prepare: 0 ready to start; 1 not ready, run it again (a source was not reachable, say);" +
        "\n             2 refused: an operator has to look (the message says at what).",
    )
    .action(async (flags: PrepareFlags) => (await import("./prepare.js")).runPrepare(flags, terminal));
  withDataDirectory(
    program.command("supervise").description("prepare and run the server, again and again (small setups)"),
  )
    .option("--restart-delay-ms <ms>", "pause before a restart", wholeNumber(0, 60_000), 500)
    .option("--log <file>", "append what the server says to this file")
    .action(async (flags: SuperviseFlags) => {
      const [{ supervise }, { findBindir }] = await Promise.all([import("./supervise.js"), import("./bindir.js")]);
      process.exitCode = await supervise({
        pgdata: flags.pgdata,
        bindir: findBindir(flags.bindir),
        restartDelayMs: flags.restartDelayMs,
        logFile: flags.log ?? null,
        self: [process.execPath, ...process.execArgv, process.argv[1] ?? ""],
      });
    });
  program
    .command("demo")
    .description("a real three-node cluster on this machine until Ctrl-C")
    .option("--directory <directory>", "where to make it, empty or new (default: a temporary one)")
    .option("--bindir <directory>", "PostgreSQL's programs")
    .option("--failover", "kill the primary, twice, check what must hold, print the timeline and end")
    .action(async (flags: { readonly directory?: string; readonly bindir?: string; readonly failover?: boolean }) =>
      (await import("./demo.js")).runDemo(flags, terminal),
    );
}

export interface PrepareFlags {
  readonly pgdata: string;
  readonly bindir?: string;
  readonly stateDir?: string;
  readonly configFile?: string;
}

interface SuperviseFlags {
  readonly pgdata: string;
  readonly bindir?: string;
  readonly restartDelayMs: number;
  readonly log?: string;
}

function addInternalCommands(program: Command): void {
  program
    .command("agent", { hidden: true })
    .description("the agent; started by the server's background worker")
    .action(async () => (await import("../agent/main.js")).runAgent());
}
