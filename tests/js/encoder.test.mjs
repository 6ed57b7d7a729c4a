import assert from "node:assert/strict";
import test from "node:test";

import { Encoder } from "../../web/paint/encoder.mjs";
import { decodeMap, encodeMap } from "../../web/paint/png.mjs";

const VALUES = Int8Array.of(-127, 0, 5, 127);

/** Answers as map_worker.mjs does, or fails as a worker whose script cannot be loaded. */
class FakeWorker extends EventTarget {
  constructor(works) {
    super();
    this.works = works;
    this.terminated = false;
  }

  async postMessage({ id, width, height, values, owner }) {
    if (!this.works) {
      this.dispatchEvent(new Event("error"));
      return;
    }
    const answer = new Event("message");
    answer.data = values.length === width * height
      ? { id, file: await encodeMap(width, height, values, owner) }
      : { id, error: "of another size" };
    this.dispatchEvent(answer);
  }

  terminate() {
    this.terminated = true;
  }
}

test("one worker makes all files, each for the one who asked", async () => {
  const started = [];
  const encoder = new Encoder(() => started.push(new FakeWorker(true)) && started[0]);
  const files = await Promise.all([1, 2, 3].map((n) => encoder.encode(2, 2, VALUES.map((v) => v / n))));
  for (const [i, file] of files.entries()) {
    assert.deepEqual((await decodeMap(file)).values, VALUES.map((v) => v / (i + 1)));
  }
  assert.equal(started.length, 1);
  await assert.rejects(encoder.encode(3, 3, VALUES), /of another size/);
  assert.deepEqual((await decodeMap(await encoder.encode(2, 2, VALUES))).values, VALUES);
  encoder.dispose();
  assert.ok(started[0].terminated);
});

test("where no worker can be started or loaded, files are made all the same", async () => {
  const refuse = () => {
    throw new Error("not allowed here");
  };
  for (const start of [null, refuse, () => new FakeWorker(false)]) {
    const encoder = new Encoder(start);
    const files = await Promise.all([encoder.encode(2, 2, VALUES), encoder.encode(4, 1, VALUES)]);
    for (const file of files) assert.deepEqual((await decodeMap(file)).values, VALUES);
    assert.deepEqual((await decodeMap(await encoder.encode(2, 2, VALUES))).values, VALUES);
  }
});
