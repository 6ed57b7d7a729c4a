/** Feedback for one picture: a signed byte per pixel, -127 (dislike) to 127 (like), 0 nothing. */

export const FULL = 127;

/** What 0 is in a map file, whose bytes are unsigned. */
const FILE_ZERO = 128;

export class SignedMap {
  /** @param {number} width @param {number} height @param {Int8Array} [data] rows, top first */
  constructor(width, height, data = new Int8Array(width * height)) {
    if (data.length !== width * height) {
      throw new Error(`A ${width}x${height} map needs ${width * height} values: ${data.length}.`);
    }
    this.width = width;
    this.height = height;
    this.data = data;
  }

  /** A map from the bytes of a map file, 128 = 0. */
  static fromBytes(width, height, bytes) {
    const data = new Int8Array(width * height);
    // Byte 0 would be -128, which has no positive counterpart.
    for (let i = 0; i < data.length; i++) data[i] = Math.max(bytes[i] - FILE_ZERO, -FULL);
    return new SignedMap(width, height, data);
  }

  /** The bytes of a map file. */
  toBytes() {
    const bytes = new Uint8Array(this.data.length);
    for (let i = 0; i < bytes.length; i++) bytes[i] = this.data[i] + FILE_ZERO;
    return bytes;
  }

  /**
   * The size and the runs of equal values: as good as the bytes to tell maps apart, and short enough
   * to hash at the end of every stroke.
   */
  digestInput() {
    const { data } = this;
    const parts = [this.width, this.height];
    for (let start = 0; start < data.length; ) {
      let end = start + 1;
      while (end < data.length && data[end] === data[start]) end++;
      parts.push(data[start], end);
      start = end;
    }
    return new Uint8Array(Int32Array.from(parts).buffer);
  }

  get rect() {
    return { x0: 0, y0: 0, x1: this.width, y1: this.height };
  }

  get isBlank() {
    return this.data.every((value) => value === 0);
  }

  /** A copy of the pixels inside `rect`, row by row. */
  read(rect) {
    const columns = rect.x1 - rect.x0;
    const copy = new Int8Array(columns * (rect.y1 - rect.y0));
    for (let y = rect.y0; y < rect.y1; y++) {
      const start = y * this.width + rect.x0;
      copy.set(this.data.subarray(start, start + columns), (y - rect.y0) * columns);
    }
    return copy;
  }

  /** Put back what `read` gave. */
  write(rect, pixels) {
    const columns = rect.x1 - rect.x0;
    for (let y = rect.y0; y < rect.y1; y++) {
      const row = (y - rect.y0) * columns;
      this.data.set(pixels.subarray(row, row + columns), y * this.width + rect.x0);
    }
  }

  fill(value) {
    this.data.fill(value);
  }

  /** Likes become dislikes and the other way round. */
  invert() {
    for (let i = 0; i < this.data.length; i++) this.data[i] = -this.data[i];
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
    const { data } = this;
    let liked = 0;
    let disliked = 0;
    for (let i = 0; i < data.length; i++) {
      if (data[i] > 0) liked++;
      else if (data[i] < 0) disliked++;
    }
    return { liked: liked / data.length, disliked: disliked / data.length };
  }
}
