/** What the history asks of the server: a run's files, and commands in the order of the queue. */

const NODE = "pxpo_command"; // no node of a graph has this id
const NO_WORKFLOW = {
  last_node_id: 0, last_link_id: 0, nodes: [], links: [], groups: [], config: {}, extra: {},
  version: 0.4,
};
const ENDS = ["execution_success", "execution_error", "execution_interrupted"];

export class RunServer {
  /** @param {{fetchApi: Function, apiURL: Function, queuePrompt: Function}} api the host's */
  constructor(api) {
    this.api = api;
  }

  /** overview.json of a run; null when there is none. */
  async overview(run) {
    const response = await fetch(this.#viewUrl(`pxpo/${run}`, "overview.json"), {
      cache: "no-store",
    });
    if (response.status === 404) return null;
    if (!response.ok) throw new Error(`/view answered ${response.status}.`);
    return await response.json();
  }

  /** Address of a picture of a round; a round made again has another address. */
  thumbUrl(run, entry, index) {
    const branch = entry.branch === null ? "" : `/branches/${pad(entry.branch, 4)}`;
    const folder = `pxpo/${run}${branch}/round_${pad(entry.round, 4)}`;
    return this.#viewUrl(folder, `thumb_${pad(index, 2)}.jpg`, entry.id);
  }

  /** The host's queue, as /queue tells it. */
  async queue() {
    const response = await this.api.fetchApi("/queue");
    if (response.status !== 200) throw new Error(`/queue answered ${response.status}.`);
    return await response.json();
  }

  /**
   * Queue a command as a prompt of its own and wait for its end.
   * @returns {Promise<string>} what the node says; rejects with the reason when it fails
   */
  async command(classType, inputs) {
    const events = new Events(this.api);
    try {
      const output = { [NODE]: { class_type: classType, inputs } };
      let answer;
      try {
        answer = await this.api.queuePrompt(0, { output, workflow: NO_WORKFLOW });
      } catch (error) {
        throw new Error(refusal(error.response) ?? error.message, { cause: error });
      }
      return await events.end(answer.prompt_id);
    } finally {
      events.stop();
    }
  }

  #viewUrl(subfolder, filename, version) {
    const query = new URLSearchParams({ filename, subfolder, type: "output" });
    if (version) query.set("v", version);
    return this.api.apiURL(`/view?${query}`);
  }
}

/** Collects what the server says of prompts, from before the prompt's id is known. */
class Events {
  constructor(api) {
    this.api = api;
    this.seen = [];
    this.wake = () => {};
    this.doubtful = false; // whether the prompt may have ended unheard, or be gone
    this.listeners = [
      ...["executed", ...ENDS].map((type) => [
        type,
        ({ detail }) => this.#add(type, detail ?? {}),
      ]),
      // "status" is all that is said when a prompt is taken out of the queue.
      ...["status", "reconnected"].map((type) => [
        type,
        () => {
          this.doubtful = true;
          this.wake();
        },
      ]),
    ];
    for (const [type, listener] of this.listeners) api.addEventListener(type, listener);
  }

  stop() {
    for (const [type, listener] of this.listeners) this.api.removeEventListener(type, listener);
  }

  async end(prompt) {
    for (;;) {
      const ended = this.#end(prompt);
      if (ended) {
        return outcome(ended, this.seen.find(
          ({ type, detail }) => type === "executed" && detail.prompt_id === prompt,
        ));
      }
      if (this.doubtful) {
        this.doubtful = false;
        const missed = await this.#lookFor(prompt);
        if (missed) return reported(missed);
        continue; // what was said meanwhile
      }
      await new Promise((resume) => {
        this.wake = resume;
      });
    }
  }

  /**
   * The history's entry of a prompt that has ended; null while it has not, or nobody knows.
   * In this order: a prompt goes from the queue into the history at once.
   */
  async #lookFor(prompt) {
    const queue = await this.#get("/queue");
    if (!queue || items(queue).some(([, id]) => id === prompt)) return null;
    const history = await this.#get(`/history/${encodeURIComponent(prompt)}`);
    if (!history) return null;
    if (this.#end(prompt)) return null; // heard meanwhile, and it says more
    if (!history[prompt]) throw new Error("The command was removed from the queue.");
    return history[prompt];
  }

  #end(prompt) {
    return this.seen.find(({ type, detail }) => ENDS.includes(type) && detail.prompt_id === prompt);
  }

  /** The server's answer; null while there is none, which the next event makes us ask again. */
  async #get(path) {
    const response = await this.api.fetchApi(path).catch(() => null);
    return response?.status === 200 ? response.json() : null;
  }

  #add(type, detail) {
    this.seen.push({ type, detail });
    this.wake();
  }
}

function items({ queue_running: running = [], queue_pending: pending = [] }) {
  return [...running, ...pending];
}

function reported(entry) {
  if (entry.status?.status_str !== "success") throw new Error("The command did not succeed.");
  return text(entry.outputs?.[NODE]) ?? "Done.";
}

function outcome({ type, detail }, executed) {
  if (type === "execution_success") return text(executed?.detail.output) ?? "Done.";
  if (type === "execution_interrupted") throw new Error("The command was stopped.");
  throw new Error(detail.exception_message?.trim() || "The command failed.");
}

function text(output) {
  const [first] = Array.isArray(output?.text) ? output.text : [];
  return typeof first === "string" ? first : null;
}

/** The sentence in the host's answer to a prompt it refused. */
function refusal(response) {
  for (const node of Object.values(response?.node_errors ?? {})) {
    for (const { details, message } of node.errors ?? []) {
      const sentence = String(details ?? message ?? "");
      return sentence.includes(" - ") ? sentence.slice(sentence.indexOf(" - ") + 3) : sentence;
    }
  }
  return null;
}

function pad(number, width) {
  return String(number).padStart(width, "0");
}
