/**
 * Ties the painting to the host: the widget's value, the files on the server, and the events of a
 * run. One of these per node; it listens only while its node is in a graph.
 */

import { contentName } from "./identity.mjs";
import { Panel } from "./panel.mjs";
import { PaintSession } from "./session.mjs";
import { StatusLine } from "./status.mjs";
import { Waiting } from "./waiting.mjs";
import {
  emptyValue, marksShown, moveMark, promptValue, readValue, sameMarks, withLearned, withMark,
} from "./value.mjs";

export class PaintWidget {
  /**
   * @param {object} node the graph's node
   * @param {import("./host.mjs").Host} host
   * @param {import("./storage.mjs").PaintStorage} storage one for all nodes of the page
   * @param {(id: string) => boolean} isTaken whether another node in the graph has this id
   */
  constructor(node, host, storage, isTaken) {
    this.node = node;
    this.host = host;
    this.isTaken = isTaken;
    this.value = emptyValue();
    this.prompt = null; // the run that showed the current pictures
    this.learned = null; // {prompt, round} once a run has trained on the current marks
    this.sent = []; // the marks that the last run was given
    this.newer = null; // a value that was saved after the one the workflow has
    this.goesOn = null; // the run that has got its answer and is not over
    this.note = "";
    this.frame = 0;
    this.session = new PaintSession();
    this.storage = storage;
    this.status = new StatusLine({
      goOn: () => this.#goOn(),
      use: () => this.#set({ used: this.value.marks }),
      restore: () => this.#restoreNewer(),
      autoNext: (autoNext) => this.#set({ autoNext }),
    });
    this.panel = new Panel(this.session, {
      pictureUrl: (page) => this.storage.pictureUrl(this.pictureNode, page.picture),
      thumbUrl: (page) => this.storage.thumbUrl(page.thumb),
    }, this.status);
    this.pictureNode = this.value.node;
    this.session.addEventListener("paint", ({ detail }) => this.panel.stage.repaint(detail));
    this.session.addEventListener("finish", ({ detail }) => this.#keep(detail));
    this.session.addEventListener("view", () => this.#update());
    this.waiting = new Waiting();
    this.waiting.addEventListener("change", () => this.#update());
    this.panel.element.addEventListener("pointerenter", () => this.#update());
    this.stopListening = () => {};
    this.#update();
  }

  /** The node is in a graph now. */
  attach() {
    this.detach();
    this.#avoidTwins();
    const { host, storage } = this;
    const saving = () => this.#update();
    storage.addEventListener("state", saving);
    const stops = [
      host.on("executed", (detail) => this.#executed(detail)),
      host.on("execution_success", (detail) => this.#ended(detail.prompt_id, true)),
      host.on("execution_error", (detail) => this.#ended(detail.prompt_id, false)),
      host.on("execution_interrupted", (detail) => this.#ended(detail.prompt_id, false)),
      host.on("pxpo.wait", (detail) => this.#asked(detail)),
      host.on("reconnected", () => this.#reconnected()),
      () => storage.removeEventListener("state", saving),
    ];
    this.stopListening = () => stops.forEach((stop) => stop());
  }

  detach() {
    this.stopListening();
    this.stopListening = () => {};
  }

  dispose() {
    this.detach();
    cancelAnimationFrame(this.frame);
    this.panel.dispose();
    this.waiting.dispose();
  }

  /** What the workflow stores. */
  getValue() {
    return this.value;
  }

  /** A workflow was loaded, pasted or undone. */
  setValue(stored) {
    if (stored === this.value || JSON.stringify(stored) === JSON.stringify(this.value)) return;
    const value = readValue(stored);
    const nothing = stored === undefined || stored === null || stored === "";
    this.note = value || nothing ? "" : "The saved marks could not be read; starting with none.";
    this.value = value ?? emptyValue();
    this.#avoidTwins();
    this.pictureNode = this.value.node;
    this.session.show([]); // even if the pictures stay, their marks may differ
    this.#restore();
  }

  /** What a prompt carries; waits until the files it names are on the server. */
  async serialize() {
    this.session.endStroke();
    // Two workflows made from one file: from its first run on, this one has an id of its own.
    if (this.host.isInAnotherWorkflow(this.value.node)) this.#takeNewId();
    await this.storage.flush();
    const byPress = this.host.queueMode === "disabled";
    this.sent = byPress ? this.value.marks : (this.value.used ?? []);
    return promptValue(this.value, this.sent);
  }

  /** A copied node gets an id of its own; its marks stay, as their files are shared. */
  #avoidTwins() {
    if (this.isTaken(this.value.node)) this.#takeNewId();
  }

  #takeNewId() {
    const { node } = this.value;
    this.value = { ...this.value, node: emptyValue().node, copiedFrom: node };
  }

  /** The server is back, perhaps another process: nothing of before is still running. */
  #reconnected() {
    if (this.goesOn) {
      this.goesOn = null;
      this.session.lock(false);
    }
    this.#restore();
  }

  /**
   * Show what this node showed last: the batch with marks that no run has learned from, as a copy
   * of the workflow may have shown others since, or else the newest.
   */
  async #restore() {
    const { value } = this;
    try {
      for (const node of [value.node, value.copiedFrom]) {
        const batches = node ? await this.storage.batches(node) : [];
        const marked = this.#isPainted() && batches.find((one) => one.batch === value.batch);
        const batch = marked || batches[0];
        if (this.value.node !== value.node) return; // another workflow came in meanwhile
        if (!batch) continue;
        this.pictureNode = node;
        await this.#show(batch);
        await this.#lookForNewer();
        return;
      }
    } catch (error) {
      this.#failed(error);
    }
    this.#update();
  }

  /** After a crash, or in an older file of the workflow: marks that were saved later. */
  async #lookForNewer() {
    const { value } = this;
    const saved = readValue(await this.storage.savedValue(value.node));
    if (this.value !== value || saved?.node !== value.node) return;
    const isNewer = (saved.edited ?? 0) > (value.edited ?? 0) && saved.batch === value.batch;
    this.newer = isNewer && !sameMarks(marksShown(saved), marksShown(value)) ? saved : null;
    this.#update();
  }

  async #restoreNewer() {
    const { marks, edited } = this.newer;
    this.newer = null;
    this.#set({ marks, edited });
    this.session.show([]);
    await this.#restore();
  }

  #executed({ output, prompt_id: prompt }) {
    const shown = output?.pxpo_paint?.find((one) => one.node === this.value.node);
    if (shown) {
      this.prompt = prompt;
      this.pictureNode = shown.node;
      if (prompt !== this.learned?.prompt && prompt !== this.goesOn) this.session.lock(false);
      this.#show(shown).catch((error) => this.#failed(error));
    }
    const update = output?.pxpo_update?.find((one) => one.painted && one.trained);
    // A mask alone trains too, but asking for the next batch then would never end.
    if (update && prompt === this.prompt && this.#isPainted()) {
      this.learned = { prompt, round: update.round };
      this.value = withLearned(this.value, this.value.batch, this.sent);
      this.goesOn = null;
      this.session.lock(true);
      this.host.changed(this.node);
    }
  }

  /** A run waits for marks, or does so no longer. */
  #asked(detail) {
    if (detail.node !== this.value.node) return;
    if (detail.over) {
      if (this.waiting.end(detail.token)) this.note = `${detail.why}.`;
      return;
    }
    if (!this.waiting.hear(detail)) return;
    this.prompt = detail.prompt_id;
    this.goesOn = null;
    this.pictureNode = detail.node;
    this.note = "";
    this.session.lock(false);
    this.#show(detail.shown).catch((error) => this.#failed(error));
  }

  /** Let the run that waits go on with the marks there are now. */
  async #goOn() {
    const { token } = this.waiting;
    this.session.endStroke();
    try {
      this.sent = this.value.marks;
      await this.storage.answer(token, promptValue(this.value, this.sent));
      this.waiting.answer();
      this.goesOn = this.waiting.prompt;
      this.session.lock(true);
    } catch (error) {
      this.note = `The run could not be told to go on: ${error.message}`;
      this.#update();
    }
  }

  #failed(error) {
    this.note = `The pictures could not be loaded: ${error.message}`;
    this.#update();
  }

