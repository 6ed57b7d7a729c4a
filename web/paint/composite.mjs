/**
 * Feedback made visible: blue with diagonal lines is liked, orange with dots is disliked, stronger
 * feedback is more opaque. The patterns let people who see no colours tell the two apart.
 */

import { FULL } from "./signed_map.mjs";

export const LIKE = [30, 118, 255];
export const DISLIKE = [255, 112, 10];
const LIKE_PATTERN = [222, 236, 255];
const DISLIKE_PATTERN = [74, 26, 0];

const FAINTEST = 0.16;
const STRONGEST = 0.62;
const PATTERN_OPACITY = 0.76;

/** With fewer picture pixels to a tile, lines and dots would cover it all. */
const SMALLEST_PERIOD = 6;

/**
 * One tile of both patterns: 1 on a line or dot.
 * @param {number} period its side in picture pixels
 */
export function makePattern(period) {
  const like = new Uint8Array(period * period);
  const dislike = new Uint8Array(period * period);
  const line = Math.max(1, period / 6);
  const dot = Math.max(0.75, period / 6);
  for (let y = 0; y < period; y++) {
    for (let x = 0; x < period; x++) {
      if ((x + y) % period < line) like[y * period + x] = 1;
      const distance = Math.hypot(x + 0.5 - period / 2, y + 0.5 - period / 2);
      if (distance <= dot) dislike[y * period + x] = 1;
    }
  }
  return { period, like, dislike };
}

/**
 * The period that looks right at a zoom: about 9 px on the screen, in powers of two so that the
 * overlay is not redrawn for every small step of the wheel.
 * @param {number} scale screen pixels per picture pixel
 */
export function patternPeriod(scale) {
  const wanted = 9 / Math.max(scale, 1e-3);
  return Math.min(64, Math.max(SMALLEST_PERIOD, 2 ** Math.round(Math.log2(wanted))));
}

/**
 * Draw the feedback inside `rect`.
 * @param {import("./signed_map.mjs").SignedMap} map
 * @param {ReturnType<typeof makePattern>} pattern
 * @param {Uint8ClampedArray} rgba the rectangle's pixels, overwritten
 */
export function composite(map, rect, pattern, rgba) {
  const { period, like, dislike } = pattern;
  let out = 0;
  for (let y = rect.y0; y < rect.y1; y++) {
    const tile = (y % period) * period;
    for (let x = rect.x0; x < rect.x1; x++, out += 4) {
      const value = map.data[y * map.width + x];
      if (value === 0) {
        rgba[out + 3] = 0;
        continue;
      }
      const strength = Math.abs(value) / FULL;
      const positive = value > 0;
      const onPattern = (positive ? like : dislike)[tile + (x % period)] === 1;
      const colour = positive
        ? onPattern ? LIKE_PATTERN : LIKE
        : onPattern ? DISLIKE_PATTERN : DISLIKE;
      rgba[out] = colour[0];
      rgba[out + 1] = colour[1];
      rgba[out + 2] = colour[2];
      const opacity = onPattern
        ? PATTERN_OPACITY * Math.min(1, strength * 2)
        : FAINTEST * Math.min(1, strength * 4) + (STRONGEST - FAINTEST) * strength;
      rgba[out + 3] = 255 * opacity;
    }
  }
}
