import assert from "node:assert/strict";
import test from "node:test";

import { Host } from "../../web/paint/host.mjs";
import { Rounds } from "../../web/paint/rounds.mjs";

const pause = (ms = 5) => new Promise((resume) => setTimeout(resume, ms));
const mark = (thumb, map) => ({ thumb, map, batch: "b" });
const shown = (node, ...marks) => ({
  node, batch: "b", images: marks.map((thumb) => ({ thumb, mark: thumb })),
});

/** The host's api: what it is asked for, and what the history has. */
class Api extends EventTarget {
  queued = [];
  asked = 0;
  history = { p: { prompt: [0, "p", { 1: {} }, { extra_pnginfo: { workflow: "w" } }] } };

  async fetchApi() {
    this.asked += 1;
    return { status: 200, json: async () => this.history };
  }

  async queuePrompt(number, prompt) {
    this.queued.push([number, prompt]);
    return { prompt_id: "next" };
  }

  say(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

function page(...nodes) {
  const api = new Api();
  const rounds = new Rounds(new Host({ extensionManager: {} }, api));
  for (const node of nodes) rounds.of(node).sent = [mark(`${node}1`, `${node}map`)];
  const show = (node, prompt, thumb = `${node}1`) =>
    api.say("executed", { prompt_id: prompt, output: { pxpo_paint: [shown(node, thumb)] } });
  const learn = (prompt, more = {}) => api.say("executed", {
    prompt_id: prompt, output: { pxpo_update: [{ painted: true, trained: true, round: 3, ...more }] },
  });
  return { api, rounds, show, learn };
}

test("a run learns from what it was given of the pictures it shows", () => {
  const { rounds, show, learn } = page("a", "b");
  show("a", "p");
  show("b", "other");
  learn("p");
  const { prompt, round, batch, marks } = rounds.of("a").learned;
  assert.deepEqual([prompt, round, batch, marks], ["p", 3, "b", [mark("a1", "amap")]]);
  assert.equal(rounds.of("b").learned, null);
});

test("a mask alone, marks of other pictures and those learned before are no round", () => {
  for (const [sent, more] of [
    [[]], [[mark("a1", null)]], [[mark("elsewhere", "map")]],
    [[{ ...mark("a1", "amap"), learned: true }]], [[mark("a1", "amap")], { trained: false }],
  ]) {
    const { rounds, show, learn } = page("a");
    rounds.of("a").sent = sent;
    show("a", "p");
    learn("p", more);
    assert.equal(rounds.of("a").learned, null);
  }
});

test("the next pictures are asked for once, and not for ever", async () => {
  const { api, rounds, show, learn } = page("a", "b");
  show("a", "p");
  show("b", "p");
  learn("p");
  api.say("execution_success", { prompt_id: "p" });
  await pause();
  assert.deepEqual(api.queued, [[0, { output: { 1: {} }, workflow: "w" }]]);
  // Pictures that look as before have the marks of before, and the same prompt carries them.
  show("a", "next");
  learn("next");
  assert.equal(rounds.of("a").learned, null);
  api.say("execution_success", { prompt_id: "next" });
  await pause();
  assert.equal(api.queued.length, 1);
});

test("nothing is asked for where a person wants none", async () => {
  const { api, rounds, show, learn } = page("a");
  rounds.of("a").autoNext = false;
  show("a", "p");
  learn("p");
  api.say("execution_success", { prompt_id: "p" });
  await pause();
  assert.equal(api.queued.length, 0);
  assert.equal(rounds.of("a").learned.problem, "");
});

test("why no next pictures come is kept", async () => {
  const { api, rounds, show, learn } = page("a");
  show("a", "p");
  learn("p");
  api.say("execution_error", { prompt_id: "p" });
  assert.match(rounds.of("a").learned.problem, /did not get to its end/);
  api.queuePrompt = async () => {
    throw new Error("refused");
  };
  api.say("execution_success", { prompt_id: "p" });
  await pause();
  assert.match(rounds.of("a").learned.problem, /could not be asked for \(refused\)/);
});

test("that the run of the next pictures failed is kept too", async () => {
  const { api, rounds, show, learn } = page("a");
  show("a", "p");
  learn("p");
  api.say("execution_success", { prompt_id: "p" });
  await pause();
  assert.equal(rounds.of("a").learned.problem, "");
  api.say("execution_error", { prompt_id: "next" });
  assert.match(rounds.of("a").learned.problem, /did not get to its end/);
});

test("the same pictures shown by another run can be learned from again", () => {
  const { rounds, show, learn } = page("a");
  show("a", "p");
  learn("p");
  show("a", "p");
  assert.ok(rounds.of("a").learned);
  show("a", "later");
  assert.equal(rounds.of("a").learned, null);
});

test("a run that was answered is over when it ends, or with its server", () => {
  for (const [type, prompt, expected] of [
    ["execution_error", "p", null], ["execution_success", "other", "p"], ["reconnected", null, null],
  ]) {
    const { api, rounds } = page("a");
    rounds.of("a").goesOn = "p";
    api.say(type, { prompt_id: prompt });
    assert.equal(rounds.of("a").goesOn, expected);
  }
});

test("a run that has just ended is waited for in the history", async () => {
  const api = new Api();
  const { history } = api;
  api.history = {};
  setTimeout(() => {
    api.history = history;
  }, 100);
  await new Host({}, api).queueAgain("p");
  assert.equal(api.queued.length, 1);
  assert.ok(api.asked > 1);
});
