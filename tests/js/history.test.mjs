import assert from "node:assert/strict";
import { test } from "node:test";

import {
  copyName, deleteQuestion, describe, figures, isRunName, key, levels, newest, pictureCount,
  presses, readOverview, rewardText, rows,
} from "../../web/history/overview.mjs";
import { RunServer } from "../../web/history/server.mjs";

const UUID = "0123456789abcdef0123456789abcdef";

function entry(round, more = {}) {
  const id = String(round).padStart(32, "a");
  return { round, id, reward_mean: round / 10, reward_sd: 0.05, images: 4, ...more };
}

function overview(count = 3, branches = []) {
  return {
    run: "hair", uuid: UUID, round: count,
    history: Array.from({ length: count }, (_, i) => entry(i + 1)),
    branches,
  };
}

test("an overview is read with its branches, newest first", () => {
  const branches = [{ branch: 1, history: [entry(3)] }, { branch: 2, history: [entry(2)] }];
  const read = readOverview(overview(3, branches));
  assert.equal(newest(read), 3);
  assert.deepEqual(rows(read).map((row) => [row.title, row.rounds.map(({ round }) => round)]), [
    ["", [0, 1, 2, 3]], ["Branch 2", [2]], ["Branch 1", [3]],
  ]);
  const keys = rows(read).flatMap((row) => row.rounds.map(key));
  assert.equal(new Set(keys).size, keys.length, "every round of every row has a key of its own");
});

test("what is no overview is none", () => {
  for (const bad of [
    null, undefined, 3, "x", [], {}, { run: "hair" }, { ...overview(), run: "../x" },
    { ...overview(), uuid: "<b>" }, { ...overview(), uuid: 7 },
  ]) {
    assert.equal(readOverview(bad), null);
  }
});

test("values of other kinds are left out, never shown", () => {
  const odd = [
    entry(1, { reward_mean: "<img src=x>", reward_sd: NaN, images: -3, id: "../x", partial: 1 }),
    entry("2"), entry(-1), entry(1.5), null, 7, "x",
  ];
  const read = readOverview({ ...overview(), history: odd, branches: [{ branch: 0 }, null, 5] });
  assert.deepEqual(read.rounds, [
    { round: 1, branch: null, id: "", reward: null, spread: null, images: 0, partial: false },
  ]);
  assert.deepEqual(read.branches, []);
  assert.equal(figures(read.rounds[0]), "");
});

test("levels lie between the lowest and the highest of the whole run", () => {
  const read = readOverview(overview(3, [{ branch: 1, history: [entry(5)] }]));
  assert.deepEqual(levels(read, read.rounds).map((l) => l.toFixed(2)), ["0.00", "0.25", "0.50"]);
  const [start] = rows(read)[0].rounds;
  assert.deepEqual(levels(read, [start]), [null]);
  assert.deepEqual(levels(readOverview(overview(1)), readOverview(overview(1)).rounds), [0.5]);
});

test("words", () => {
  const read = readOverview(overview(3, [{ branch: 2, history: [entry(3, { partial: true })] }]));
  const [start, , second, third] = rows(read)[0].rounds;
  assert.match(describe(start, 3), /^Start/);
  assert.equal(describe(second, 3), "Round 2, mean reward +0.200");
  assert.equal(describe(third, 3), "Round 3, the newest, mean reward +0.300");
  assert.equal(
    describe(rows(read)[1].rounds[0], 3), "Round 3 of branch 2, mean reward +0.300, stopped early",
  );
  assert.equal(
    figures(second, read.rounds[0]),
    "Reward +0.200 ± 0.050 over 4 pictures, +0.100 to the round before",
  );
  assert.equal(rewardText(-0.1234, 2), "−0.12");
  assert.equal(rewardText(-1234.5), "−1235");
  assert.equal(rewardText(null), "");
  assert.match(deleteQuestion(read), /“hair” with its 3 rounds and 1 branch moves/);
  assert.equal(pictureCount({ round: 1, images: 32 }), 8);
  assert.equal(pictureCount(start), 0);
});

test("run names follow the rule of the server", () => {
  for (const good of ["hair", "a", "A b-c_9", "x".repeat(64)]) assert.ok(isRunName(good), good);
  for (const bad of ["", " a", "a ", "../x", "a/b", ".x", "con", "LPT1", "x".repeat(65), "ä", 3]) {
    assert.ok(!isRunName(bad), String(bad));
  }
});

test("names offered for copies are run names", () => {
  const [, , , third] = rows(readOverview(overview(3)))[0].rounds;
  assert.equal(copyName(third, "hair"), "hair r3");
  for (const run of ["x".repeat(64), `${"x".repeat(60)} y z`]) {
    assert.ok(isRunName(copyName({ ...third, round: 9999, branch: 9999 }, run)));
  }
});

test("prompts of the queue that train a run are counted", () => {
  const item = (run) => [0, "id", { 7: { class_type: "PXPO_Run", inputs: { run_name: run } } }];
  const queue = { queue_running: [item("hair")], queue_pending: [item("skin"), item("hair"), []] };
  assert.equal(presses(queue, "hair"), 2);
  assert.equal(presses({}, "hair"), 0);
});

