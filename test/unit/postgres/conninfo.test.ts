import assert from "node:assert/strict";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir, userInfo } from "node:os";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import fc from "fast-check";
import {
  ConninfoError,
  describeConninfo,
  formatConninfo,
  lookUpPassword,
  parseConninfo,
  toClientConfig,
  toClientConfigs,
  withParameters,
} from "../../../src/postgres/conninfo.js";

const directory = mkdtempSync(join(tmpdir(), "pg_replica-conninfo-"));
after(() => rmSync(directory, { recursive: true, force: true }));

for (const name of Object.keys(process.env)) if (name.startsWith("PG")) delete process.env[name];
process.env.PGPASSFILE = join(directory, "no-such-file");

const parsed = (text: string) => Object.fromEntries(parseConninfo(text));

function failure(text: string): ConninfoError {
  try {
    parseConninfo(text);
  } catch (error) {
    assert.ok(error instanceof ConninfoError);
    return error;
  }
  return assert.fail(`accepted: ${text}`);
}

describe("keyword/value connection strings", () => {
  it("reads values, quotes, escapes and blanks around the equals sign as libpq does", () => {
    assert.deepEqual(parsed(" host = a  port=5433\tuser='o\\'brien x' dbname=a\\ b password='' "), {
      host: "a",
      port: "5433",
      user: "o'brien x",
      dbname: "a b",
      password: "",
    });
  });

  it("lets the last of a repeated keyword win", () => {
    assert.deepEqual(parsed("host=a host=b"), { host: "b" });
  });

  it("gives an empty map for an empty string", () => {
    assert.deepEqual(parsed("  \n"), {});
  });

  it("says where a quoted value does not end", () => {
    const error = failure("host=a application_name='x");
    assert.equal(error.code, "CONNINFO_SYNTAX");
    assert.equal(error.position, 25);
  });

  it("says which word has no equals sign", () => {
    assert.match(failure("host=a prot 5").message, /"prot".*character 8/);
  });

  it("refuses a keyword that libpq does not know", () => {
    const error = failure("hots=a");
    assert.equal(error.code, "CONNINFO_KEYWORD");
    assert.match(error.message, /"hots"/);
  });

  it("never repeats what may be a piece of a password", () => {
    for (const text of [
      "password=top secret host=a",
      "password=top secret=1 host=a",
      "password='secret",
      "postgresql://u:secret/@a/db",
      "postgresql://u:secret%zz@a/db",
      "postgresql://a/db?password=secret=x",
      "postgresql://a/db?password=x&secret",
    ]) {
      let message = "";
      try {
        toClientConfigs(text);
      } catch (error) {
        message = String(error);
      }
      assert.doesNotMatch(message, /secret/, text);
      assert.doesNotMatch(describeConninfo(text), /secret/, text);
    }
  });

  it("reads back exactly what it writes", () => {
    const value = fc.string({ unit: "grapheme" }).filter((text) => !text.includes("\0"));
    const pairs = fc.dictionary(fc.constantFrom("host", "user", "password", "dbname", "options", "sslmode"), value);
    fc.assert(
      fc.property(pairs, (parameters) => {
        const map = new Map(Object.entries(parameters));
        assert.deepEqual(parseConninfo(formatConninfo(map)), map);
      }),
    );
  });

  it("either reads a text or says where it is wrong, whatever the text is", () => {
    const piece = fc.constantFrom(
      "host",
      "=",
      "'",
      "\\",
      " ",
      "a",
      "password",
      "postgresql://",
      "@",
      ":",
      "/",
      "?",
      "%4",
      "[",
      "]",
      "&",
      ",",
    );
    fc.assert(
      fc.property(
        fc.array(piece).map((pieces) => pieces.join("")),
        (text) => {
          try {
            parseConninfo(text);
          } catch (error) {
            assert.ok(error instanceof ConninfoError);
            assert.ok(error.position !== null && error.position >= 1 && error.position <= text.length + 1);
          }
        },
      ),
      { numRuns: 2000 },
    );
  });
});

