import assert from "node:assert/strict";
import test from "node:test";

import { FULL, SignedMap } from "../../web/paint/signed_map.mjs";
import { PaintSession } from "../../web/paint/session.mjs";
import {
  emptyValue, moveMark, promptValue, readValue, sameMarks, withLearned, withMark,
} from "../../web/paint/value.mjs";

const id = (n) => n.toString(16).padStart(32, "0");

function session(count = 3) {
  const made = new PaintSession();
  const shown = Array.from({ length: count }, (_, i) => (
    { picture: id(i), thumb: id(100 + i), width: 64, height: 48 }
  ));
  made.show(shown);
  for (const page of made.pages) made.load(page, null, { reviewed: false, touched: false });
  made.finished = [];
  made.addEventListener("finish", (event) => made.finished.push(event.detail));
  return made;
}

function stroke(s, x = 20, y = 20, options) {
  s.beginStroke(x, y, options);
  s.extendStroke(x + 10, y);
  s.endStroke();
}

test("a stroke is worth saving once, and marks the picture as looked at", () => {
  const s = session();
  stroke(s);
  assert.equal(s.finished.length, 1);
  assert.ok(s.page.reviewed && s.page.touched && !s.page.isBlank);
  assert.equal(s.page.map.data[20 * 64 + 25], -FULL);
  assert.equal(s.pages[1].reviewed, false);
});

test("other pictures are looked at from the first one, or from a given one that exists", () => {
  const s = session();
  s.select(2);
  s.show(s.pages);
  assert.equal(s.index, 0);
  s.show(s.pages, 2);
  assert.equal(s.index, 2);
  s.show([s.pages[0]], 2);
  assert.equal(s.index, 0);
});

test("opening a picture reviews it; the first one only when something is done to it", () => {
  const s = session();
  assert.deepEqual(s.pages.map((p) => p.reviewed), [false, false, false]);
  s.step(1);
  assert.deepEqual(s.pages.map((p) => p.reviewed), [false, true, false]);
  s.step(-1);
  assert.deepEqual(s.pages.map((p) => p.reviewed), [true, true, false]);
  s.setReviewed(false);
  assert.equal(s.page.reviewed, false);
  s.step(-1);
  assert.equal(s.index, 2);
});

test("strength, sign and the eraser decide what is written", () => {
  const s = session();
  s.set({ sign: 1, strength: 0.5, hardness: 1 });
  stroke(s);
  assert.equal(s.page.map.data[20 * 64 + 25], 64);
  stroke(s, 20, 20, { erase: true });
  assert.equal(s.page.map.data[20 * 64 + 25], 0);
  s.undo();
  assert.equal(s.page.map.data[20 * 64 + 25], 64);
});

test("undo belongs to each picture", () => {
  const s = session();
  stroke(s);
  s.select(1);
  stroke(s);
  s.undo();
  assert.ok(s.page.isBlank);
  s.undo();
  s.select(0);
  assert.ok(!s.page.isBlank);
  s.undo();
  assert.ok(s.page.isBlank);
  s.redo();
  assert.ok(!s.page.isBlank);
});

test("copy, paste, apply to all and invert", () => {
  const s = session();
  stroke(s);
  s.copy();
  s.select(1);
  s.paste();
  assert.deepEqual(s.pages[1].map.data, s.pages[0].map.data);
  s.invert();
  s.applyToAll();
  for (const page of s.pages) assert.equal(page.map.data[20 * 64 + 25], FULL);
  assert.equal(s.pages[0].history.past.length, 2);
  s.select(2);
  s.undo();
  assert.ok(s.page.isBlank);
});

test("a line continues where the last stroke ended", () => {
  const s = session();
  s.set({ hardness: 1, size: 0.05 });
  stroke(s, 5, 40);
  s.line(60, 40);
  for (let x = 5; x < 60; x++) assert.equal(s.page.map.data[40 * 64 + x], -FULL, `${x}`);
});

test("a stroke can be taken back while it is drawn", () => {
  const s = session();
  stroke(s);
  const before = s.page.map.data.slice();
  s.beginStroke(40, 10);
  s.extendStroke(50, 30);
  s.cancelStroke();
  assert.deepEqual(s.page.map.data, before);
  assert.equal(s.finished.length, 1);
});

test("nothing can be painted while the batch is being learned from", () => {
  const s = session();
  s.beginStroke(10, 10);
  s.lock(true);
  stroke(s);
  s.whole(1);
  s.undo();
  assert.ok(s.page.isBlank);
  s.lock(false);
  stroke(s);
  assert.ok(!s.page.isBlank);
});

test("500 strokes stay within the undo limit", () => {
  const s = session(2);
  for (let i = 0; i < 500; i++) stroke(s, i % 50, i % 40);
  assert.ok(s.page.history.past.length <= 200);
  assert.ok(s.page.history.bytes <= s.page.history.mostBytes);
});

