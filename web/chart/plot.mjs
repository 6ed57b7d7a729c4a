/** Where things go in the chart: pure functions of numbers, no page needed. */

import { percent } from "./change.mjs";

/**
 * @typedef {{round: number, reward_mean: number, reward_sd?: number, marked_area?: number,
 *   images?: number, marked_images?: number, change_inside?: number,
 *   change_outside?: number}} Round
 * @typedef {{x: number, y: number}} Point
 */

const MOST_ROUNDS = 2000;

/** The usable rounds of a history that may come from an edited workflow. @returns {Round[]} */
export function usable(history) {
  if (!Array.isArray(history)) return [];
  const good = (entry) => Number.isFinite(entry?.round) && Number.isFinite(entry?.reward_mean);
  return history.filter(good).slice(-MOST_ROUNDS);
}

/** Round values from low to high that cover both, at most `most` steps: 0.1, 0.2, 0.5, 1, ... */
export function ticks(low, high, most = 4) {
  if (!(high > low)) return [low];
  const rough = (high - low) / most;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough * 0.999);
  const values = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) {
    values.push(i * step || 0); // no -0
  }
  return values;
}

/** A number with as many digits as a step needs. */
export function label(value, step) {
  const digits = Math.min(6, Math.max(0, -Math.floor(Math.log10(Math.abs(step) || 1) + 1e-9)));
  return value.toFixed(digits);
}

/** Lowest and highest value to draw: means with their spread, never an empty range. */
export function range(rounds) {
  const lows = rounds.map((r) => r.reward_mean - (r.reward_sd || 0));
  const highs = rounds.map((r) => r.reward_mean + (r.reward_sd || 0));
  const low = Math.min(...lows);
  const high = Math.max(...highs);
  const margin = (high - low) * 0.08 || Math.max(Math.abs(high) * 0.1, 0.01);
  return { low: low - margin, high: high + margin };
}

/**
 * Pixel positions of a chart.
 * @param {Round[]} rounds at least one
 * @param {{left: number, top: number, right: number, bottom: number}} area
 */
export function plan(rounds, area) {
  const { low, high } = range(rounds);
  const width = area.right - area.left;
  const slot = width / rounds.length;
  const x = (i) => area.left + slot * (i + 0.5);
  const y = (value) => area.bottom - ((value - low) / (high - low)) * (area.bottom - area.top);
  const share = (value) => area.bottom - Math.min(1, Math.max(0, value)) * (area.bottom - area.top);
  const points = rounds.map((r, i) => ({ x: x(i), y: y(r.reward_mean) }));
  return {
    points,
    slot,
    band: [
      ...rounds.map((r, i) => ({ x: x(i), y: y(r.reward_mean + (r.reward_sd || 0)) })),
      ...rounds.map((r, i) => ({ x: x(i), y: y(r.reward_mean - (r.reward_sd || 0)) })).reverse(),
    ],
    bars: rounds.map((r, i) => ({
      x: x(i),
      y: share(r.marked_area ?? 0),
      width: Math.max(1, Math.min(slot * 0.6, 28)),
    })),
    rows: ticks(low, high).map((value) => ({ value, y: y(value) })),
    columns: roundTicks(rounds, width).map((i) => ({ round: rounds[i].round, x: x(i) })),
  };
}

/** Which rounds get a number below the chart: evenly spread, as many as have room. */
export function roundTicks(rounds, width, room = 28) {
  const most = Math.max(1, Math.floor(width / room));
  const every = ticks(0, rounds.length, most)[1] ?? 1;
  const step = Math.max(1, Math.round(every));
  const chosen = rounds.map((_, i) => i).filter((i) => rounds[i].round % step === 0);
  return chosen.length > 0 ? chosen : [rounds.length - 1];
}

/** The d of an SVG path through points. @param {Point[]} points */
export function path(points) {
  return points.map((p, i) => `${i ? "L" : "M"}${p.x.toFixed(1)} ${p.y.toFixed(1)}`).join("");
}

/** Index of the round nearest to a horizontal position. */
export function nearest(points, x) {
  let best = 0;
  points.forEach((p, i) => {
    if (Math.abs(p.x - x) < Math.abs(points[best].x - x)) best = i;
  });
  return best;
}

/** One round in two lines of words. @param {Round} round */
export function words(round) {
  let reward = `Round ${round.round}: reward ${round.reward_mean.toFixed(3)}`;
  if (Number.isFinite(round.reward_sd)) reward += ` ± ${round.reward_sd.toFixed(3)}`;
  const parts = [];
  if (Number.isFinite(round.marked_area)) parts.push(`${percent(round.marked_area)} marked`);
  if (Number.isFinite(round.images)) {
    const marked = Number.isFinite(round.marked_images) ? `${round.marked_images} of ` : "";
    parts.push(`${marked}${round.images} ${round.images === 1 ? "picture" : "pictures"}`);
  }
  return { reward, marks: parts.join(" · ") };
}
