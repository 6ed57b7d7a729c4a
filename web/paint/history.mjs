/**
 * Undo and redo of one picture's map, from the parts of it that changed.
 *
 * @typedef {{rect: import("./rect.mjs").Rect, pixels: Int8Array}} Part pixels: as they were before
 * @typedef {{rect: import("./rect.mjs").Rect, parts: Part[]}} Change rect: around all parts
 */

const MOST_STEPS = 100;

export class History {
  /** @param {number} mostBytes the oldest steps are forgotten beyond this */
  constructor(mostBytes = 16 * 2 ** 20) {
    this.mostBytes = mostBytes;
    this.bytes = 0;
    this.past = [];
    this.future = [];
  }

  get canUndo() {
    return this.past.length > 0;
  }

  get canRedo() {
    return this.future.length > 0;
  }

  /** Remember a change that has been made. @param {Change} change */
  push(change) {
    for (const step of this.future) this.bytes -= size(step);
    this.future = [];
    this.past.push(change);
    this.bytes += size(change);
    // The newest step stays even if it alone is over the limit.
    while (this.past.length > 1 && (this.bytes > this.mostBytes || this.past.length > MOST_STEPS)) {
      this.bytes -= size(this.past.shift());
    }
  }

  /** @returns the rectangle that changed, or null when there is nothing to undo */
  undo(map) {
    return swap(map, this.past, this.future);
  }

  redo(map) {
    return swap(map, this.future, this.past);
  }
}

function size({ parts }) {
  return parts.reduce((total, part) => total + part.pixels.length, 0);
}

/** Put a change's pixels back. @returns {Change} the pixels that were there */
export function exchange(map, { rect, parts }) {
  const replaced = parts.map((part) => {
    const pixels = map.read(part.rect);
    map.write(part.rect, part.pixels);
    return { rect: part.rect, pixels };
  });
  return { rect, parts: replaced };
}

function swap(map, from, to) {
  const step = from.pop();
  if (!step) return null;
  to.push(exchange(map, step));
  return step.rect;
}
