/**
 * The widget's files on the server, through the host's own /upload/image and /view.
 *
 * Thumbnails are named by their content and shared, maps by theirs and the picture they belong to;
 * pictures lie in a folder of the node.
 */

import { Encoder } from "./encoder.mjs";
import { decodeMap } from "./png.mjs";
import { SignedMap } from "./signed_map.mjs";

const FOLDER = "pxpo";
const RETRY_MS = 4000;

/** One for all paint nodes of a page. Events: "state" when saving started, ended or failed. */
export class PaintStorage extends EventTarget {
  /** @param {{fetchApi: Function, apiURL: Function}} api the host's */
  constructor(api) {
    super();
    this.api = api;
    this.encoder = new Encoder();
    this.waiting = new Map(); // name -> the map's parts, until the server has it
    this.values = new Map(); // node -> its newest value, until the server has it
    this.working = null;
    this.failed = false;
    this.retry = null;
  }

  get isSaving() {
    return this.waiting.size > 0 || this.values.size > 0;
  }

  thumbUrl(thumb) {
    return this.#viewUrl("thumbs", `${thumb}.png`);
  }

  pictureUrl(node, picture) {
    return this.#viewUrl(node, `${picture}.jpg`);
  }

  /** The batches a node has shown, newest first; none when there are none yet. */
  async batches(node) {
    const response = await this.#view(node, "batch.json", { cache: "no-store" });
    if (!response) return [];
    const { batches } = await response.json();
    return Array.isArray(batches) ? batches : [];
  }

  /** A saved map, or null when the file is not on this server. */
  async loadMap(name) {
    const unsaved = this.waiting.get(name);
    if (unsaved) return new SignedMap(unsaved.width, unsaved.height, unsaved.values.slice());
    const response = await this.#view("maps", `${name}.png`);
    if (!response) return null;
    const { width, height, values } = await decodeMap(new Uint8Array(await response.arrayBuffer()));
    return new SignedMap(width, height, values);
  }

  /**
   * Save a copy of a map soon; `flush` tells when.
   * @param {SignedMap} map
   * @param {string} owner the node and the picture's thumb: what lets the server tidy up
   */
  save(name, { width, height, data }, owner) {
    if (this.waiting.has(name)) return;
    this.waiting.set(name, { width, height, values: data.slice(), owner });
    this.#changed();
    this.#work().catch(() => {}); // reported by "state", retried, and thrown by flush
  }

  /** Save a node's value soon: the browser keeps a workflow only seconds later, a crash is quicker. */
  saveValue(value) {
    this.values.set(value.node, value);
    this.#changed();
    this.#work().catch(() => {}); // as in save
  }

  /** The last value saved for a node, unchecked; null when there is none. */
  async savedValue(node) {
    const response = await this.#view(node, "marks.json", { cache: "no-store" });
    return response ? response.json() : null;
  }

  /** Wait until everything is on the server; throws when it cannot be reached. */
  async flush() {
    if (this.isSaving) await this.#work();
  }

  #work() {
    this.working ??= this.#uploadAll();
    return this.working;
  }

  /** What is added meanwhile is uploaded too: nobody else would. Maps first, values name them. */
  async #uploadAll() {
    clearTimeout(this.retry);
    await new Promise((resume) => setTimeout(resume)); // the stroke's own frame comes first
    try {
      while (this.isSaving) {
        const [map] = this.waiting;
        const [value] = this.values.values();
        await (map ? this.#uploadMap(...map) : this.#uploadValue(value));
      }
      this.failed = false;
    } catch (error) {
      this.failed = true;
      this.retry = setTimeout(() => this.#work().catch(() => {}), RETRY_MS);
      throw new Error("The painted marks could not be saved on the server.", { cause: error });
    } finally {
      this.working = null;
      this.#changed();
    }
  }

  async #uploadMap(name, { width, height, values, owner }) {
    const png = await this.encoder.encode(width, height, values, owner);
    await this.#upload("maps", new File([png], `${name}.png`, { type: "image/png" }));
    this.waiting.delete(name);
  }

  async #uploadValue(value) {
    const file = new File([JSON.stringify(value)], "marks.json", { type: "application/json" });
    await this.#upload(value.node, file);
    if (this.values.get(value.node) === value) this.values.delete(value.node);
  }

  /** Answer a run that waits, once everything the answer names is on the server. */
  async answer(token, value) {
    await this.flush();
    const file = new File([JSON.stringify(value)], `${token}.json`, { type: "application/json" });
    await this.#upload("answers", file);
  }

  async #upload(folder, file) {
    const body = new FormData();
    body.append("image", file);
    body.append("type", "input");
    body.append("subfolder", `${FOLDER}/${folder}`);
    body.append("overwrite", "true"); // same name means same content
    const response = await this.api.fetchApi("/upload/image", { method: "POST", body });
    if (response.status !== 200) throw new Error(`/upload/image answered ${response.status}.`);
  }

  async #view(folder, name, options) {
    const response = await fetch(this.#viewUrl(folder, name), options);
    if (response.status === 404) return null;
    if (!response.ok) throw new Error(`/view answered ${response.status}.`);
    return response;
  }

  #viewUrl(folder, filename) {
    const query = new URLSearchParams({ filename, subfolder: `${FOLDER}/${folder}`, type: "input" });
    return this.api.apiURL(`/view?${query}`);
  }

  #changed() {
    this.dispatchEvent(new CustomEvent("state"));
  }
}
