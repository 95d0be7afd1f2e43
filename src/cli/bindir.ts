/** Where PostgreSQL's programs are. */
import { accessSync, constants, readdirSync, realpathSync } from "node:fs";
import { delimiter, dirname, join } from "node:path";
import { CliError } from "./errors.js";

const debianRoot = "/usr/lib/postgresql";

/**
 * The directory given; else that of `postgres` in PATH; else Debian's newest.
 * @throws CliError
 */
export function findBindir(given: string | undefined): string {
  if (given !== undefined) {
    if (isBindir(given)) return given;
    throw new CliError("no-bindir", `there is no program "postgres" in ${given}`, "Check --bindir.");
  }
  for (const directory of [...(process.env.PATH ?? "").split(delimiter), ...debianDirectories()]) {
    if (directory !== "" && isBindir(directory)) return dirname(realpathSync(join(directory, "postgres")));
  }
  throw new CliError("no-bindir", "PostgreSQL's programs were not found", "Name their directory with --bindir.");
}

function isBindir(directory: string): boolean {
  try {
    accessSync(join(directory, "postgres"), constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

function debianDirectories(): string[] {
  try {
    const majors = readdirSync(debianRoot).filter((name) => /^\d+$/.test(name));
    return majors.sort((a, b) => Number(b) - Number(a)).map((major) => join(debianRoot, major, "bin"));
  } catch {
    // Not a Debian machine.
    return [];
  }
}
