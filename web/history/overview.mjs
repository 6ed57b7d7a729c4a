/** What overview.json says of a run, checked, and the words for it. No DOM here. */

const NAME = /^[A-Za-z0-9][A-Za-z0-9 _-]{0,63}$/;
const RESERVED = /^(con|prn|aux|nul|com\d|lpt\d)$/i;
const ID = /^[0-9a-f]{32}$/;
const MOST_PICTURES = 8; // as many as a round keeps

/** The same rule as in Python; the server checks again. */
export function isRunName(name) {
  return typeof name === "string" && NAME.test(name) && !name.endsWith(" ") && !RESERVED.test(name);
}

/**
 * @returns {{run: string, uuid: string, rounds: object[], branches: object[]} | null}
 *   null for anything that is no overview
 */
export function readOverview(json) {
  if (!isRunName(json?.run) || !ID.test(json.uuid)) return null;
  const branches = (Array.isArray(json.branches) ? json.branches : [])
    .filter((one) => isCount(one?.branch) && one.branch > 0)
    .map((one) => ({ number: one.branch, rounds: readRounds(one.history, one.branch) }))
    .filter((one) => one.rounds.length > 0);
  return { run: json.run, uuid: json.uuid, rounds: readRounds(json.history, null), branches };
}

/** Every row of the strip, each with its title; newest branches first. */
export function rows(overview) {
  const start = { round: 0, branch: null, id: "", reward: null, spread: null, images: 0 };
  return [
    { title: "", branch: null, rounds: [start, ...overview.rounds] },
    ...overview.branches.toReversed().map(({ number, rounds }) => ({
      title: `Branch ${number}`,
      branch: number,
      rounds,
    })),
  ];
}

/** Number of the newest round, 0 without one. */
export function newest(overview) {
  return overview.rounds.at(-1)?.round ?? 0;
}

/** Which row and place a round has; the same again after the run has changed. */
export function key(entry) {
  return `${entry.branch ?? "run"}/${entry.round}/${entry.id}`;
}

/** Rewards as parts of the way from the run's lowest to its highest; null where there is none. */
export function levels(overview, entries) {
  const all = [overview, ...overview.branches].flatMap(({ rounds }) => rounds);
  const known = all.map((entry) => entry.reward).filter((reward) => reward !== null);
  const low = Math.min(...known);
  const high = Math.max(...known);
  return entries.map(({ reward }) => {
    if (reward === null) return null;
    return high > low ? (reward - low) / (high - low) : 0.5;
  });
}

export function rewardText(reward, digits = 3) {
  if (reward === null) return "";
  const sign = reward < 0 ? "−" : "+";
  return `${sign}${Math.abs(reward).toFixed(Math.abs(reward) < 10 ? digits : 0)}`;
}

/** One round in words, for its tooltip and for those who do not see the picture. */
export function describe(entry, newestRound) {
  if (entry.round === 0) return "Start: the model without what the run has learned";
  const parts = [`Round ${entry.round}`];
  if (entry.branch !== null) parts[0] += ` of branch ${entry.branch}`;
  else if (entry.round === newestRound) parts[0] += ", the newest";
  if (entry.reward !== null) parts.push(`mean reward ${rewardText(entry.reward)}`);
  if (entry.partial) parts.push("stopped early");
  return parts.join(", ");
}

/** The figures of a round, for the line beside its pictures. */
export function figures(entry, before) {
  if (entry.reward === null) return "";
  const spread = entry.spread === null ? "" : ` ± ${entry.spread.toFixed(3)}`;
  const images = entry.images === 1 ? "1 picture" : `${entry.images} pictures`;
  const change = before?.reward ?? null;
  const since = change === null ? "" : `, ${rewardText(entry.reward - change)} to the round before`;
  return `Reward ${rewardText(entry.reward)}${spread} over ${images}${since}`;
}

/** How many pictures of a round may be there; old rounds keep one. */
export function pictureCount(entry) {
  return entry.round === 0 ? 0 : Math.min(Math.max(entry.images, 1), MOST_PICTURES);
}

/** A free-looking name for a copy; the server refuses one that is taken. */
export function copyName(entry, run) {
  const end = entry.branch === null ? ` r${entry.round}` : ` b${entry.branch} r${entry.round}`;
  return run.slice(0, 64 - end.length).trimEnd() + end;
}

export function countText(count, one) {
  return `${count} ${one}${count === 1 ? "" : /(s|ch|sh)$/.test(one) ? "es" : "s"}`;
}

/** What the question before deleting says. */
export function deleteQuestion(overview) {
  const { run, rounds, branches } = overview;
  const also = branches.length === 0 ? "" : ` and ${countText(branches.length, "branch")}`;
  return (
    `Run “${run}” with its ${countText(rounds.length, "round")}${also} moves to `
    + "output/pxpo/.trash. Move the folder back to undo this, or delete it there to free its "
    + "space. Files of your own in the run's folder stay where they are."
  );
}

/** How many prompts of the host's queue train this run. @param {object} queue answer of /queue */
export function presses(queue, run) {
  const items = [...(queue?.queue_running ?? []), ...(queue?.queue_pending ?? [])];
  return items.filter((item) =>
    Object.values(item?.[2] ?? {}).some(
      (node) => node?.class_type === "PXPO_Run" && node.inputs?.run_name === run,
    ),
  ).length;
}

function readRounds(history, branch) {
  return (Array.isArray(history) ? history : [])
    .filter((entry) => isCount(entry?.round) && entry.round > 0)
    .map((entry) => ({
      round: entry.round,
      branch,
      id: ID.test(entry.id) ? entry.id : "",
      reward: Number.isFinite(entry.reward_mean) ? entry.reward_mean : null,
      spread: Number.isFinite(entry.reward_sd) ? entry.reward_sd : null,
      images: isCount(entry.images) ? entry.images : 0,
      partial: entry.partial === true,
    }));
}

function isCount(value) {
  return Number.isInteger(value) && value >= 0;
}
