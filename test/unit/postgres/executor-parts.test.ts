import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { parseConninfo } from "../../../src/postgres/conninfo.js";
import { receiverConninfo } from "../../../src/postgres/follow.js";
import { recordEnd } from "../../../src/postgres/postmaster.js";
import { parseForkLsn } from "../../../src/postgres/promotion.js";

describe("receiver's connection string", () => {
  const target = { token: { term: 1, index: 2 }, applicationName: "pg_replica_3", slotName: "pg_replica_3" };
  it("carries the member's name and gives up a dead host in seconds", () => {
    const parameters = parseConninfo(receiverConninfo({ ...target, dsn: "host=a port=1 user=u application_name=x" }));
    assert.equal(parameters.get("application_name"), "pg_replica_3");
    assert.equal(parameters.get("connect_timeout"), "2");
    assert.equal(parameters.get("host"), "a");
  });
  it("leaves what the operator has set", () => {
    const parameters = parseConninfo(receiverConninfo({ ...target, dsn: "host=a connect_timeout=9" }));
    assert.equal(parameters.get("connect_timeout"), "9");
  });
  it("is the same text for the same target", () => {
    const dsn = "host=a port=1";
    assert.equal(receiverConninfo({ ...target, dsn }), receiverConninfo({ ...target, dsn }));
  });
});

describe("fork position", () => {
  it("is in the last line of the history file", () => {
    assert.equal(parseForkLsn("1\t0/3000000\tno\n\n2\t0/5000148\tno recovery target specified\n", 3), "0/5000148");
  });
  it("is where the history leaves the parent's timeline, past promotions that ended without a marker", () => {
    const history = "1\t0/3000000\tno\n2\t0/5000148\tno\n3\t0/50001F0\tno\n";
    assert.equal(parseForkLsn(history, 4, 2), "0/5000148");
    assert.equal(parseForkLsn(history, 4, 3), "0/50001F0");
    assert.equal(parseForkLsn(history, 4, 9), "0/50001F0", "a timeline that is not in the history says nothing");
  });
  it("is not guessed when the file is damaged", () => {
    assert.throws(() => parseForkLsn("", 3), /timeline 3/);
    assert.throws(() => parseForkLsn("1\tx\ty", 3), { code: "SERVER_STATE" });
  });
});

describe("end of a WAL record", () => {
  const segment = 16n * 1024n * 1024n;
  it("is rounded up to eight bytes", () => {
    assert.equal(recordEnd(0x3000028n, 114, 8192, segment), 0x30000a0n);
  });
  it("may be the very end of a page", () => {
    assert.equal(recordEnd(0x3001f88n, 114, 8192, segment), 0x3002000n);
  });
  it("counts the header of a page that the record goes over to", () => {
    assert.equal(recordEnd(0x3001fc8n, 114, 8192, segment), 0x3002000n + 24n + 64n);
  });
  it("counts the long header of a segment that the record goes over to", () => {
    assert.equal(recordEnd(0x3ffffc8n, 114, 8192, segment), 0x4000000n + 40n + 64n);
  });
});
