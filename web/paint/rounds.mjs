/**
 * What runs have done with the marks of each paint node, by the id in the node's value. Widgets come
 * and go (another workflow tab, an undo of the graph); a round that ends meanwhile is noticed here.
 *
 * Events: "change" when something other than the pictures changed.
 *
 * @typedef {import("./value.mjs").Mark} Mark
 * @typedef {{prompt: string, round: number, batch: string, marks: Mark[], problem: string,
 *   noted: boolean, greeted: boolean, next?: string}} Learned a run has trained on these marks of a
 *   batch; problem: why no new pictures come; noted: it is in the node's value; greeted: it was said
 *   over new ones; next: the run that brings them
 * @typedef {{prompt: string | null, batch: string | null, sent: Mark[], painted: Mark[],
 *   learned: Learned | null, goesOn: string | null, autoNext: boolean}} Round
 *   prompt: the run that showed the pictures; sent: what the last run was given; painted: what of
 *   that is on these pictures; goesOn: the run that has got its answer and is not over
 */

export class Rounds extends EventTarget {
  /** @param {import("./host.mjs").Host} host */
  constructor(host) {
    super();
    this.host = host;
    this.byNode = new Map();
    host.on("executed", (detail) => this.#executed(detail));
    host.on("execution_success", (detail) => this.#ended(detail.prompt_id, true));
    host.on("execution_error", (detail) => this.#ended(detail.prompt_id, false));
    host.on("execution_interrupted", (detail) => this.#ended(detail.prompt_id, false));
    host.on("reconnected", () => this.#reconnected());
  }

  /** @param {string} node the id in a value @returns {Round} */
  of(node) {
    if (!this.byNode.has(node)) {
      this.byNode.set(node, {
        prompt: null, batch: null, sent: [], painted: [], learned: null, goesOn: null,
        autoNext: true,
      });
    }
    return this.byNode.get(node);
  }

  /** A run shows pictures. @param {{node: string, batch: string, images: object[]}} shown */
  show({ node, batch, images }, prompt) {
    const round = this.of(node);
    const found = new Set(Array.isArray(images) ? images.map((image) => image.mark) : []);
    Object.assign(round, { prompt, batch });
    round.painted = round.sent.filter((mark) => mark.map && !mark.learned && found.has(mark.thumb));
    const { learned } = round;
    // Such as after going back a round: these can be learned from once more.
    if (learned && learned.prompt !== prompt && learned.batch === batch) round.learned = null;
  }

  #executed({ output, prompt_id: prompt }) {
    for (const shown of output?.pxpo_paint ?? []) this.show(shown, prompt);
    const update = output?.pxpo_update?.find((one) => one.painted && one.trained);
    if (!update) return;
    for (const round of this.byNode.values()) {
      // A mask alone trains too, but asking for the next batch then would never end.
      if (round.prompt !== prompt || round.painted.length === 0) continue;
      round.learned = {
        prompt, round: update.round, batch: round.batch, marks: round.painted, problem: "",
        noted: false, greeted: false,
      };
      Object.assign(round, { sent: [], painted: [], goesOn: null });
    }
    this.#changed();
  }

  /** A run is over: after training, ask for the next pictures by the same prompt, once. */
  async #ended(prompt, success) {
    const rounds = [...this.byNode.values()];
    for (const round of rounds) if (round.goesOn === prompt) round.goesOn = null;
    const learned = rounds.filter((round) => round.learned?.prompt === prompt);
    const say = (problem, whose) => {
      for (const round of whose) if (round.learned) round.learned.problem = problem;
      this.#changed();
    };
    const next = rounds.filter((round) => round.learned?.next === prompt);
    say(success ? "" : "The run did not get to its end. Press Run for new pictures.",
      [...learned, ...next]);
    const isAsked = learned.some((round) => round.autoNext);
    if (!success || !isAsked || this.host.queueMode.startsWith("instant")) return;
    try {
      const answer = await this.host.queueAgain(prompt);
      for (const round of learned) if (round.learned) round.learned.next = answer?.prompt_id;
    } catch (error) {
      say(`The next pictures could not be asked for (${error.message}). Press Run.`, learned);
    }
  }

  /** The server is back, perhaps another process: nothing of before is still running. */
  #reconnected() {
    for (const round of this.byNode.values()) round.goesOn = null;
    this.#changed();
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
  }
}
