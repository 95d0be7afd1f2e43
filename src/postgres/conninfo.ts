/**
 * libpq connection strings: reading, writing, changing, and turning them into a configuration of the `pg` client.
 *
 * One string has to serve libpq (PostgreSQL's tools, the walreceiver) and node-postgres alike, so both see what libpq
 * would see. Rules: PostgreSQL documentation, "Connection Strings" and "The Password File" (libpq chapter).
 */
import { existsSync, readFileSync, statSync } from "node:fs";
import { isIP } from "node:net";
import { homedir, userInfo } from "node:os";
import { join } from "node:path";
import type { ClientConfig } from "pg";

/** What is wrong with a connection string. The message says where, and never repeats a value (it may be a password). */
export class ConninfoError extends Error {
  override readonly name = "ConninfoError";
  constructor(
    readonly code: "CONNINFO_SYNTAX" | "CONNINFO_KEYWORD" | "CONNINFO_VALUE" | "CONNINFO_UNSUPPORTED",
    message: string,
    /** Where in the text the trouble begins, counted from 1; null when it is no single place. */
    readonly position: number | null,
  ) {
    super(position === null ? message : `${message} (character ${position} of the connection string)`);
  }
}

/** Every keyword that libpq 13 to 18 knows; another one would be refused by PostgreSQL's own tools. */
const keywords: ReadonlySet<string> = new Set(
  (
    "service user password passfile channel_binding connect_timeout dbname host hostaddr port client_encoding " +
    "options application_name fallback_application_name keepalives keepalives_idle keepalives_interval " +
    "keepalives_count tcp_user_timeout sslmode sslcompression sslcert sslkey sslcertmode sslpassword sslrootcert " +
    "sslcrl sslcrldir sslsni requirepeer require_auth min_protocol_version max_protocol_version " +
    "ssl_min_protocol_version ssl_max_protocol_version sslnegotiation gssencmode krbsrvname gsslib gssdelegation " +
    "replication target_session_attrs load_balance_hosts scram_client_key scram_server_key oauth_issuer " +
    "oauth_client_id oauth_client_secret oauth_scope sslkeylogfile servicefile authtype requiressl"
  ).split(" "),
);

const secretKeywords: ReadonlySet<string> = new Set([
  "password",
  "sslpassword",
  "oauth_client_secret",
  "scram_client_key",
  "scram_server_key",
]);

/** isspace() of the C locale, which is what libpq uses. */
const isBlank = (character: string | undefined): boolean =>
  character !== undefined && " \t\n\v\f\r".includes(character);

/**
 * Reads a libpq connection string: `keyword=value ...` or a `postgresql://` URI (several hosts allowed).
 * A repeated keyword: the last one counts, as in libpq.
 * @throws ConninfoError
 */
export function parseConninfo(text: string): Map<string, string> {
  if (text.includes("\0")) {
    throw new ConninfoError("CONNINFO_SYNTAX", "a zero byte is not allowed", text.indexOf("\0") + 1);
  }
  return /^postgres(?:ql)?:\/\//.test(text) ? parseUri(text) : parseKeywordValue(text);
}

function parseKeywordValue(text: string): Map<string, string> {
  const result = new Map<string, string>();
  let previous: string | null = null;
  let at = 0;
  const skipBlanks = () => {
    while (isBlank(text[at])) at += 1;
  };
  for (;;) {
    skipBlanks();
    if (at >= text.length) return result;
    const keywordAt = at;
    while (at < text.length && text[at] !== "=" && !isBlank(text[at])) at += 1;
    const keyword = text.slice(keywordAt, at);
    skipBlanks();
    if (text[at] !== "=") {
      throw new ConninfoError("CONNINFO_SYNTAX", `missing "=" after ${nameWord(keyword, previous)}`, keywordAt + 1);
    }
    at += 1;
    skipBlanks();
    const value = readValue(text, at, keyword);
    at = value.end;
    store(result, keyword, value.text, keywordAt, previous);
    previous = keyword;
  }
}

/** A word may be the rest of a password with a blank in it: then it is not repeated. */
function nameWord(word: string, previous: string | null): string {
  if (previous !== null && secretKeywords.has(previous)) {
    return `the word that follows "${previous}=..." (quote a value that contains blanks)`;
  }
  return `"${word}"`;
}

