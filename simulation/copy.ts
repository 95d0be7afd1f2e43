/** Deep copies of messages, for schedules that look for state shared between nodes by mistake. */
import type { Configuration, Entry, Message } from "../src/raft/types.js";

export function copyMessage(message: Message): Message {
  if (message.type === "AppendEntries") return { ...message, entries: message.entries.map(copyEntry) };
  if (message.type === "InstallSnapshot") {
    const { snapshot } = message;
    return {
      ...message,
      snapshot: { ...snapshot, config: copyConfiguration(snapshot.config), data: snapshot.data.slice() },
    };
  }
  return { ...message };
}

function copyEntry(entry: Entry): Entry {
  if (entry.type === "data") return { ...entry, data: entry.data.slice() };
  if (entry.type === "config") return { ...entry, config: copyConfiguration(entry.config) };
  return { ...entry };
}

function copyConfiguration(config: Configuration): Configuration {
  return {
    voters: config.voters.slice(),
    votersOutgoing: config.votersOutgoing.slice(),
    learners: config.learners.slice(),
    learnersNext: config.learnersNext.slice(),
    autoLeave: config.autoLeave,
  };
}
