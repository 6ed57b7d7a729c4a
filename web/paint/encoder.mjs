/** Map files made in a worker; where pages may not start one, made here. */

import { encodeMap } from "./png.mjs";

export class Encoder {
  /** @param {(() => Worker) | null} start null: no worker */
  constructor(start = startWorker) {
    this.start = start;
    this.worker = null;
    this.jobs = new Map(); // id -> what to do with the answer
    this.count = 0;
  }

  /**
   * @param {Int8Array} values width * height, rows from the top; must not change until done
   * @param {string} owner as encodeMap takes it
   * @returns {Promise<Uint8Array>} a PNG file
   */
  async encode(width, height, values, owner) {
    const worker = this.#ready();
    if (!worker) return encodeMap(width, height, values, owner);
    const id = ++this.count;
    return new Promise((resolve, reject) => {
      this.jobs.set(id, { resolve, reject });
      // Not transferred: when the worker cannot be loaded, the values are still needed here.
      worker.postMessage({ id, width, height, values, owner });
    }).catch((error) => {
      if (this.start) throw error;
      return encodeMap(width, height, values, owner);
    });
  }

  dispose() {
    this.worker?.terminate();
    this.worker = null;
  }

  #ready() {
    if (this.worker || !this.start) return this.worker;
    try {
      this.worker = this.start();
    } catch {
      this.start = null; // not allowed on this page
      return null;
    }
    this.worker.addEventListener("message", ({ data }) => {
      const job = this.jobs.get(data.id);
      this.jobs.delete(data.id);
      if (data.error) job?.reject(new Error(data.error));
      else job?.resolve(data.file);
    });
    this.worker.addEventListener("error", () => this.#giveUp());
    return this.worker;
  }

  /** The worker's script could not be loaded: from now on without it. */
  #giveUp() {
    this.start = null;
    this.dispose();
    const jobs = [...this.jobs.values()];
    this.jobs.clear();
    for (const job of jobs) job.reject(new Error("The worker could not be loaded."));
  }
}

function startWorker() {
  return new Worker(new URL("./map_worker.mjs", import.meta.url), { type: "module" });
}
