/** The lower chart: how much one picture of each round changed, where marked and elsewhere. */

const SMALLEST_TOP = 0.02;
const LINES = ["change_inside", "change_outside"];

/** Whether any round was measured. */
export function isMeasured(rounds) {
  return rounds.some((round) => LINES.some((key) => isShare(round[key])));
}

/**
 * Pixel positions of both lines; rounds that were not measured are gaps.
 * @param {object[]} rounds
 * @param {{x: number}[]} points where each round stands
 * @param {{top: number, bottom: number}} area
 * @returns {{top: number, inside: object[][], outside: object[][]}} top: the highest value
 */
export function changePlan(rounds, points, area) {
  const values = rounds.flatMap((round) => LINES.map((key) => round[key]).filter(isShare));
  const top = Math.max(SMALLEST_TOP, ...values) * 1.1;
  const y = (value) => area.bottom - (value / top) * (area.bottom - area.top);
  const [inside, outside] = LINES.map((key) => pieces(rounds.map((round, i) => (
    isShare(round[key]) ? { x: points[i].x, y: y(round[key]), round: i } : null
  ))));
  return { top, inside, outside };
}

/** Runs of neighbours that are there. @template T @param {(T | null)[]} entries @returns {T[][]} */
export function pieces(entries) {
  const found = [[]];
  for (const entry of entries) {
    if (entry) found.at(-1).push(entry);
    else if (found.at(-1).length > 0) found.push([]);
  }
  return found.filter((piece) => piece.length > 0);
}

/** A round's changes in words, empty if it was not measured. */
export function changeWords(round) {
  const parts = [];
  if (isShare(round.change_inside)) parts.push(`● marked ${percent(round.change_inside)}`);
  if (isShare(round.change_outside)) parts.push(`○ elsewhere ${percent(round.change_outside)}`);
  return parts.length > 0 ? `Change: ${parts.join("  ")}` : "";
}

/** A share as text: 0.0312 is "3.1 %". */
export function percent(share) {
  const value = 100 * share;
  return `${value < 10 && value > 0 ? value.toFixed(1) : Math.round(value)} %`;
}

function isShare(value) {
  return Number.isFinite(value) && value >= 0 && value <= 1;
}
