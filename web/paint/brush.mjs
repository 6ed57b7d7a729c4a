/**
 * One stroke on a signed map.
 *
 * A stroke is swept, not stamped: each piece of it covers a pixel by the pixel's distance to the
 * piece's centre line, so there are no beads at any speed. Coverage is the largest over the stroke:
 * crossing your own line does not paint twice.
 */

import { clip, emptyRect, isEmpty, unite } from "./rect.mjs";
import { TILE, readRect } from "./signed_map.mjs";

/** Coverage is kept in this many steps: finer ones would only make the saved files larger. */
const STEPS = 32;

/** Work space of strokes on maps of one size, kept between strokes to save allocations. */
export class StrokeBuffers {
  constructor(width, height) {
    this.before = new Int8Array(width * height);
    this.cover = new Uint8Array(width * height);
    this.tiles = new Uint8Array(Math.ceil(width / TILE) * Math.ceil(height / TILE));
  }
}

/**
 * How much of a pixel at `distance` from the centre line is covered, 0 to 1.
 * hardness 1: a crisp edge, smoothed over one pixel; 0: falls from the centre line to the edge.
 */
export function coverage(distance, radius, hardness) {
  const fall = falling(radius, hardness);
  const t = (radius + 0.5 - distance) / fall;
  if (t <= 0) return 0;
  if (t >= 1) return 1;
  return fall === 1 ? t : t * t * (3 - 2 * t);
}

/** The width of the soft edge. */
function falling(radius, hardness) {
  return Math.max(1, (radius + 0.5) * (1 - hardness));
}

export class Stroke {
  /**
   * @param {import("./signed_map.mjs").SignedMap} map
   * @param {StrokeBuffers} buffers
   * @param {{value: number, radius: number, hardness: number}} brush value: what the covered
   *   pixels become, 0 erases; radius in picture pixels
   */
  constructor(map, buffers, { value, radius, hardness }) {
    this.map = map;
    this.buffers = buffers;
    this.value = value;
    this.radius = radius;
    this.hardness = hardness;
    this.rect = emptyRect();
    this.last = null;
    buffers.before.set(map.data);
  }

  /**
   * Paint to (x, y), in picture pixels with (0, 0) the top left corner of the first pixel; the
   * first call makes a dot.
   * @returns {import("./rect.mjs").Rect} what changed
   */
  extendTo(x, y, pressure = 1) {
    const point = { x, y, radius: this.radius * pressure };
    let from = this.last ?? point;
    this.last = point;
    let dirty = emptyRect();
    // The boxes of short pieces hug a long line; one box around it all would be mostly empty.
    const length = Math.hypot(x - from.x, y - from.y);
    const pieces = Math.max(1, Math.ceil(length / (2 * Math.max(from.radius, point.radius) + 32)));
    const start = from;
    for (let piece = 1; piece <= pieces; piece++) {
      const to = piece === pieces ? point : between(start, point, piece / pieces);
      dirty = unite(dirty, this.#sweep(from, to));
      from = to;
    }
    this.rect = unite(this.rect, dirty);
    return dirty;
  }

  /** Ends the stroke. @returns {import("./history.mjs").Change | null} null: nothing was reached */
  finish() {
    const { rect, map, buffers } = this;
    if (isEmpty(rect)) return null;
    for (let y = rect.y0; y < rect.y1; y++) {
      buffers.cover.fill(0, y * map.width + rect.x0, y * map.width + rect.x1);
    }
    const earlier = { width: map.width, data: buffers.before };
    const parts = [];
    buffers.tiles.forEach((reached, tile) => {
      if (!reached) return;
      const part = map.tileRect(tile);
      parts.push({ rect: part, pixels: readRect(earlier, part) });
    });
    buffers.tiles.fill(0);
    return { rect, parts };
  }

  /** Cover everything near the line a-b, whose radius changes evenly from a's to b's. */
  #sweep(a, b) {
    const { map, buffers, value, hardness } = this;
    const { data, width } = map;
    const { before, cover } = buffers;
    const reach = Math.max(a.radius, b.radius) + 1;
    const rect = clip(
      {
        x0: Math.min(a.x, b.x) - reach,
        y0: Math.min(a.y, b.y) - reach,
        x1: Math.max(a.x, b.x) + reach,
        y1: Math.max(a.y, b.y) + reach,
      },
      map.width,
      map.height,
    );
    if (isEmpty(rect)) return emptyRect();
    this.#reach(rect);
    const dx = b.x - a.x;
    const dy = b.y - a.y;
    const scale = 1 / (dx * dx + dy * dy || 1);
    const grow = b.radius - a.radius;
    // Up to this distance a pixel is covered whole, whichever end is nearer.
    const least = Math.min(a.radius, b.radius);
    const solid = Math.max(0, least + 0.5 - falling(least, hardness));
    for (let y = rect.y0; y < rect.y1; y++) {
      const py = y + 0.5 - a.y;
      for (let x = rect.x0; x < rect.x1; x++) {
        const i = y * width + x;
        if (cover[i] === STEPS) continue;
        const px = x + 0.5 - a.x;
        const along = Math.min(1, Math.max(0, (px * dx + py * dy) * scale));
        const ex = px - along * dx;
        const ey = py - along * dy;
        const square = ex * ex + ey * ey;
        if (square >= reach * reach) continue;
        const c =
          square <= solid * solid
            ? STEPS
            : Math.round(
                STEPS * coverage(Math.sqrt(square), a.radius + along * grow, hardness),
              );
        if (c > cover[i]) {
          cover[i] = c;
          data[i] = Math.round(before[i] + ((value - before[i]) * c) / STEPS);
        }
      }
    }
    return rect;
  }

  /** The tiles of `rect` have changed. */
  #reach(rect) {
    const { map, buffers } = this;
    map.touch(rect);
    for (let y = Math.floor(rect.y0 / TILE); y * TILE < rect.y1; y++) {
      const row = y * map.columns;
      const last = Math.floor((rect.x1 - 1) / TILE);
      buffers.tiles.fill(1, row + Math.floor(rect.x0 / TILE), row + last + 1);
    }
  }
}

function between(a, b, t) {
  return {
    x: a.x + (b.x - a.x) * t,
    y: a.y + (b.y - a.y) * t,
    radius: a.radius + (b.radius - a.radius) * t,
  };
}
