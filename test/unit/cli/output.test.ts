import assert from "node:assert/strict";
import { test } from "node:test";
import colors from "picocolors";
import { clientUri, showCluster, showHistory } from "../../../src/cli/cluster-output.js";
import { formatBytes, parseFormat, printable, yaml } from "../../../src/cli/output.js";
import { fakeMember, primaryView } from "../http/fake-view.js";

const plain = colors.createColors(false);

test("the table has patronictl's header and columns, the primary first", () => {
  const members = [
    fakeMember(2, "b", { lagBytes: 3 * 1024 * 1024 }),
    fakeMember(1, "a"),
    fakeMember(3, "c", { lsn: null, lagBytes: null }),
  ];
  const text = showCluster(primaryView({ members }), { format: "pretty", colors: plain });
  const lines = text.split("\n");
  assert.match(lines[0] ?? "", /^\+ Cluster: 6b1c \(7300000000000000001\) [-+]+\+$/);
  assert.match(lines[1] ?? "", /Member .* Host .* Role .* State .* TL .* LSN .* Lag .* Raft/);
  assert.match(lines[3] ?? "", /\| a .*10\.0\.0\.1:5431 .* Primary .* running .* 3 .* 0\/3000148 .* leader/);
  assert.match(lines[4] ?? "", /\| b .* Replica .* streaming .* 3\.0 MB .* voter/);
  assert.match(lines[5] ?? "", /\| c .* unknown .* unknown/);
  assert.equal(new Set(lines.map((line) => line.length)).size, 1, "all lines are as wide");
});

test("topology puts the standbys below their primary", () => {
  const text = showCluster(primaryView(), { format: "pretty", colors: plain, topology: true });
  assert.match(text, /\| a {2,}\|.*\| \+ b {1,}\|/s);
});

test("what needs attention stands below the table", () => {
  const show = (changes: Parameters<typeof primaryView>[0]) =>
    showCluster(primaryView(changes), { format: "pretty", colors: plain });
  assert.match(show({ paused: true }), /Paused: no automatic failover$/);
  assert.match(show({ quorum: false }), /No majority of the members is reached from a/);
  assert.match(show({ phase: "recruit" }), /A failover is in progress \(recruit\)/);
  assert.doesNotMatch(show({}), /Paused|majority|progress/);
});

test("pending restart and tags have columns only when there are any", () => {
  assert.doesNotMatch(showCluster(primaryView(), { format: "pretty", colors: plain }), /Tags|Pending/);
  const tags = { nofailover: true, failoverPriority: 50, nosync: false, noloadbalance: false };
  const members = [fakeMember(1, "a"), fakeMember(2, "b", { tags, pendingRestart: true })];
  const text = showCluster(primaryView({ members }), { format: "pretty", colors: plain });
  assert.match(text, /Pending restart.*Tags.*nofailover, failover_priority=50/s);
});

test("json, yaml and tsv carry the same members with raw values", () => {
  const view = primaryView();
  const json = JSON.parse(showCluster(view, { format: "json", colors: plain })) as {
    members: Array<{ member: string; lag_bytes: number }>;
    token: string;
  };
  assert.deepEqual(
    json.members.map((member) => [member.member, member.lag_bytes]),
    [
      ["a", 0],
      ["b", 16],
      ["c", 16],
    ],
  );
  assert.equal(json.token, "4.17");
  const text = showCluster(view, { format: "yaml", colors: plain });
  assert.match(text, /^cluster: "6b1c"\nsystem_identifier: "7300000000000000001"\nprimary: a\n/);
  assert.match(text, /\nmembers:\n {2}- member: a\n {4}host: "10\.0\.0\.1"\n {4}port: 5431\n/);
  const [head, first] = showCluster(view, { format: "tsv", colors: plain }).split("\n");
  assert.equal(head?.split("\t")[0], "member");
  assert.equal(first?.split("\t")[7], "0");
});

test("names from elsewhere can not send control characters to the terminal", () => {
  assert.equal(printable("a\x1b[31m\n"), "a\\x1b[31m\\x0a");
  const members = [fakeMember(1, "a\x1b]0;x\x07")];
  assert.doesNotMatch(showCluster(primaryView({ members }), { format: "pretty", colors: plain }), /(?!\n)\p{Cc}/u);
});

test("yaml quotes what would be read as something else", () => {
  assert.equal(
    yaml({ a: "no", b: "1", c: "x: y", d: "", e: null, f: true, g: [], h: {}, i: ["p", { q: 1 }] }),
    'a: "no"\nb: "1"\nc: "x: y"\nd: ""\ne: null\nf: true\ng: []\nh: {}\ni:\n  - p\n  - q: 1',
  );
});

test("history is a table for people and rows for programs", () => {
  assert.match(showHistory(primaryView(), "pretty"), /2023-11-14T22:15:00\.000Z .* opened .* 4\.17 .* a .* a is open/);
  const rows = JSON.parse(showHistory(primaryView(), "json")) as Array<{ index: number }>;
  assert.deepEqual(
    rows.map((row) => row.index),
    [5, 17],
  );
});

test("uri names every data node and asks for a writable one", () => {
  const members = [
    fakeMember(2, "b", { host: "fd00::2" }),
    fakeMember(1, "a"),
    fakeMember(3, "w", { role: "witness" }),
  ];
  assert.equal(
    clientUri(primaryView({ members }), { dbname: "my db", user: null }),
    "postgresql://10.0.0.1:5431,[fd00::2]:5432/my%20db?target_session_attrs=read-write",
  );
  assert.match(clientUri(primaryView(), { dbname: "x", user: "me" }), /^postgresql:\/\/me@10/);
});

test("sizes are for people, formats are checked", () => {
  assert.deepEqual([0, 1023, 1024, 1536, 150 * 1024 ** 2, 5 * 1024 ** 5].map(formatBytes), [
    "0 B",
    "1023 B",
    "1.0 kB",
    "1.5 kB",
    "150 MB",
    "5120 TB",
  ]);
  assert.throws(() => parseFormat("xml"), /"xml" is not a format/);
});