function readValue(text: string, start: number, keyword: string): { text: string; end: number } {
  const quoted = text[start] === "'";
  let value = "";
  let at = quoted ? start + 1 : start;
  for (;;) {
    const character = text[at];
    if (character === undefined) {
      if (!quoted) return { text: value, end: at };
      throw new ConninfoError("CONNINFO_SYNTAX", `the quoted value of "${keyword}" has no end`, start + 1);
    }
    if (quoted ? character === "'" : isBlank(character)) return { text: value, end: quoted ? at + 1 : at };
    if (character === "\\") {
      // A backslash at the very end stands for nothing, as in libpq.
      value += text[at + 1] ?? "";
      at += 2;
    } else {
      value += character;
      at += 1;
    }
  }
}

function store(result: Map<string, string>, keyword: string, value: string, at: number, previous: string | null) {
  if (!keywords.has(keyword)) {
    const shown = nameWord(keyword, previous);
    throw new ConninfoError("CONNINFO_KEYWORD", `${shown} is not a connection option of libpq`, at + 1);
  }
  result.set(keyword, value);
}

function parseUri(text: string): Map<string, string> {
  const result = new Map<string, string>();
  const put = (keyword: string, start: number, end: number) => {
    if (end > start) result.set(keyword, decodePercent(text.slice(start, end), start));
  };
  let at = parseUriUser(text, text.indexOf("://") + 3, put);
  const hosts: string[] = [];
  const ports: string[] = [];
  const listAt = at;
  for (;;) {
    const place = parseUriHost(text, at);
    hosts.push(place.host);
    ports.push(place.port);
    at = place.end;
    if (text[at] !== ",") break;
    at += 1;
  }
  if (hosts.join(",") !== "") result.set("host", decodePercent(hosts.join(","), listAt));
  if (ports.join(",") !== "") result.set("port", decodePercent(ports.join(","), listAt));
  if (text[at] === "/") {
    const end = indexOfAny(text, "?", at);
    put("dbname", at + 1, end);
    at = end;
  }
  if (text[at] === "?") parseUriParameters(text, at + 1, result);
  return result;
}

/** Reads `user[:password]@` if it is there; gives where the hosts begin. */
function parseUriUser(text: string, start: number, put: (keyword: string, start: number, end: number) => void): number {
  const end = indexOfAny(text, "@/", start);
  if (text[end] !== "@") return start;
  const userEnd = indexOfAny(text, ":@", start);
  put("user", start, userEnd);
  if (text[userEnd] === ":") put("password", userEnd + 1, end);
  return end + 1;
}

function parseUriHost(text: string, start: number): { host: string; port: string; end: number } {
  let host: string;
  let at: number;
  if (text[start] === "[") {
    at = text.indexOf("]", start);
    if (at < 0) throw new ConninfoError("CONNINFO_SYNTAX", 'no "]" ends the IPv6 address', start + 1);
    host = text.slice(start + 1, at);
    if (host === "") throw new ConninfoError("CONNINFO_SYNTAX", "the IPv6 address between [ and ] is empty", start + 1);
    at += 1;
    if (at < text.length && !":/?,".includes(text[at] as string)) {
      throw new ConninfoError("CONNINFO_SYNTAX", 'after "]" only ":", "/", "?" or "," may follow', at + 1);
    }
  } else {
    at = indexOfAny(text, ":/?,", start);
    host = text.slice(start, at);
  }
  if (text[at] !== ":") return { host, port: "", end: at };
  const end = indexOfAny(text, "/?,", at + 1);
  return { host, port: text.slice(at + 1, end), end };
}

function parseUriParameters(text: string, start: number, result: Map<string, string>): void {
  let at = start;
  let previous: string | null = null;
  while (at < text.length) {
    const end = indexOfAny(text, "&", at);
    const equals = text.indexOf("=", at);
    if (equals < 0 || equals >= end) {
      throw new ConninfoError("CONNINFO_SYNTAX", 'a parameter of the URI has no "="', at + 1);
    }
    if (text.slice(equals + 1, end).includes("=")) {
      const message = 'a parameter of the URI has a second "=" (write %3D inside a value)';
      throw new ConninfoError("CONNINFO_SYNTAX", message, text.indexOf("=", equals + 1) + 1);
    }
    const keyword = decodePercent(text.slice(at, equals), at);
    const value = decodePercent(text.slice(equals + 1, end), equals + 1);
    // JDBC's spelling, which libpq accepts in this one form.
    if (keyword === "ssl" && value === "true") result.set("sslmode", "require");
    else store(result, keyword, value, at, previous);
    previous = keyword;
    at = end + 1;
  }
}

