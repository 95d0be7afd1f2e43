/** What an event of the agenda is. Numbers, because they go into the schedule's hash. */
export const EventKind = {
  // To an agent's process.
  tick: 0,
  deliver: 1,
  deliverLayer: 2,
  written: 3,
  synced: 4,
  restart: 5,
  peerLost: 6,
  layer: 7,
  // To a machine, whether its agent runs or not.
  deliverMachine: 8,
  machine: 9,
  // To the world.
  worldLayer: 10,
  action: 11,
  unite: 12,
  heal: 13,
  probe: 14,
  calmOver: 15,
} as const;

export const eventNames = Object.keys(EventKind);
