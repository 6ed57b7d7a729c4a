import assert from "node:assert/strict";
import test from "node:test";

import {
  label, nearest, path, plan, range, roundTicks, ticks, usable, words,
} from "../../web/chart/plot.mjs";

const area = { left: 40, top: 30, right: 400, bottom: 150 };
const rounds = (n, mean = (i) => i) =>
  Array.from({ length: n }, (_, i) => ({ round: i + 1, reward_mean: mean(i), reward_sd: 0.1 }));

test("ticks are round numbers inside the range", () => {
  assert.deepEqual(ticks(0, 1, 5), [0, 0.2, 0.4, 0.6000000000000001, 0.8, 1]);
  for (const [low, high] of [[-0.643, -0.211], [0, 12345], [-3e-5, 2e-5], [99.98, 100.01]]) {
    const values = ticks(low, high);
    assert.ok(values.length >= 1 && values.length <= 6, `${values}`);
    assert.ok(values.every((v) => v >= low - 1e-9 && v <= high + 1e-9));
  }
  assert.deepEqual(ticks(2, 2), [2]);
});

test("labels have the digits their step needs", () => {
  assert.equal(label(0.30000000000000004, 0.1), "0.3");
  assert.equal(label(-0.25, 0.05), "-0.25");
  assert.equal(label(200, 100), "200");
  assert.equal(label(1, 0), "1");
});

test("one round, equal rewards and many rounds all stay inside the chart", () => {
  const cases = [rounds(1), rounds(5, () => 0.5), rounds(300, (i) => Math.sin(i)),
    [{ round: 1, reward_mean: 0 }]];
  for (const entries of cases) {
    const drawn = plan(entries, area);
    assert.equal(drawn.points.length, entries.length);
    for (const { x, y } of [...drawn.points, ...drawn.band]) {
      assert.ok(x > area.left && x < area.right && y >= area.top && y <= area.bottom);
    }
  }
});

test("higher rewards are higher up, later rounds further right", () => {
  const { points } = plan(rounds(4), area);
  for (let i = 1; i < points.length; i++) {
    assert.ok(points[i].x > points[i - 1].x && points[i].y < points[i - 1].y);
  }
});

test("bars show the share of marked area", () => {
  const { bars } = plan([{ round: 1, reward_mean: 0, marked_area: 0.25 },
    { round: 2, reward_mean: 0, marked_area: 7 }, { round: 3, reward_mean: 0 }], area);
  assert.deepEqual(bars.map((bar) => bar.y), [120, 30, 150]);
});

test("a history from an edited workflow is cut down to what can be drawn", () => {
  assert.deepEqual(usable("hello"), []);
  assert.deepEqual(usable(null), []);
  const good = { round: 1, reward_mean: 0.5 };
  assert.deepEqual(usable([null, {}, { round: "1", reward_mean: 1 }, good, { round: 2,
    reward_mean: NaN }]), [good]);
  assert.equal(usable(rounds(5000)).length, 2000);
});

test("the range is never empty and covers the spread", () => {
  const { low, high } = range([{ reward_mean: 1, reward_sd: 0.5 }]);
  assert.ok(low < 0.5 && high > 1.5);
  const flat = range([{ reward_mean: 0 }]);
  assert.ok(flat.high > flat.low);
});

test("round numbers below the chart have room", () => {
  assert.deepEqual(roundTicks(rounds(5), 400), [0, 1, 2, 3, 4]);
  const many = roundTicks(rounds(200), 400);
  assert.ok(many.length <= 14 && many.length >= 5, `${many.length}`);
});

test("paths, nearest round and words", () => {
  assert.equal(path([{ x: 1, y: 2 }, { x: 3, y: 4.25 }]), "M1.0 2.0L3.0 4.3");
  assert.equal(nearest([{ x: 10 }, { x: 20 }, { x: 30 }], 24), 1);
  assert.deepEqual(
    words({ round: 3, reward_mean: 0.25, reward_sd: 0.05, marked_area: 0.031, images: 8,
      marked_images: 2 }),
    { reward: "Round 3: reward 0.250 ± 0.050", marks: "3.1 % marked · 2 of 8 pictures" },
  );
  const bare = words({ round: 1, reward_mean: 1 });
  assert.deepEqual(bare, { reward: "Round 1: reward 1.000", marks: "" });
});
