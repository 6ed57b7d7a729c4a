/** Filling a region: the connected pixels of a picture that look like the one clicked. */

import { emptyRect } from "./rect.mjs";

/**
 * @param {Uint8ClampedArray} rgba the picture, 4 bytes per pixel
 * @param {number} tolerance largest difference to the clicked pixel in any channel, 0 to 1
 * @returns {{inside: Uint8Array, rect: import("./rect.mjs").Rect}} inside: 1 where filled
 */
export function findRegion(rgba, width, height, x, y, tolerance) {
  const inside = new Uint8Array(width * height);
  const rect = emptyRect();
  const seed = (y * width + x) * 4;
  const limit = tolerance * 255;
  const alike = (i) =>
    inside[i] === 0 &&
    Math.abs(rgba[i * 4] - rgba[seed]) <= limit &&
    Math.abs(rgba[i * 4 + 1] - rgba[seed + 1]) <= limit &&
    Math.abs(rgba[i * 4 + 2] - rgba[seed + 2]) <= limit;

  const open = [[x, y]];
  while (open.length > 0) {
    const [startX, row] = open.pop();
    const base = row * width;
    if (!alike(base + startX)) continue;
    let left = startX;
    while (left > 0 && alike(base + left - 1)) left--;
    let right = startX;
    while (right < width - 1 && alike(base + right + 1)) right++;
    inside.fill(1, base + left, base + right + 1);
    rect.x0 = Math.min(rect.x0, left);
    rect.x1 = Math.max(rect.x1, right + 1);
    rect.y0 = Math.min(rect.y0, row);
    rect.y1 = Math.max(rect.y1, row + 1);
    for (const next of [row - 1, row + 1]) {
      if (next < 0 || next >= height) continue;
      // One seed per run of alike pixels is enough.
      for (let column = left; column <= right; column++) {
        const here = alike(next * width + column);
        const before = column > left && alike(next * width + column - 1);
        if (here && !before) open.push([column, next]);
      }
    }
  }
  return { inside, rect };
}

/** Set the pixels of a region to `value`. @returns the change, for History */
export function fillRegion(map, { inside, rect }, value) {
  const change = { rect, parts: [{ rect, pixels: map.read(rect) }] };
  for (let y = rect.y0; y < rect.y1; y++) {
    for (let x = rect.x0; x < rect.x1; x++) {
      const i = y * map.width + x;
      if (inside[i]) map.data[i] = value;
    }
  }
  map.touch(rect);
  return change;
}
