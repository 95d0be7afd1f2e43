/** Physical slots for the other members, on every electable node. */
import type { Lsn } from "../control/types.js";
import { ServerError } from "./errors.js";
import type { Row, Session, Statements } from "./session.js";

export interface WantedSlot {
  readonly slotName: string;
  readonly confirmedLsn: Lsn | null;
}

export const slotPrefix = "pg_replica_";
const slotNamePattern = /^pg_replica_[a-z0-9_]{1,52}$/;

interface SlotRow extends Row {
  slot_name: string;
  active: boolean;
  /** Holds no WAL any more, or never did: a standby that needs it can not use it. */
  useless: boolean;
}

type Log = (level: "debug" | "warning", message: string) => void;

export async function maintainSlots(session: Session, wanted: readonly WantedSlot[], log: Log): Promise<void> {
  for (const { slotName } of wanted) {
    if (!slotNamePattern.test(slotName)) {
      throw new ServerError("SERVER_STATE", `"${slotName}" is not the name of a member slot (${slotPrefix}<number>)`);
    }
  }
  await session.run(async (statements) => {
    const present = await statements.query<SlotRow>(
      `SELECT s.slot_name, s.active, s.wal_status IS NOT DISTINCT FROM 'lost' OR s.restart_lsn IS NULL AS useless
        FROM pg_replication_slots s
        WHERE s.slot_type = 'physical' AND NOT s.temporary AND starts_with(s.slot_name, $1)`,
      [slotPrefix],
    );
    const names = new Set(wanted.map((slot) => slot.slotName));
    const doomed = present.filter((slot) => !slot.active && (slot.useless || !names.has(slot.slot_name)));
    const dropped = new Set<string>();
    for (const { slot_name: name, useless } of doomed) {
      if (!(await unlessInUse(statements, "SELECT pg_drop_replication_slot($1)", [name], name, log))) continue;
      dropped.add(name);
      if (useless && names.has(name)) log("warning", `slot ${name} held no WAL any more and was made anew`);
    }
    const kept = new Set(present.map((slot) => slot.slot_name).filter((name) => !dropped.has(name)));
    for (const name of names) {
      if (!kept.has(name)) await statements.query("SELECT pg_create_physical_replication_slot($1, true)", [name]);
    }
    await advance(statements, wanted, log);
  });
}

/** Never beyond what this server has itself, and never backwards (the server refuses that). */
async function advance(statements: Statements, wanted: readonly WantedSlot[], log: Log): Promise<void> {
  const known = wanted.filter((slot) => slot.confirmedLsn !== null);
  if (known.length === 0) return;
  const sql = `
SELECT pg_replication_slot_advance(s.slot_name, g.upto) FROM pg_replication_slots s
  JOIN (SELECT w.name, least(w.lsn, CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn()
      ELSE pg_current_wal_flush_lsn() END) AS upto
    FROM unnest($1::name[], $2::pg_lsn[]) AS w(name, lsn)) g ON g.name = s.slot_name
  WHERE NOT s.active AND g.upto > s.restart_lsn`;
  const values = [known.map((slot) => slot.slotName), known.map((slot) => slot.confirmedLsn)];
  await unlessInUse(statements, sql, values, "advance", log);
}

/** A member may connect to its slot between the look and the act; then the slot is in good hands, until next time. */
async function unlessInUse(
  statements: Statements,
  sql: string,
  values: readonly unknown[],
  what: string,
  log: Log,
): Promise<boolean> {
  try {
    await statements.query(sql, values);
    return true;
  } catch (error) {
    if (!(error instanceof ServerError) || error.sqlState !== "55006") throw error;
    log("debug", `member slots (${what}): in use now, left as they are`);
    return false;
  }
}