  /** Whether a person's marks on the current pictures are in the value. */
  #isPainted() {
    const { marks, batch } = this.value;
    return marks.some((mark) => mark.batch === batch && mark.map && !mark.learned);
  }

  /** A run is over: after training, ask for the next pictures by the same prompt. */
  async #ended(prompt, success) {
    if (prompt === this.goesOn) {
      this.goesOn = null;
      if (prompt !== this.learned?.prompt) this.session.lock(false); // it failed, or learned nothing
      this.#update();
    }
    if (prompt !== this.learned?.prompt) return;
    if (!success || !this.value.autoNext || this.host.queueMode.startsWith("instant")) {
      this.#update();
      return;
    }
    try {
      await this.host.queueAgain(prompt);
    } catch (error) {
      this.note = `The next pictures could not be asked for: ${error.message}`;
      this.#update();
    }
  }

  /** @param {{batch: string, images: object[], kept?: number, missing?: number}} shown */
  async #show({ batch, images, kept = 0, missing = 0 }) {
    if (!Array.isArray(images)) return;
    const same = batch === this.value.batch && this.session.pages.length === images.length;
    if (same && this.session.pages.every((page, i) => page.thumb === images[i].thumb)) {
      this.#update();
      return;
    }
    const before = JSON.stringify(this.value);
    let { value } = this;
    for (const image of images) {
      if (image.mark && image.mark !== image.thumb) {
        value = moveMark(value, image.mark, image.thumb, batch);
      }
    }
    this.value = { ...value, batch };
    // A new batch is looked at from its start; one that was seen before, where it was left.
    const known = images.some((image) => image.mark);
    this.session.show(images, known ? this.session.index : 0);
    const { pages } = this.session;
    const lost = await Promise.all(pages.map((page, i) => this.#loadPage(page, images[i].start)));
    if (pages !== this.session.pages) return;
    this.session.lock(false);
    this.note = this.#greeting(kept, missing + lost.filter(Boolean).length);
    this.learned = null;
    // Only then: a change after an undo of the graph would leave nothing to redo.
    if (JSON.stringify(this.value) !== before) this.host.changed(this.node);
    this.#update();
  }

  /** @returns {Promise<boolean>} whether the page's marks are not on this server */
  async #loadPage(page, start) {
    const mark = this.value.marks.find((one) => one.thumb === page.thumb);
    page.start = start ?? null;
    const name = mark ? mark.map : page.start;
    const map = name ? await this.storage.loadMap(name) : null;
    const fits = map?.width === page.width && map?.height === page.height;
    if (page.touched) return false; // painted on while its file was coming
    const lost = Boolean(mark?.map) && !fits;
    this.session.load(page, fits ? map : null, {
      reviewed: Boolean(mark?.reviewed) && !lost,
      touched: Boolean(mark) && !lost,
    });
    return lost;
  }

  #greeting(kept, missing) {
    if (this.learned) {
      return `Round ${this.learned.round} has learned from your marks. Here are new pictures.`;
    }
    if (this.session.pages.some((page) => !page.isBlank)) return "";
    if (missing) return "No feedback here yet: earlier marks are not on this computer.";
    if (kept && this.value.marks.some((mark) => mark.map && !mark.learned)) {
      return "Marks kept for the previous batch; they come back with its pictures.";
    }
    return "";
  }

  /** A change to a page is complete: put it into the value and on the server. */
  #keep(page) {
    if (!page.touched && page.start) return; // only looked at: the mask still counts
    const owner = `${this.value.node} ${page.thumb}`;
    const map = page.isBlank ? null : contentName(page.map.digestInput(), owner);
    this.value = withMark(this.value, {
      thumb: page.thumb, map, width: page.width, height: page.height, reviewed: page.reviewed,
      batch: this.value.batch,
    });
    this.value.edited = Date.now();
    this.newer = null;
    if (map) this.storage.save(map, page.map, owner);
    this.storage.saveValue(this.value);
    this.note = "";
    this.host.changed(this.node);
  }

  #set(part) {
    this.value = { ...this.value, ...part };
    this.host.changed(this.node);
    this.#update();
  }

  /** Show the state, once per frame however often it changes. */
  #update() {
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      this.panel.update();
      this.status.update(this.#status());
    });
  }

  #status() {
    const { session, storage, value, waiting, note } = this;
    const state = {
      next: value.autoNext, autoNext: session.pages.length > 0 && !this.newer,
      restore: Boolean(this.newer),
    };
    const painted = session.pages.filter((page) => !page.isBlank).length;
    const count = `Marks on ${painted} of ${session.pages.length} pictures`;
    if (storage.failed) {
      return { ...state, text: "Not saved yet: the server does not answer. Trying again…" };
    }
    if (this.goesOn) return { ...state, text: "The run goes on with your marks…" };
    if (waiting.isOpen) {
      const text = painted
        ? `${count}. The run waits for you.`
        : `${note ? `${note} ` : ""}The run waits for you: paint, then press Continue.`;
      return { ...state, text, time: waiting.timeLeft(), goOn: true };
    }
    if (session.locked && this.learned) {
      const done = `Round ${this.learned.round} has learned from these marks.`;
      const next = value.autoNext
        ? "The next pictures are on their way…"
        : "Press Run for new pictures.";
      return { ...state, text: `${done} ${next}` };
    }
    const use = this.#waitsForRelease();
    if (note || session.pages.length === 0) return { ...state, text: note, use };
    if (painted === 0) {
      return { ...state, text: "Paint what you like and dislike, then press Run.", use };
    }
    const saved = storage.isSaving ? "saving…" : "saved";
    const then = use ? "They do not count yet." : "Press Run to learn from them.";
    return { ...state, text: `${count}, ${saved}. ${then}`, use };
  }

  #waitsForRelease() {
    const { used = [], marks } = this.value;
    return this.host.queueMode !== "disabled" && !sameMarks(used, marks);
  }
}