function indexOfAny(text: string, characters: string, start: number): number {
  for (let at = start; at < text.length; at += 1) {
    if (characters.includes(text[at] as string)) return at;
  }
  return text.length;
}

function decodePercent(text: string, offset: number): string {
  const bad = /%(?![0-9a-fA-F]{2})/.exec(text);
  if (bad !== null) {
    throw new ConninfoError(
      "CONNINFO_SYNTAX",
      '"%" must be followed by two hexadecimal digits',
      offset + bad.index + 1,
    );
  }
  const zero = text.indexOf("%00");
  if (zero >= 0) throw new ConninfoError("CONNINFO_SYNTAX", "%00 is not allowed", offset + zero + 1);
  try {
    return decodeURIComponent(text);
  } catch {
    throw new ConninfoError("CONNINFO_SYNTAX", "the percent-encoded bytes are not UTF-8", offset + 1);
  }
}

/** Writes `keyword=value` pairs, quoted so that `parseConninfo` (and libpq) gives the same pairs back. */
export function formatConninfo(parameters: ReadonlyMap<string, string>): string {
  return [...parameters].map(([keyword, value]) => `${keyword}=${quoteValue(keyword, value)}`).join(" ");
}

function quoteValue(keyword: string, value: string): string {
  if (value.includes("\0")) throw new ConninfoError("CONNINFO_VALUE", `"${keyword}" contains a zero byte`, null);
  if (value !== "" && !/[ \t\n\v\f\r'\\]/.test(value)) return value;
  return `'${value.replace(/[\\']/g, "\\$&")}'`;
}

/** `dsn` with parameters set (or, for null, taken out), in keyword/value form. */
export function withParameters(dsn: string, changes: Readonly<Record<string, string | null>>): string {
  const parameters = parseConninfo(dsn);
  for (const [keyword, value] of Object.entries(changes)) {
    if (!keywords.has(keyword)) {
      throw new ConninfoError("CONNINFO_KEYWORD", `"${keyword}" is not a connection option of libpq`, null);
    }
    if (value === null) parameters.delete(keyword);
    else parameters.set(keyword, value);
  }
  return formatConninfo(parameters);
}

/** `dsn` for people and logs: without passwords and other secrets. Text that cannot be read is not shown at all. */
export function describeConninfo(dsn: string): string {
  let parameters: Map<string, string>;
  try {
    parameters = parseConninfo(dsn);
    // An unescaped "/" in a URI's password makes a "port" out of it.
    splitHosts(parameters);
  } catch {
    return "(unreadable connection string)";
  }
  for (const keyword of secretKeywords) parameters.delete(keyword);
  return formatConninfo(parameters);
}

/** One connection string for each host that `dsn` names, in its order; everything else is kept. */
export function expandHosts(dsn: string): string[] {
  const parameters = parseConninfo(dsn);
  const hosts = parameters.get("host")?.split(",");
  const addresses = parameters.get("hostaddr")?.split(",");
  return splitHosts(parameters).map((place, index) => {
    const one = new Map(parameters);
    const host = hosts?.[index];
    const address = addresses?.[index];
    if (host !== undefined) one.set("host", host);
    if (address !== undefined) one.set("hostaddr", address);
    if (host !== undefined || address !== undefined) one.set("port", String(place.port));
    return formatConninfo(one);
  });
}

/**
 * One configuration of the `pg` client for each host that the string names, in its order (libpq would try them so).
 *
 * Defaults are libpq's: the environment (PGHOST, PGPORT, PGUSER, PGDATABASE, PGPASSWORD, PGPASSFILE), the socket
 * directory, port 5432, the name of the operating system's user. `sslmode=allow` and `prefer` connect without TLS:
 * the client cannot fall back from one to the other; a server that insists on TLS needs `require` or more.
 * @throws ConninfoError for unreadable text and for `service=`, which only libpq can look up.
 */
export function toClientConfigs(dsn: string, overrides: ClientConfig = {}): ClientConfig[] {
  const parameters = parseConninfo(dsn);
  const service = parameters.get("service") ?? process.env.PGSERVICE;
  if (service !== undefined && service !== "") {
    const message = '"service" is not supported here: write out host, port, user and dbname';
    throw new ConninfoError("CONNINFO_UNSUPPORTED", message, null);
  }
  return splitHosts(parameters).map((place) => ({ ...clientConfig(parameters, place), ...overrides }));
}

/**
 * The configuration of the `pg` client for a string that names one server; see `toClientConfigs`.
 * @throws ConninfoError also when the string names several hosts: which one to use is then the caller's decision.
 */
export function toClientConfig(dsn: string, overrides: ClientConfig = {}): ClientConfig {
  const [first, ...others] = toClientConfigs(dsn, overrides);
  if (first === undefined || others.length > 0) {
    throw new ConninfoError("CONNINFO_VALUE", "the string must name one server, not several hosts", null);
  }
  return first;
}

interface Place {
  /** Name or socket directory as written; used for certificates and the password file. */
  readonly host: string;
  /** Where to connect: the address when one is given. */
  readonly connectTo: string;
  readonly port: number;
}

function splitHosts(parameters: ReadonlyMap<string, string>): Place[] {
  const hosts = (parameters.get("host") ?? process.env.PGHOST ?? "").split(",");
  const addresses = parameters.get("hostaddr")?.split(",");
  const ports = (parameters.get("port") ?? process.env.PGPORT ?? "").split(",");
  const count = addresses?.length ?? hosts.length;
  if (addresses !== undefined && parameters.has("host") && hosts.length !== count) {
    const message = `${hosts.length} names in "host" do not match ${count} addresses in "hostaddr"`;
    throw new ConninfoError("CONNINFO_VALUE", message, null);
  }
  if (ports.length !== 1 && ports.length !== count) {
    throw new ConninfoError("CONNINFO_VALUE", `${ports.length} ports in "port" do not match ${count} hosts`, null);
  }
  return Array.from({ length: count }, (_, index) => {
    const address = addresses?.[index]?.trim() || undefined;
    const host = (hosts[index] ?? "").trim() || address || defaultSocketDirectory();
    const port = (ports.length === 1 ? ports[0] : ports[index])?.trim() || "5432";
    return { host, connectTo: address ?? host, port: parsePort(port) };
  });
}

function parsePort(text: string): number {
  const port = /^\d{1,5}$/.test(text) ? Number(text) : 0;
  if (port < 1 || port > 65535) {
    throw new ConninfoError("CONNINFO_VALUE", 'a port in "port" is not a number from 1 to 65535', null);
  }
  return port;
}

/** libpq's is compiled in; Debian and Red Hat use the first one, PostgreSQL's own builds the second. */
function defaultSocketDirectory(): string {
  return statSync("/var/run/postgresql", { throwIfNoEntry: false })?.isDirectory() ? "/var/run/postgresql" : "/tmp";
}

function clientConfig(parameters: ReadonlyMap<string, string>, place: Place): ClientConfig {
  const user = parameters.get("user") || process.env.PGUSER || userInfo().username;
  const database = parameters.get("dbname") || process.env.PGDATABASE || user;
  const password =
    parameters.get("password") ||
    process.env.PGPASSWORD ||
    lookUpPassword(passwordFile(parameters), { ...place, database, user });
  const config: ClientConfig = {
    host: place.connectTo,
    port: place.port,
    user,
    database,
    ssl: place.host.startsWith("/") ? false : tlsOptions(parameters, place),
  };
  if (password !== undefined) config.password = password;
  const applicationName = parameters.get("application_name") || parameters.get("fallback_application_name");
  if (applicationName) config.application_name = applicationName;
  const options = parameters.get("options");
  if (options) config.options = options;
  const timeoutMs = connectTimeoutMs(parameters.get("connect_timeout"));
  if (timeoutMs !== undefined) config.connectionTimeoutMillis = timeoutMs;
  if (parameters.get("keepalives") !== "0") config.keepAlive = true;
  return config;
}

function connectTimeoutMs(text: string | undefined): number | undefined {
  if (text === undefined || text === "") return undefined;
  if (!/^\s*-?\d+\s*$/.test(text)) {
    throw new ConninfoError("CONNINFO_VALUE", '"connect_timeout" is not a whole number of seconds', null);
  }
  const seconds = Number(text);
  return seconds <= 0 ? undefined : seconds * 1000;
}

function tlsOptions(parameters: ReadonlyMap<string, string>, place: Place): ClientConfig["ssl"] {
  const mode = parameters.get("sslmode") || process.env.PGSSLMODE || "prefer";
  if (mode === "disable" || mode === "allow" || mode === "prefer") return false;
  if (mode !== "require" && mode !== "verify-ca" && mode !== "verify-full") {
    const message = '"sslmode" must be disable, allow, prefer, require, verify-ca or verify-full';
    throw new ConninfoError("CONNINFO_VALUE", message, null);
  }
  const rootFile = rootCertificate(parameters, mode);
  // libpq: `require` checks the chain only when a root certificate is there; only verify-full checks the name.
  return {
    rejectUnauthorized: mode !== "require" || rootFile !== undefined,
    // An address is never a server name (RFC 6066); without one the client checks against what it connects to.
    ...(isIP(place.host) === 0 ? { servername: place.host } : {}),
    ...(rootFile === undefined || rootFile === "system" ? {} : { ca: readCredential("sslrootcert", rootFile) }),
    ...(mode === "verify-full" ? {} : { checkServerIdentity: () => undefined }),
    ...clientCertificate(parameters),
  };
}

function rootCertificate(parameters: ReadonlyMap<string, string>, mode: string): string | undefined {
  const named = parameters.get("sslrootcert") || process.env.PGSSLROOTCERT;
  if (named) return named;
  const usual = join(homedir(), ".postgresql", "root.crt");
  return mode !== "require" || existsSync(usual) ? usual : undefined;
}

function clientCertificate(parameters: ReadonlyMap<string, string>): { cert?: string; key?: string } {
  const cert = parameters.get("sslcert") || process.env.PGSSLCERT;
  const key = parameters.get("sslkey") || process.env.PGSSLKEY;
  const passphrase = parameters.get("sslpassword");
  return {
    ...(cert ? { cert: readCredential("sslcert", cert) } : {}),
    ...(key ? { key: readCredential("sslkey", key) } : {}),
    ...(passphrase ? { passphrase } : {}),
  };
}

function readCredential(keyword: string, path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new ConninfoError("CONNINFO_VALUE", `the file named by "${keyword}" cannot be read: ${why}`, null);
  }
}

function passwordFile(parameters: ReadonlyMap<string, string>): string {
  return parameters.get("passfile") || process.env.PGPASSFILE || join(homedir(), ".pgpass");
}

interface PasswordKey {
  readonly host: string;
  readonly port: number;
  readonly database: string;
  readonly user: string;
}

/**
 * The password for a connection from a password file, by libpq's rules: first line that matches, `*` matches anything,
 * `localhost` stands for the default socket directory, a file that others can read is ignored.
 */
export function lookUpPassword(path: string, key: PasswordKey): string | undefined {
  if (!isPrivateFile(path)) return undefined;
  const host = key.host === defaultSocketDirectory() ? "localhost" : key.host;
  const wanted = [host, String(key.port), key.database, key.user];
  for (const line of readFileSync(path, "utf8").split(/\r?\n/)) {
    if (line.startsWith("#")) continue;
    const fields = splitPasswordLine(line);
    if (fields === null) continue;
    if (wanted.every((value, index) => fields[index] === "*" || unescapeField(fields[index]) === value)) {
      return unescapeField(fields[4]);
    }
  }
  return undefined;
}

/** libpq skips a file that it cannot even look at, such as one in another user's home, as if it were not there. */
function isPrivateFile(path: string): boolean {
  try {
    const stat = statSync(path);
    return stat.isFile() && (stat.mode & 0o077) === 0;
  } catch {
    return false;
  }
}

/** Four fields and the password (the rest of the line), still with their backslashes: `\*` is not the wild card. */
function splitPasswordLine(line: string): string[] | null {
  const match = /^((?:\\.|[^:\\])*):((?:\\.|[^:\\])*):((?:\\.|[^:\\])*):((?:\\.|[^:\\])*):(.*)$/.exec(line);
  return match === null ? null : match.slice(1);
}

function unescapeField(field: string | undefined): string {
  return (field ?? "").replace(/\\(.)/g, "$1");
}
