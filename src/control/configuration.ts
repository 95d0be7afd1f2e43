/** Brings the Raft configuration to the committed members, one change at a time: learner first, voter when caught up. */
import type { ConfOp } from "../raft/types.js";
import type { LeaderAction, LeaderInput } from "./decisions.js";
import { currentHolder, memberById, nodeName } from "./membership.js";
import { hasCaughtUp } from "./set-change.js";
import type { Member } from "./types.js";

/** A learner this close to the end of the log, in entries, is caught up; the rest comes with the next append. */
const logSlack = 64;

export function membershipChange(input: LeaderInput): LeaderAction | null {
  return (
    removeReplaced(input) ?? (isJoint(input) ? null : (removeStrangers(input) ?? addMissing(input) ?? addVoter(input)))
  );
}

function isJoint(input: LeaderInput): boolean {
  return input.raft.votersOutgoing.length > 0;
}

/** The same name with a newer disk: the old id can never come back. Not while it is the primary. */
function removeReplaced(input: LeaderInput): LeaderAction | null {
  const { members } = input.state;
  const holder = currentHolder(input.state);
  const isReplaced = (old: Member) => members.some((other) => other.name === old.name && other.id > old.id);
  // Removing the last node that holds data is refused; its successor under the same name may be a witness.
  const isLastData = (old: Member) => members.every(({ id, kind }) => id === old.id || kind !== "data");
  const old = members.find((member) => member.id !== holder && isReplaced(member) && !isLastData(member));
  return old === undefined ? null : { type: "propose", command: { type: "removeMember", id: old.id } };
}

function removeStrangers(input: LeaderInput): LeaderAction | null {
  const { voters, learners } = input.raft;
  const id = [...voters, ...learners].find((one) => memberById(input.state, one) === undefined);
  if (id === undefined || (voters.length === 1 && voters[0] === id)) return null;
  return change({ type: "remove", id }, `node ${id} is no member any more: it leaves the Raft configuration`);
}

function addMissing(input: LeaderInput): LeaderAction | null {
  const { voters, learners } = input.raft;
  const member = input.state.members.find(({ id }) => !voters.includes(id) && !learners.includes(id));
  if (member === undefined) return null;
  return change({ type: "addLearner", id: member.id }, `${member.name} becomes a learner (id ${member.id})`);
}

function addVoter(input: LeaderInput): LeaderAction | null {
  const id = input.raft.learners.find((one) => {
    const member = memberById(input.state, one);
    return member !== undefined && hasLog(input, one) && (member.kind === "witness" || hasWal(input, member));
  });
  if (id === undefined) return null;
  return change({ type: "addVoter", id }, `${nodeName(input.state, id)} has caught up and becomes a voter`);
}

function hasLog(input: LeaderInput, id: number): boolean {
  const progress = input.raft.progress.find((one) => one.id === id);
  return progress?.recentActive === true && input.raft.lastIndex - progress.match <= logSlack;
}

function hasWal(input: LeaderInput, member: Member): boolean {
  return member.id === currentHolder(input.state) ? input.state.phase.kind === "steady" : hasCaughtUp(input, member.id);
}

function change(op: ConfOp, text: string): LeaderAction {
  return { type: "confChange", change: { transition: "auto", ops: [op] }, text };
}
