/**
 * One stroke on a signed map.
 *
 * A stroke is swept, not stamped: each piece of it covers a pixel by the pixel's distance to the
 * piece's centre line, so there are no beads at any speed. Coverage is the largest over the stroke:
 * crossing your own line does not paint twice.
 */

import { clip, emptyRect, isEmpty, unite } from "./rect.mjs";

/** Coverage is kept in this many steps: finer ones would only make the saved files larger. */
const STEPS = 32;

/** Work space of strokes on maps of one size, kept between strokes to save allocations. */
export class StrokeBuffers {
  constructor(width, height) {
    this.before = new Int8Array(width * height);
    this.cover = new Uint8Array(width * height);
  }
}

/**
 * How much of a pixel at `distance` from the centre line is covered, 0 to 1.
 * hardness 1: a crisp edge, smoothed over one pixel; 0: falls from the centre line to the edge.
 */
export function coverage(distance, radius, hardness) {
  const fall = Math.max(1, (radius + 0.5) * (1 - hardness));
  const t = (radius + 0.5 - distance) / fall;
  if (t <= 0) return 0;
  if (t >= 1) return 1;
  return fall === 1 ? t : t * t * (3 - 2 * t);
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
    const dirty = this.#sweep(this.last ?? point, point);
    this.last = point;
    if (!isEmpty(dirty)) this.rect = unite(this.rect, dirty);
    return dirty;
  }

  /** Ends the stroke. @returns what changed and the pixels before, or null when nothing did */
  finish() {
    const { rect, map, buffers } = this;
    if (isEmpty(rect)) return null;
    for (let y = rect.y0; y < rect.y1; y++) {
      buffers.cover.fill(0, y * map.width + rect.x0, y * map.width + rect.x1);
    }
    const now = map.data;
    map.data = buffers.before;
    const before = map.read(rect);
    map.data = now;
    return { rect, before };
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
    const dx = b.x - a.x;
    const dy = b.y - a.y;
    const scale = 1 / (dx * dx + dy * dy || 1);
    const grow = b.radius - a.radius;
    for (let y = rect.y0; y < rect.y1; y++) {
      const py = y + 0.5 - a.y;
      for (let x = rect.x0; x < rect.x1; x++) {
        const px = x + 0.5 - a.x;
        const along = Math.min(1, Math.max(0, (px * dx + py * dy) * scale));
        const ex = px - along * dx;
        const ey = py - along * dy;
        const square = ex * ex + ey * ey;
        if (square >= reach * reach) continue;
        const share = coverage(Math.sqrt(square), a.radius + along * grow, hardness);
        const c = Math.round(share * STEPS);
        const i = y * width + x;
        if (c > cover[i]) {
          cover[i] = c;
          data[i] = Math.round(before[i] + ((value - before[i]) * c) / STEPS);
        }
      }
    }
    return rect;
  }
}
