import assert from "node:assert/strict";
import test from "node:test";

import { KEY_LIST, commandFor } from "../../web/paint/keys.mjs";
import { fit, keepInside, pointerInFrame, toFrame, toPicture, zoomAt } from "../../web/paint/view.mjs";

const close = (a, b) => assert.ok(Math.abs(a - b) < 1e-9, `${a} is not ${b}`);

test("fit centres the picture and there-and-back is the identity", () => {
  const view = fit(1024, 512, 400, 400);
  close(view.scale, 400 / 1024);
  close(view.y, 100);
  const there = toFrame(view, 333, 77);
  const back = toPicture(view, there.x, there.y);
  close(back.x, 333);
  close(back.y, 77);
});

test("the pointer is found at any zoom of the graph", () => {
  const view = fit(256, 256, 400, 300);
  for (const zoom of [0.25, 1, 3]) {
    const box = { left: 50, top: 20, width: 400 * zoom, height: 300 * zoom };
    const expected = toFrame(view, 100, 200);
    const p = pointerInFrame(
      box, { width: 400, height: 300 }, 50 + expected.x * zoom, 20 + expected.y * zoom,
    );
    const picture = toPicture(view, p.x, p.y);
    close(picture.x, 100);
    close(picture.y, 200);
  }
});

test("zooming keeps the point under the pointer", () => {
  let view = fit(512, 512, 400, 400);
  const before = toPicture(view, 123, 321);
  for (const factor of [1.3, 1.3, 4, 0.5, 100, 0.0001]) {
    view = zoomAt(view, factor, 123, 321, 0.1);
    const after = toPicture(view, 123, 321);
    close(after.x, before.x);
    close(after.y, before.y);
    assert.ok(view.scale >= 0.1 && view.scale <= 32);
  }
});

test("the picture cannot be lost out of the frame", () => {
  const lost = { scale: 1, x: 5000, y: -5000 };
  assert.deepEqual(keepInside(lost, 800, 800, 400, 400), { scale: 1, x: 0, y: -400 });
  assert.deepEqual(keepInside(lost, 100, 100, 400, 400), { scale: 1, x: 150, y: 150 });
});

test("keys", () => {
  const press = (key, more = {}) => commandFor({ key, ...more });
  assert.equal(press("z", { ctrlKey: true }), "undo");
  assert.equal(press("Z", { ctrlKey: true, shiftKey: true }), "redo");
  assert.equal(press("y", { metaKey: true }), "redo");
  assert.equal(press("V", { ctrlKey: true, shiftKey: true }), "paste-all");
  assert.equal(press("x"), "swap");
  assert.equal(press("X"), "swap");
  assert.equal(press("ü", { code: "BracketLeft" }), "smaller");
  assert.equal(press("}", { code: "BracketRight", shiftKey: true }), "much-larger");
  assert.equal(press("5"), "strength:0.5");
  assert.equal(press("0"), "strength:1");
  assert.equal(press("q"), null);
  assert.equal(press("s", { ctrlKey: true }), null);
  assert.equal(press("x", { altKey: true }), null);
  assert.ok(KEY_LIST.every((row) => row.length === 2));
});