test("a smaller picture takes pasted marks in its own size", () => {
  const map = new SignedMap(4, 2, Int8Array.of(1, 1, 2, 2, 3, 3, 4, 4));
  assert.deepEqual([...map.resized(2, 2).data], [1, 2, 3, 4]);
});

const mark = (n, batch, map = id(500 + n)) => (
  { thumb: id(n), map, width: 8, height: 8, reviewed: true, batch }
);

test("the value keeps one mark per picture and the last four batches", () => {
  let value = emptyValue();
  for (let batch = 0; batch < 6; batch++) {
    for (let i = 0; i < 2; i++) value = withMark(value, mark(batch * 2 + i, `b${batch}`));
  }
  value = withMark(value, mark(11, "b5", null));
  assert.equal(value.marks.length, 8);
  assert.equal(value.marks.filter((m) => m.thumb === id(11)).length, 1);
  assert.deepEqual([...new Set(value.marks.map((m) => m.batch))], ["b2", "b3", "b4", "b5"]);
});

test("a value survives JSON, and what is not one is refused", () => {
  const value = withMark(emptyValue(), mark(1, "b"));
  assert.deepEqual(readValue(JSON.parse(JSON.stringify(value))), value);
  for (const bad of [null, "", 3, [], {}, { ...value, version: 9 }, { ...value, node: "../x" }]) {
    assert.equal(readValue(bad), null);
  }
  assert.equal(readValue({ ...value, marks: [{ thumb: "../x" }, null] }).marks.length, 0);
});

test("prompts carry only what Python reads", () => {
  const painted = withMark(emptyValue(), mark(1, "b"));
  const value = withLearned(painted, painted.marks);
  assert.equal(value.marks[0].learned, true);
  assert.deepEqual(promptValue(value), {
    version: 1, node: value.node,
    marks: [{ thumb: id(1), map: id(501), width: 8, height: 8, reviewed: true }],
  });
  assert.ok(sameMarks(value.marks, [mark(1, "other")]));
  assert.ok(!sameMarks(value.marks, []));
});

test("a mark follows its picture to a new thumbnail", () => {
  const value = moveMark(withMark(emptyValue(), mark(1, "b")), id(1), id(2), "c");
  assert.deepEqual(value.marks, [{ ...mark(1, "c"), thumb: id(2) }]);
  assert.equal(moveMark(value, id(7), id(8), "c"), value);
});

test("a mark follows its picture into another batch, and no mark is forgotten on the way", () => {
  let value = withMark(withMark(emptyValue(), mark(1, "old")), mark(2, "old"));
  for (const [n, batch] of [[3, "b"], [4, "c"], [5, "d"]]) value = withMark(value, mark(n, batch));
  for (const n of [1, 2]) value = moveMark(value, id(n), id(n), "new");
  const moved = value.marks.filter((m) => m.batch === "new").map((m) => m.thumb);
  assert.deepEqual(moved, [id(1), id(2)]);
  assert.equal(moveMark(value, id(1), id(1), "new"), value, "it is there already");
});

test("a picture takes no change before what is saved of it is there", () => {
  const s = session(1);
  s.show([{ picture: id(0), thumb: id(1), width: 64, height: 48 },
    { picture: id(2), thumb: id(3), width: 64, height: 48 }]);
  assert.equal(s.canEdit, false);
  stroke(s);
  s.whole(1);
  s.undo();
  s.copy();
  s.setReviewed(true);
  s.select(1);
  assert.equal(s.finished.length, 0);
  assert.equal(s.page.reviewed, false);
  assert.equal(s.clipboard, null);
  const map = new SignedMap(64, 48);
  map.fill(FULL);
  for (const page of s.pages) s.load(page, map, { reviewed: false, touched: true });
  assert.deepEqual(s.pages.map((p) => p.reviewed), [false, true], "that one was opened");
  assert.deepEqual(s.finished, [s.pages[1]]);
  stroke(s);
  s.undo();
  assert.equal(s.page.map.data[20 * 64 + 25], FULL);
});

test("a blank picture puts nothing on the others, but for marks that were copied", () => {
  const s = session();
  stroke(s);
  s.select(1);
  s.copy();
  s.applyToAll();
  assert.deepEqual(s.pages.map((p) => p.isBlank), [false, true, true]);
  s.select(0);
  s.copy();
  s.select(1);
  s.copy();
  s.applyToAll();
  assert.deepEqual(s.pages.map((p) => p.isBlank), [false, false, false]);
});

test("a stroke that other pictures cut short leaves no hole in the next one", () => {
  const s = session(1);
  s.beginStroke(20, 20);
  s.show([{ picture: id(5), thumb: id(6), width: 64, height: 48 }]);
  s.load(s.page, null, { reviewed: false, touched: false });
  assert.equal(s.finished.length, 0);
  stroke(s, 15, 20);
  assert.equal(s.page.map.data[20 * 64 + 20], -FULL);
});