describe("connection URIs", () => {
  it("reads user, password, hosts, ports, database and parameters", () => {
    assert.deepEqual(parsed("postgresql://me:p%40ss@a:1,[::1]:2,c/db%20x?connect_timeout=3&application_name=x%26y"), {
      user: "me",
      password: "p@ss",
      host: "a,::1,c",
      port: "1,2,",
      dbname: "db x",
      connect_timeout: "3",
      application_name: "x&y",
    });
  });

  it("reads a socket directory and the empty URI", () => {
    assert.deepEqual(parsed("postgres://%2Ftmp%2Fs/db"), { host: "/tmp/s", dbname: "db" });
    assert.deepEqual(parsed("postgresql://"), {});
    assert.deepEqual(parsed("postgresql:///db?host=/tmp"), { dbname: "db", host: "/tmp" });
  });

  it("knows ssl=true as sslmode=require", () => {
    assert.deepEqual(parsed("postgresql://a?ssl=true"), { host: "a", sslmode: "require" });
  });

  it("says where an address, an escape or a parameter is wrong", () => {
    assert.equal(failure("postgresql://[::1").position, 14);
    assert.equal(failure("postgresql://[]/x").position, 14);
    assert.equal(failure("postgresql://[::1]x").position, 19);
    assert.equal(failure("postgresql://a/%zz").position, 16);
    assert.equal(failure("postgresql://a/b?host").position, 18);
    assert.equal(failure("postgresql://a/b?%00=1").position, 18);
  });

  it("gives the parts back that were encoded into it", () => {
    const part = fc.string({ unit: "grapheme", minLength: 1 }).filter((text) => !text.includes("\0"));
    fc.assert(
      fc.property(part, part, part, (user, password, dbname) => {
        const [u, p, d] = [user, password, dbname].map(encodeURIComponent);
        assert.deepEqual(parsed(`postgresql://${u}:${p}@h:1/${d}`), { user, password, host: "h", port: "1", dbname });
      }),
    );
  });
});

describe("changing a connection string", () => {
  it("sets and removes parameters of either form", () => {
    assert.equal(withParameters("postgresql://me@a/x", { dbname: null, port: "1" }), "user=me host=a port=1");
    assert.throws(() => withParameters("host=a", { bogus: "1" }), { code: "CONNINFO_KEYWORD" });
  });

  it("is described without its secrets", () => {
    assert.equal(describeConninfo("host=a password=x sslpassword=y user=u"), "host=a user=u");
  });
});

describe("configuration of the client", () => {
  it("fills in the defaults of libpq", () => {
    const config = toClientConfig("host=a");
    const user = userInfo().username;
    assert.deepEqual(
      [config.host, config.port, config.user, config.database, config.ssl, config.password],
      ["a", 5432, user, user, false, undefined],
    );
  });

  it("connects to hostaddr and takes the overrides", () => {
    const config = toClientConfig("host=a hostaddr=10.0.0.1 port=7 user=u connect_timeout=4 dbname=d", {
      application_name: "pg_replica",
      database: "e",
    });
    assert.deepEqual(
      [config.host, config.port, config.user, config.database, config.connectionTimeoutMillis, config.application_name],
      ["10.0.0.1", 7, "u", "e", 4000, "pg_replica"],
    );
  });

  it("gives one configuration a host, and refuses several where one is wanted", () => {
    const configs = toClientConfigs("host=a,b port=1,2");
    assert.deepEqual(
      configs.map((config) => [config.host, config.port]),
      [
        ["a", 1],
        ["b", 2],
      ],
    );
    assert.throws(() => toClientConfig("host=a,b"), { code: "CONNINFO_VALUE" });
    assert.throws(() => toClientConfigs("host=a,b,c port=1,2"), { code: "CONNINFO_VALUE" });
    assert.throws(() => toClientConfigs("host=a port=0"), { code: "CONNINFO_VALUE" });
  });

  it("checks certificates as far as sslmode asks for it", () => {
    const authority = join(directory, "ca.crt");
    writeFileSync(authority, "CA");
    const at = (mode: string) =>
      toClientConfig(`host=a sslmode=${mode} sslrootcert=${authority}`).ssl as Record<string, unknown>;
    assert.equal(at("prefer"), false);
    assert.equal(at("verify-full").rejectUnauthorized, true);
    assert.equal(at("verify-full").checkServerIdentity, undefined);
    assert.equal(at("verify-full").servername, "a");
    assert.equal(typeof at("verify-ca").checkServerIdentity, "function");
    assert.throws(() => at("maybe"), { code: "CONNINFO_VALUE" });
    assert.throws(() => toClientConfig("host=a sslmode=verify-full sslrootcert=/nonexistent"), /sslrootcert/);
    assert.equal(toClientConfig(`host=/tmp sslmode=require sslrootcert=${authority}`).ssl, false);
  });

  it("finds the password in a password file by libpq's rules", () => {
    const file = join(directory, "pgpass");
    const lines = [
      "# comment",
      "b:1:d:u:first",
      "a\\:x:*:*:u:pa\\:ss:word",
      "localhost:1:d:u:sock",
      "\\*:1:d:u:no",
      "*:2:*:*:any",
    ];
    writeFileSync(file, `${lines.join("\n")}\n`, { mode: 0o600 });
    const look = (host: string, port: number, user = "u") => lookUpPassword(file, { host, port, database: "d", user });
    assert.equal(look("b", 1), "first");
    assert.equal(look("b", 1, "other"), undefined);
    assert.equal(look("a:x", 9), "pa:ss:word");
    assert.equal(look("zzz", 2, "who"), "any");
    assert.equal(look("zzz", 1), undefined);
    assert.equal(toClientConfig(`host=b port=1 user=u dbname=d passfile=${file}`).password, "first");
    chmodSync(file, 0o644);
    assert.equal(look("b", 1), undefined, "a file that others can read is ignored");
  });
});