const pause = () => new Promise((resume) => setTimeout(resume, 5));

class Api extends EventTarget {
  constructor(queuePrompt, history = {}) {
    super();
    this.queuePrompt = queuePrompt;
    this.history = history;
    this.listening = 0;
  }

  addEventListener(...rest) {
    this.listening += 1;
    super.addEventListener(...rest);
  }

  removeEventListener(...rest) {
    this.listening -= 1;
    super.removeEventListener(...rest);
  }

  apiURL(path) {
    return `/api${path}`;
  }

  async fetchApi() {
    return { status: 200, json: async () => this.history };
  }

  say(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}

test("a command is a prompt of its own at the end of the queue; its words come back", async () => {
  const sent = [];
  const api = new Api(async (number, prompt) => {
    sent.push([number, prompt]);
    // before the answer with the id is there
    api.say("executed", { prompt_id: "p", output: { text: ["went back"] } });
    api.say("execution_error", { prompt_id: "other", exception_message: "not ours" });
    api.say("execution_success", { prompt_id: "p" });
    return { prompt_id: "p" };
  });
  const words = await new RunServer(api).command("PXPO_GoBack", { run_name: "hair", round: 2 });
  assert.equal(words, "went back");
  assert.equal(sent[0][0], 0);
  assert.deepEqual(Object.values(sent[0][1].output), [
    { class_type: "PXPO_GoBack", inputs: { run_name: "hair", round: 2 } },
  ]);
  assert.equal(api.listening, 0);
});

test("a command that fails says why", async () => {
  for (const [type, detail, message] of [
    ["execution_error", { exception_message: "Run hair has no round 9.\n" }, /has no round 9\.$/],
    ["execution_interrupted", {}, /was stopped/],
  ]) {
    const api = new Api(async () => ({ prompt_id: "p" }));
    const command = new RunServer(api).command("PXPO_GoBack", {});
    setTimeout(() => api.say(type, { prompt_id: "p", ...detail }));
    await assert.rejects(command, { message });
    assert.equal(api.listening, 0);
  }
});

test("a refused command says why", async () => {
  const errors = [{ message: "Custom validation failed", details: "run_name - 'a/b' cannot be." }];
  const api = new Api(async () => {
    const response = { node_errors: { pxpo_command: { errors } } };
    throw Object.assign(new Error("Prompt outputs failed validation"), { response });
  });
  await assert.rejects(new RunServer(api).command("PXPO_CopyRun", {}), {
    message: "'a/b' cannot be.",
  });
});

test("a command that ended while the connection was lost is found in the history", async () => {
  const outputs = { pxpo_command: { text: ["deleted"] } };
  const history = { p: { status: { status_str: "success" }, outputs } };
  const api = new Api(async () => ({ prompt_id: "p" }), history);
  const command = new RunServer(api).command("PXPO_DeleteRun", {});
  setTimeout(() => api.say("reconnected", {}));
  assert.equal(await command, "deleted");
});

test("a command that was taken out of the queue is not waited for", async () => {
  for (const event of ["status", "reconnected"]) {
    const api = new Api(async () => ({ prompt_id: "p" }));
    const pending = [[0, "p"]];
    const answers = { "/queue": { queue_running: [], queue_pending: pending }, "/history/p": {} };
    api.fetchApi = async (path) => ({ status: 200, json: async () => structuredClone(answers[path]) });
    let ended = false;
    const command = new RunServer(api).command("PXPO_DeleteRun", {}).finally(() => {
      ended = true;
    });
    const words = assert.rejects(command, { message: "The command was removed from the queue." });
    await pause();
    api.say("status", {});
    await pause();
    assert.equal(ended, false, "it is still in the queue");
    api.fetchApi = async () => {
      throw new TypeError("Failed to fetch");
    };
    api.say("status", null);
    await pause();
    assert.equal(ended, false, "nobody knows");
    pending.length = 0;
    api.fetchApi = async (path) => ({ status: 200, json: async () => structuredClone(answers[path]) });
    api.say(event, {});
    await words;
    assert.equal(api.listening, 0);
  }
});

test("a command that ends while the queue is asked for says its own words", async () => {
  const api = new Api(async () => ({ prompt_id: "p" }));
  api.fetchApi = async (path) => {
    if (path === "/queue") {
      api.say("execution_error", { prompt_id: "p", exception_message: "No round 9." });
    }
    return { status: 200, json: async () => ({}) };
  };
  const command = new RunServer(api).command("PXPO_GoBack", {});
  setTimeout(() => api.say("status", {}));
  await assert.rejects(command, { message: "No round 9." });
});

test("addresses of pictures", () => {
  const server = new RunServer(new Api());
  const url = (more) =>
    new URLSearchParams(server.thumbUrl("a run", { round: 3, branch: null, id: UUID, ...more }, 1)
      .split("?")[1]);
  assert.equal(url({}).get("subfolder"), "pxpo/a run/round_0003");
  assert.equal(url({}).get("filename"), "thumb_01.jpg");
  assert.equal(url({}).get("v"), UUID);
  assert.equal(url({ branch: 2 }).get("subfolder"), "pxpo/a run/branches/0002/round_0003");
});
