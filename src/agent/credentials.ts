/** Secrets of the peer transport, read from files whose owner and mode are checked; they never leave the process. */
import { readFile, stat } from "node:fs/promises";
import { isAbsolute, join } from "node:path";
import type { AgentConfig } from "../control/types.js";
import { AgentError, describeError } from "./errors.js";

export interface Credentials {
  readonly secret: Uint8Array | null;
  readonly tls: { readonly cert: string; readonly key: string; readonly ca: string } | null;
}

const minSecretBytes = 16;

/** @throws AgentError naming the setting and the file. */
export async function loadCredentials(config: AgentConfig): Promise<Credentials> {
  return { secret: await loadSecret(config), tls: await loadTls(config) };
}

async function loadSecret(config: AgentConfig): Promise<Uint8Array | null> {
  if (config.secretFile === "") return null;
  const secret = (await readPrivate(config, "pg_replica.secret_file", config.secretFile)).trim();
  if (Buffer.byteLength(secret) < minSecretBytes) {
    throw new AgentError(
      "weak-secret",
      `the secret in ${inDataDirectory(config, config.secretFile)} (pg_replica.secret_file) is shorter than ${minSecretBytes} bytes`,
      "Make one with: openssl rand -hex 32",
    );
  }
  return Buffer.from(secret, "utf8");
}

async function loadTls(config: AgentConfig): Promise<Credentials["tls"]> {
  const files = [config.tlsCertFile, config.tlsKeyFile, config.tlsCaFile];
  if (files.every((file) => file === "")) return null;
  if (files.some((file) => file === "")) {
    throw new AgentError(
      "incomplete-tls",
      "pg_replica.tls_cert_file, tls_key_file and tls_ca_file must be set together",
      "Set all three, or none for a plain transport.",
    );
  }
  return {
    cert: await readText(config, "pg_replica.tls_cert_file", config.tlsCertFile),
    key: await readPrivate(config, "pg_replica.tls_key_file", config.tlsKeyFile),
    ca: await readText(config, "pg_replica.tls_ca_file", config.tlsCaFile),
  };
}

function inDataDirectory(config: AgentConfig, file: string): string {
  return isAbsolute(file) ? file : join(config.server.pgdata, file);
}

async function readText(config: AgentConfig, setting: string, file: string): Promise<string> {
  try {
    return await readFile(inDataDirectory(config, file), "utf8");
  } catch (error) {
    const path = inDataDirectory(config, file);
    throw new AgentError(
      "unreadable-file",
      `the file ${path} (${setting}) can not be read: ${describeError(error)}`,
      `Correct ${setting}, or let the server's operating system user read the file.`,
      { cause: error },
    );
  }
}

/** Like PostgreSQL's own key files: owned by the server's user (or root, then group-readable) and closed to the others. */
async function readPrivate(config: AgentConfig, setting: string, file: string): Promise<string> {
  const path = inDataDirectory(config, file);
  const text = await readText(config, setting, file);
  const { mode, uid } = await stat(path);
  const allowed = uid === 0 ? 0o640 : 0o600;
  if ((mode & 0o777 & ~allowed) !== 0) {
    throw new AgentError(
      "open-file",
      `${path} (${setting}) can be read or written by others (mode ${(mode & 0o777).toString(8)})`,
      `Run: chmod 600 ${path}`,
    );
  }
  return text;
}
