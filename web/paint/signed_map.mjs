/** Feedback for one picture: a signed byte per pixel, -127 (dislike) to 127 (like), 0 nothing. */

import { isEmpty } from "./rect.mjs";

export const FULL = 127;

/** Side of the squares in which a map is summed up, so that a stroke's end looks at few pixels. */
export const TILE = 64;
const SUMS = 4; // numbers kept of a tile

export class SignedMap {
  /** @param {number} width @param {number} height @param {Int8Array} [data] rows, top first */
  constructor(width, height, data = new Int8Array(width * height)) {
    if (data.length !== width * height) {
      throw new Error(`A ${width}x${height} map needs ${width * height} values: ${data.length}.`);
    }
    this.width = width;
    this.height = height;
    this.data = data;
    this.columns = Math.ceil(width / TILE);
    const tiles = this.columns * Math.ceil(height / TILE);
    this.stale = new Uint8Array(tiles).fill(1);
    this.sums = new Uint32Array(tiles * SUMS);
  }

  /** Say that `data` has changed inside `rect`; whoever writes to `data` must. */
  touch(rect) {
    if (isEmpty(rect)) return;
    const last = Math.floor((rect.x1 - 1) / TILE);
    for (let row = Math.floor(rect.y0 / TILE); row * TILE < rect.y1; row++) {
      const first = row * this.columns;
      this.stale.fill(1, first + Math.floor(rect.x0 / TILE), first + last + 1);
    }
  }

  /** The part of the map that a tile covers. @returns {import("./rect.mjs").Rect} */
  tileRect(tile) {
    const x0 = (tile % this.columns) * TILE;
    const y0 = Math.floor(tile / this.columns) * TILE;
    return {
      x0, y0, x1: Math.min(this.width, x0 + TILE), y1: Math.min(this.height, y0 + TILE),
    };
  }

  /** The size and two hashes per tile: as good as the bytes to tell maps apart, and short. */
  digestInput() {
    this.sumUp();
    const parts = [this.width, this.height];
    for (let i = 0; i < this.sums.length; i += SUMS) parts.push(this.sums[i], this.sums[i + 1]);
    return new Uint8Array(Uint32Array.from(parts).buffer);
  }

  get rect() {
    return { x0: 0, y0: 0, x1: this.width, y1: this.height };
  }

  /** A copy of the pixels inside `rect`, row by row. */
  read(rect) {
    return readRect(this, rect);
  }

  /** Put back what `read` gave. */
  write(rect, pixels) {
    const columns = rect.x1 - rect.x0;
    for (let y = rect.y0; y < rect.y1; y++) {
      const row = (y - rect.y0) * columns;
      this.data.set(pixels.subarray(row, row + columns), y * this.width + rect.x0);
    }
    this.touch(rect);
  }

  fill(value) {
    this.data.fill(value);
    this.touch(this.rect);
  }

  /** Take over the values of a map of the same size. */
  set(other) {
    this.data.set(other.data);
    this.touch(this.rect);
  }

  /** Likes become dislikes and the other way round. */
  invert() {
    for (let i = 0; i < this.data.length; i++) this.data[i] = -this.data[i];
    this.touch(this.rect);
  }

  /** The same feedback on a picture of another size (nearest pixel). */
  resized(width, height) {
    if (width === this.width && height === this.height) {
      return new SignedMap(width, height, this.data.slice());
    }
    const scaled = new SignedMap(width, height);
    for (let y = 0; y < height; y++) {
      const row = Math.floor(((y + 0.5) * this.height) / height) * this.width;
      for (let x = 0; x < width; x++) {
        const column = Math.floor(((x + 0.5) * this.width) / width);
        scaled.data[y * width + x] = this.data[row + column];
      }
    }
    return scaled;
  }

  /** Shares of the picture, 0 to 1, that are liked and disliked. */
  shares() {
    this.sumUp();
    let liked = 0;
    let disliked = 0;
    for (let i = 0; i < this.sums.length; i += SUMS) {
      liked += this.sums[i + 2];
      disliked += this.sums[i + 3];
    }
    return { liked: liked / this.data.length, disliked: disliked / this.data.length };
  }

  /** Look at the tiles that changed. Doing so now and then leaves little for the end of a stroke. */
  sumUp() {
    for (let tile = 0; tile < this.stale.length; tile++) {
      if (this.stale[tile]) this.#sumTile(tile);
    }
    this.stale.fill(0);
  }

  /** Two hashes (FNV-1a, and a multiplicative one) and the counts of likes and dislikes. */
  #sumTile(tile) {
    const { data, width, sums } = this;
    const { x0, y0, x1, y1 } = this.tileRect(tile);
    let [first, second, liked, disliked] = [0x811c9dc5, 0x9e3779b9, 0, 0];
    for (let y = y0; y < y1; y++) {
      for (let i = y * width + x0; i < y * width + x1; i++) {
        const value = data[i];
        first = Math.imul(first ^ (value & 255), 0x01000193);
        second = Math.imul((second + value) | 0, 0x85ebca6b);
        second ^= second >>> 13;
        if (value > 0) liked++;
        else if (value < 0) disliked++;
      }
    }
    sums.set([first, second, liked, disliked], tile * SUMS);
  }
}

/** A copy of the pixels of a map inside `rect`, row by row. */
export function readRect({ width, data }, rect) {
  const columns = rect.x1 - rect.x0;
  const copy = new Int8Array(columns * (rect.y1 - rect.y0));
  for (let y = rect.y0; y < rect.y1; y++) {
    const start = y * width + rect.x0;
    copy.set(data.subarray(start, start + columns), (y - rect.y0) * columns);
  }
  return copy;
}
