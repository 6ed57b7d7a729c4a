import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import test from "node:test";
import { deflateSync, inflateSync } from "node:zlib";

import { contentName, newId, sha256 } from "../../web/paint/identity.mjs";
import { decodeGrey, decodeMap, encodeGrey, encodeMap } from "../../web/paint/png.mjs";

const noise = (count) => Uint8Array.from({ length: count }, (_, i) => (i * i * 31 + i * 7) & 255);

test("PNG files keep every byte", async () => {
  for (const [width, height] of [[1, 1], [7, 5], [256, 256], [333, 2]]) {
    const bytes = noise(width * height);
    const file = await encodeGrey(width, height, bytes);
    const back = await decodeGrey(file);
    assert.deepEqual([back.width, back.height], [width, height]);
    assert.deepEqual(back.bytes, bytes);
  }
});

test("map files keep every value; byte 0, which nobody writes, is full dislike", async () => {
  const values = Int8Array.from({ length: 255 }, (_, i) => i - 127);
  assert.deepEqual((await decodeMap(await encodeMap(255, 1, values))).values, values);
  assert.equal((await decodeMap(await encodeGrey(1, 1, Uint8Array.of(0)))).values[0], -127);
});

test("files of other programs, which use every row filter, are read", async () => {
  const [width, height] = [9, 10];
  const pixels = noise(width * height);
  const at = (x, y) => (x < 0 || y < 0 ? 0 : pixels[y * width + x]);
  const paeth = (a, b, c) => {
    const far = [a, b, c].map((one) => Math.abs(a + b - c - one));
    return [a, b, c][far.indexOf(Math.min(...far))];
  };
  const guesses = [
    () => 0,
    (x, y) => at(x - 1, y),
    (x, y) => at(x, y - 1),
    (x, y) => (at(x - 1, y) + at(x, y - 1)) >> 1,
    (x, y) => paeth(at(x - 1, y), at(x, y - 1), at(x - 1, y - 1)),
  ];
  const rows = [];
  for (let y = 0; y < height; y++) {
    const filter = (y + 4) % 5; // the first row too has a filter that looks up
    rows.push(filter);
    for (let x = 0; x < width; x++) rows.push((at(x, y) - guesses[filter](x, y)) & 255);
  }
  // The decoder checks no sums, so the pixels of a file of ours can be exchanged for these.
  const ours = Buffer.from(await encodeGrey(width, height, pixels));
  const data = deflateSync(Buffer.from(rows));
  const file = Buffer.concat([ours.subarray(0, 33), Buffer.alloc(4), Buffer.from("IDAT"), data,
    Buffer.alloc(4), ours.subarray(-12)]);
  file.writeUInt32BE(data.length, 33);
  assert.deepEqual((await decodeGrey(file)).bytes, pixels);
});

test("reading a large map takes about as long as writing it", async () => {
  const side = 1024;
  const bytes = new Uint8Array(side * side).fill(1);
  const best = { write: Infinity, read: Infinity };
  const timed = async (name, work) => {
    const started = performance.now();
    const result = await work();
    best[name] = Math.min(best[name], performance.now() - started);
    return result;
  };
  for (let tries = 0; tries < 6; tries++) {
    const file = await timed("write", () => encodeGrey(side, side, bytes));
    await timed("read", () => decodeMap(file));
  }
  assert.ok(best.read < 3 * best.write, `${best.read} ms, ${best.write} ms`);
});

test("a map file says whose it is, right behind its header", async () => {
  const owner = `${"ab".repeat(16)} ${"12".repeat(16)}`;
  const file = Buffer.from(await encodeMap(3, 1, Int8Array.of(-127, 0, 127), owner));
  assert.equal(file.readUInt32BE(33), 5 + owner.length);
  assert.equal(file.toString("latin1", 37, 46 + owner.length), `tEXtpxpo\0${owner}`);
  assert.deepEqual([...(await decodeMap(file)).values], [-127, 0, 127]);
});

test("PNG files have a valid structure", async () => {
  const file = Buffer.from(await encodeGrey(3, 2, Uint8Array.of(1, 2, 3, 4, 5, 6)));
  assert.equal(file.toString("latin1", 12, 16), "IHDR");
  assert.deepEqual([file[24], file[25]], [8, 0]);
  const length = file.readUInt32BE(33);
  assert.deepEqual([...inflateSync(file.subarray(41, 41 + length))], [1, 1, 1, 1, 1, 4, 1, 1]);
  // CRC of an empty IEND chunk is a known constant.
  assert.equal(file.subarray(-4).toString("hex"), "ae426082");
});

test("files that are no grey PNG are refused", async () => {
  await assert.rejects(decodeGrey(Uint8Array.of(1, 2, 3)), /not a PNG/);
  const good = await encodeGrey(2, 2, Uint8Array.of(1, 2, 3, 4));
  const colour = good.slice();
  colour[25] = 2;
  await assert.rejects(decodeGrey(colour), /not 8-bit grey/);
  const wide = good.slice();
  wide[18] = 0x4e;
  await assert.rejects(decodeGrey(wide), /too large/);
  await assert.rejects(decodeGrey(good.slice(0, 30)));
});

test("a 1024 picture with many soft strokes stays below 200 kB", async () => {
  const { SignedMap } = await import("../../web/paint/signed_map.mjs");
  const { Stroke, StrokeBuffers } = await import("../../web/paint/brush.mjs");
  const map = new SignedMap(1024, 1024);
  const buffers = new StrokeBuffers(1024, 1024);
  for (let i = 0; i < 30; i++) {
    const stroke = new Stroke(map, buffers, { value: i % 2 ? 100 : -90, radius: 40, hardness: 0 });
    for (let t = 0; t <= 20; t++) stroke.extendTo(60 + t * 45, 40 + i * 32 + 30 * Math.sin(t / 2));
    stroke.finish();
  }
  const file = await encodeMap(1024, 1024, map.data);
  assert.ok(file.length < 200_000, `${file.length} bytes`);
});

test("content names are the start of SHA-256", () => {
  for (const count of [0, 1, 55, 56, 64, 1000, 100_003]) {
    const bytes = noise(count);
    const expected = createHash("sha256").update(bytes).digest("hex");
    assert.equal(Buffer.from(sha256(bytes)).toString("hex"), expected);
    assert.equal(contentName(bytes), expected.slice(0, 32));
  }
});

test("equal marks on two pictures have two names: each file says whose it is", () => {
  const bytes = noise(100);
  const [one, other] = ["ab 1", "ab 2"].map((owner) => contentName(bytes, owner));
  assert.notEqual(one, other);
  assert.equal(contentName(bytes, "ab 1"), one);
  assert.notEqual(contentName(noise(101), "ab 1"), one);
});

test("ids are 32 hex digits and differ", () => {
  assert.match(newId(), /^[0-9a-f]{32}$/);
  assert.notEqual(newId(), newId());
});
