import assert from "node:assert/strict";
import test from "node:test";

import { Waiting } from "../../web/paint/waiting.mjs";

const call = (token, seconds = 60) => ({ token, prompt_id: "p", seconds_left: seconds });

test("a wait is new once, open until it is answered, and over when the server says so", () => {
  const waiting = new Waiting();
  assert.equal(waiting.isOpen, false);
  assert.equal(waiting.hear(call("a")), true);
  assert.equal(waiting.hear(call("a")), false);
  assert.ok(waiting.isOpen);
  waiting.answer();
  assert.equal(waiting.isOpen, false);
  assert.equal(waiting.hear(call("a")), false);
  assert.equal(waiting.isOpen, false, "the server had not read the answer yet");
  assert.equal(waiting.end("a"), false, "its end is no surprise");
  assert.equal(waiting.token, null);
  waiting.dispose();
});

test("an end that nobody here caused is a surprise; a late call does not open it again", () => {
  const waiting = new Waiting();
  waiting.hear(call("a"));
  assert.equal(waiting.end("a"), true);
  assert.equal(waiting.hear(call("a")), false);
  assert.equal(waiting.isOpen, false);
  assert.equal(waiting.end("other"), false);
  assert.equal(waiting.hear(call("b")), true);
  waiting.dispose();
});

test("of two waits at once, the second has its turn when the first is over", () => {
  const waiting = new Waiting();
  assert.ok(waiting.hear(call("a")));
  assert.equal(waiting.hear(call("b")), false);
  assert.equal(waiting.token, "a");
  waiting.answer();
  waiting.end("a");
  assert.ok(waiting.hear(call("b")));
  assert.ok(waiting.isOpen);
  waiting.dispose();
});

test("without a word for some seconds it is over", (t) => {
  t.mock.timers.enable({ apis: ["setTimeout"] });
  const waiting = new Waiting();
  waiting.hear(call("a"));
  t.mock.timers.tick(5000);
  waiting.hear(call("a"));
  t.mock.timers.tick(5000);
  assert.ok(waiting.isOpen);
  t.mock.timers.tick(3000);
  assert.equal(waiting.isOpen, false);
  assert.equal(waiting.hear(call("a")), true, "it was only the line that was silent");
  assert.ok(waiting.isOpen);
});

test("time left in the unit that fits", () => {
  const waiting = new Waiting();
  const left = (seconds) => {
    waiting.hear(call("a", seconds), 0);
    return waiting.timeLeft(0);
  };
  assert.equal(left(5), "0:05 left");
  assert.equal(left(65.4), "1:05 left");
  assert.equal(left(3600), "60 min left");
  assert.equal(left(5 * 3600), "5 h left");
  assert.equal(left(7 * 86400), "7 days left");
  assert.equal(left(-3), "0:00 left");
  waiting.dispose();
});
