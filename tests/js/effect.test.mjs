import assert from "node:assert/strict";
import test from "node:test";

import { changePlan, changeWords, isMeasured, percent, pieces } from "../../web/chart/change.mjs";
import { isForTab, tabName } from "../../web/chart/tab.mjs";
import {
  fitted, readEffect, shareAfterKey, shareAt, shareText,
} from "../../web/chart/split.mjs";

const area = { top: 100, bottom: 200 };
const points = [0, 1, 2, 3, 4].map((i) => ({ x: 10 * i }));
const measured = (change_inside, change_outside) => ({ change_inside, change_outside });

test("rounds without a measurement are gaps in both lines", () => {
  const rounds = [measured(0.1, 0.02), {}, measured(0.2, 0.04), measured(0.05), measured(0.1, 0.1)];
  const { top, inside, outside } = changePlan(rounds, points, area);
  assert.ok(top > 0.2);
  assert.deepEqual(inside.map((piece) => piece.map(({ round }) => round)), [[0], [2, 3, 4]]);
  assert.deepEqual(outside.map((piece) => piece.map(({ round }) => round)), [[0], [2], [4]]);
  for (const { x, y, round } of [...inside, ...outside].flat()) {
    assert.equal(x, points[round].x);
    assert.ok(y > area.top && y < area.bottom);
  }
  assert.ok(inside[1][0].y < outside[1][0].y, "more change is higher up");
});

test("tiny changes are not blown up, and hostile values are left out", () => {
  const { top, inside } = changePlan([measured(1e-6), measured("9"), measured(NaN), measured(7),
    measured(-1)], points, area);
  assert.ok(top >= 0.02);
  assert.equal(inside.length, 1);
  assert.equal(isMeasured([{}, measured(null, "x")]), false);
  assert.equal(isMeasured([{}, measured(undefined, 0)]), true);
});

test("pieces and words", () => {
  assert.deepEqual(pieces([null, 1, 2, null, null, 3]), [[1, 2], [3]]);
  assert.deepEqual(pieces([]), []);
  assert.equal(changeWords(measured(0.1234, 0.0312)), "Change: ● marked 12 %  ○ elsewhere 3.1 %");
  assert.equal(changeWords({}), "");
  assert.deepEqual([0, 0.004, 1].map(percent), ["0 %", "0.4 %", "100 %"]);
});

test("a picture is fitted into its frame with the same margins on both sides", () => {
  assert.deepEqual(fitted({ width: 300, height: 100 }, { width: 256, height: 256 }),
    { left: 100, top: 0, width: 100, height: 100 });
  assert.deepEqual(fitted({ width: 100, height: 300 }, { width: 200, height: 100 }),
    { left: 0, top: 125, width: 100, height: 50 });
  assert.equal(fitted({ width: 100, height: 300 }, { width: 0, height: 0 }).width, 0);
});

test("the divider follows the pointer and stays in the picture", () => {
  const box = { left: 100, width: 200 };
  assert.equal(shareAt(150, box), 25);
  assert.equal(shareAt(0, box), 0);
  assert.equal(shareAt(999, box), 100);
  assert.equal(shareAt(5, { left: 0, width: 0 }), 50);
});

test("keys move the divider, others are left to the page", () => {
  assert.equal(shareAfterKey(50, "ArrowRight", false), 52);
  assert.equal(shareAfterKey(50, "ArrowLeft", true), 40);
  assert.equal(shareAfterKey(99, "ArrowUp", true), 100);
  assert.equal(shareAfterKey(50, "Home", false), 0);
  assert.equal(shareAfterKey(50, "End", false), 100);
  assert.equal(shareAfterKey(50, "x", false), null);
  assert.equal(shareAfterKey(50, "toString", false), null);
  assert.equal(shareText(0), "all after");
  assert.equal(shareText(30), "30 % before, 70 % after");
});

test("only two preview files make an effect, whatever a workflow holds", () => {
  const file = (filename) => ({ filename, subfolder: "", type: "temp" });
  const effect = { picture: 3, round: 2, before: file("a.png"), after: file("b.png") };
  assert.deepEqual(readEffect(effect), effect);
  for (const bad of [null, undefined, "x", [], {}, { before: file("a.png") },
    { before: file("a.png"), after: file("") }, { before: file("a.png"), after: { filename: 7 } }]) {
    assert.equal(readEffect(bad), null);
  }
  const other = { ...effect, before: { filename: "a.png", type: "output" } };
  assert.deepEqual(readEffect(other).before, file("a.png"));
});

test("a result is for the workflow whose prompt asked for it", () => {
  const [one, other] = [{}, {}];
  const name = tabName(one);
  assert.equal(tabName(one), name);
  assert.notEqual(tabName(other), name);
  assert.ok(isForTab(name, one) && !isForTab(name, other));
  assert.ok(isForTab(null, other) && isForTab("of a page before a reload", other));
  assert.equal(tabName(null), "");
  assert.ok(isForTab("", null));
});
