/** Changing the server's own configuration: ALTER SYSTEM and reload. */
import pg from "pg";
import type { Statements } from "./session.js";

/** ALTER SYSTEM takes no parameters, so the value is written as a literal. Each one is durable when it returns. */
export async function alterSystem(statements: Statements, name: string, value: string): Promise<void> {
  await statements.query(`ALTER SYSTEM SET ${name} = ${pg.escapeLiteral(value).trim()}`);
}

export async function resetSystem(statements: Statements, name: string): Promise<void> {
  await statements.query(`ALTER SYSTEM RESET ${name}`);
}

export async function reload(statements: Statements): Promise<void> {
  await statements.query("SELECT pg_reload_conf()");
}
