/** Undo and redo of one picture's map, from the rectangles that changed. */

const MOST_STEPS = 200;

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

  /** Remember a change that has been made. @param {{rect: object, before: Int8Array}} change */
  push({ rect, before }) {
    for (const step of this.future) this.bytes -= step.pixels.length;
    this.future = [];
    this.past.push({ rect, pixels: before });
    this.bytes += before.length;
    // The newest step stays even if it alone is over the limit.
    while (this.past.length > 1 && (this.bytes > this.mostBytes || this.past.length > MOST_STEPS)) {
      this.bytes -= this.past.shift().pixels.length;
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

/** Exchange a step's pixels with the map's: one copy serves undo and redo. */
function swap(map, from, to) {
  const step = from.pop();
  if (!step) return null;
  const now = map.read(step.rect);
  map.write(step.rect, step.pixels);
  to.push({ rect: step.rect, pixels: now });
  return step.rect;
}
