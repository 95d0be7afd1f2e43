/** Pointing a standby at its primary. Both settings are read at a reload, and the reload itself is the kick. */
import { alterSystem, reload } from "./configure.js";
import { parseConninfo, withParameters } from "./conninfo.js";
import { ServerError } from "./errors.js";
import type { Row, Session } from "./session.js";
import type { FollowTarget } from "./types.js";

/** What a receiver should use where the primary's own string says nothing: a dead host is given up in seconds. */
const receiverDefaults: Readonly<Record<string, string>> = {
  connect_timeout: "2",
  keepalives_idle: "5",
  keepalives_interval: "1",
  keepalives_count: "3",
  tcp_user_timeout: "8000",
};

export function receiverConninfo(target: FollowTarget): string {
  const given = parseConninfo(target.dsn);
  const changes: Record<string, string | null> = {
    application_name: target.applicationName,
    // A receiver follows the server that the token names, whatever that server's sessions report.
    target_session_attrs: null,
  };
  for (const [name, value] of Object.entries(receiverDefaults)) {
    if (!given.has(name)) changes[name] = value;
  }
  return withParameters(target.dsn, changes);
}

interface SettingsRow extends Row {
  in_recovery: boolean;
  conninfo: string;
  slot: string;
  target_timeline: string;
}

export async function follow(session: Session, target: FollowTarget): Promise<void> {
  const conninfo = receiverConninfo(target);
  await session.run(async (statements) => {
    const [now] = await statements.query<SettingsRow>(
      `SELECT pg_is_in_recovery() AS in_recovery, current_setting('primary_conninfo') AS conninfo,
        current_setting('primary_slot_name') AS slot, current_setting('recovery_target_timeline') AS target_timeline`,
    );
    if (now === undefined || !now.in_recovery) {
      throw new ServerError("SERVER_STATE", "the server is not in recovery: only a standby can follow");
    }
    if (now.target_timeline !== "latest") {
      const message = `recovery_target_timeline is "${now.target_timeline}": it must be "latest" to follow a promotion`;
      throw new ServerError("SERVER_STATE", message);
    }
    if (now.conninfo === conninfo && now.slot === target.slotName) return;
    // The slot first: a receiver that is started in between, by another reload, must not pin the wrong one.
    if (now.slot !== target.slotName) await alterSystem(statements, "primary_slot_name", target.slotName);
    if (now.conninfo !== conninfo) await alterSystem(statements, "primary_conninfo", conninfo);
    await reload(statements);
  });
}
