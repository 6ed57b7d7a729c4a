/**
 * 8-bit grey PNG files without a canvas: canvases may change bytes (colour management, protection
 * against fingerprinting), and here a byte is a person's feedback.
 */

const SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10];
const LARGEST_SIDE = 16384;
const MAP_ZERO = 128; // what 0 is in a map file, whose bytes are unsigned
const PIXELS_AT_ONCE = 2 ** 18;

const CRC_TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  let c = n;
  for (let bit = 0; bit < 8; bit++) c = c & 1 ? 0xedb88320 ^ (c >>> 1) : c >>> 1;
  return c >>> 0;
});

/**
 * Large pictures are filtered in several tasks, so that painting goes on meanwhile.
 * @param {Uint8Array} bytes width * height, rows from the top; must not change until done
 * @param {string} [note] ASCII text kept in the file under the key "pxpo"
 * @returns {Promise<Uint8Array>}
 */
export async function encodeGrey(width, height, bytes, note = "") {
  const rows = new Uint8Array(height * (width + 1));
  const rowsAtOnce = Math.ceil(PIXELS_AT_ONCE / width);
  for (let y = 0; y < height; y++) {
    if (y > 0 && y % rowsAtOnce === 0) await new Promise((resume) => setTimeout(resume));
    const start = y * (width + 1);
    rows[start] = 1; // "sub": of all filters the smallest files for brush strokes
    for (let x = 0; x < width; x++) {
      const left = x > 0 ? bytes[y * width + x - 1] : 0;
      rows[start + 1 + x] = bytes[y * width + x] - left;
    }
  }
  const header = new Uint8Array(13);
  const fields = new DataView(header.buffer);
  fields.setUint32(0, width);
  fields.setUint32(4, height);
  header[8] = 8; // bits; colour type, compression, filter and interlace stay 0
  const data = await through(new CompressionStream("deflate"), rows);
  return concat([
    Uint8Array.from(SIGNATURE),
    chunk("IHDR", header),
    ...(note ? [chunk("tEXt", ascii(`pxpo\0${note}`))] : []),
    chunk("IDAT", data),
    chunk("IEND", new Uint8Array(0)),
  ]);
}

/**
 * A signed map as a file.
 * @param {Int8Array} values
 * @param {string} [owner] the node and the picture that it belongs to, with a space between
 * @returns {Promise<Uint8Array>}
 */
export function encodeMap(width, height, values, owner) {
  // A plain loop: `from` with a function takes seconds for a large picture.
  const bytes = new Uint8Array(values.length);
  for (let i = 0; i < values.length; i++) bytes[i] = values[i] + MAP_ZERO;
  return encodeGrey(width, height, bytes, owner);
}

/** @returns {Promise<{width: number, height: number, values: Int8Array}>} */
export async function decodeMap(file) {
  const { width, height, bytes } = await decodeGrey(file);
  // Byte 0 would be -128, which has no positive counterpart.
  const values = new Int8Array(bytes.length);
  for (let i = 0; i < bytes.length; i++) values[i] = Math.max(bytes[i] - MAP_ZERO, 1 - MAP_ZERO);
  return { width, height, values };
}

/** @param {Uint8Array} file @returns {Promise<{width: number, height: number, bytes: Uint8Array}>} */
export async function decodeGrey(file) {
  if (!SIGNATURE.every((byte, i) => file[i] === byte)) throw new Error("This is not a PNG file.");
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  let header = null;
  const parts = [];
  for (let at = 8; at + 12 <= file.length; ) {
    const length = view.getUint32(at);
    const kind = String.fromCharCode(...file.subarray(at + 4, at + 8));
    if (kind === "IHDR") header = at + 8;
    if (kind === "IDAT") parts.push(file.subarray(at + 8, at + 8 + length));
    if (kind === "IEND") break;
    at += 12 + length;
  }
  if (header === null) throw new Error("This PNG file has no header.");
  const width = view.getUint32(header);
  const height = view.getUint32(header + 4);
  const grey8 = file[header + 8] === 8 && file[header + 9] === 0 && file[header + 12] === 0;
  if (!grey8) throw new Error("This PNG file is not 8-bit grey.");
  if (Math.max(width, height) > LARGEST_SIDE) throw new Error("This PNG file is too large.");
  const rows = await through(new DecompressionStream("deflate"), concat(parts));
  if (rows.length < height * (width + 1)) throw new Error("This PNG file is cut off.");
  return { width, height, bytes: unfilter(rows, width, height) };
}

/** Undo the five row filters of PNG (W3C PNG, section 9), each in a loop of its own for speed. */
function unfilter(rows, width, height) {
  const out = new Uint8Array(width * height);
  let above = new Uint8Array(width); // above the first row there is nothing
  for (let y = 0; y < height; y++) {
    const start = y * (width + 1);
    const from = rows.subarray(start + 1, start + 1 + width);
    const row = out.subarray(y * width, (y + 1) * width);
    FILTERS[rows[start]]?.(row, from, above);
    above = row;
  }
  return out;
}

const FILTERS = [
  (row, from) => row.set(from),
  (row, from) => {
    for (let x = 0, left = 0; x < row.length; x++) left = row[x] = (from[x] + left) & 255;
  },
  (row, from, above) => {
    for (let x = 0; x < row.length; x++) row[x] = from[x] + above[x];
  },
  (row, from, above) => {
    for (let x = 0, left = 0; x < row.length; x++) {
      left = row[x] = (from[x] + ((left + above[x]) >> 1)) & 255;
    }
  },
  (row, from, above) => {
    for (let x = 0, left = 0, corner = 0; x < row.length; x++) {
      left = row[x] = (from[x] + paeth(left, above[x], corner)) & 255;
      corner = above[x];
    }
  },
];

function paeth(left, up, corner) {
  const p = left + up - corner;
  const dl = Math.abs(p - left);
  const du = Math.abs(p - up);
  const dc = Math.abs(p - corner);
  if (dl <= du && dl <= dc) return left;
  return du <= dc ? up : corner;
}

function chunk(kind, data) {
  const whole = new Uint8Array(12 + data.length);
  const view = new DataView(whole.buffer);
  view.setUint32(0, data.length);
  whole.set(ascii(kind), 4);
  whole.set(data, 8);
  view.setUint32(8 + data.length, crc(whole.subarray(4, 8 + data.length)));
  return whole;
}

function ascii(text) {
  return Uint8Array.from(text, (letter) => letter.charCodeAt(0));
}

function crc(bytes) {
  let c = 0xffffffff;
  for (const byte of bytes) c = CRC_TABLE[(c ^ byte) & 255] ^ (c >>> 8);
  return (c ^ 0xffffffff) >>> 0;
}

async function through(transform, bytes) {
  const stream = new Blob([bytes]).stream().pipeThrough(transform);
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function concat(parts) {
  const whole = new Uint8Array(parts.reduce((total, part) => total + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
