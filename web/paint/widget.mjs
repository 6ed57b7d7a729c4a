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
  emptyValue, isAmong, marksShown, moveMark, promptValue, readValue, sameMarks, withLearned,
  withMark, withoutMark,
} from "./value.mjs";

export class PaintWidget {
  /**
   * @param {object} node the graph's node
   * @param {{host: import("./host.mjs").Host, storage: import("./storage.mjs").PaintStorage,
   *   rounds: import("./rounds.mjs").Rounds}} shared one of each for all nodes of the page
   * @param {(id: string) => boolean} isTaken whether another node in the graph has this id
   */
  constructor(node, { host, storage, rounds }, isTaken) {
    this.node = node;
    this.host = host;
    this.rounds = rounds;
    this.isTaken = isTaken;
    this.value = emptyValue();
    this.newer = null; // a value that was saved after the one the workflow has
    this.attached = false;
    this.unshown = false; // the value came before the node was in a graph
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

  /** The node is in a graph now; a copy on its way to the clipboard never is. */
  attach() {
    this.detach();
    this.attached = true;
    this.#avoidTwins();
    const { host, storage, rounds, panel } = this;
    const saving = () => this.#update();
    const follow = () => this.#followRound();
    storage.addEventListener("state", saving);
    rounds.addEventListener("change", follow);
    panel.stage.pointers.attach();
    const stops = [
      host.on("executed", (detail) => this.#executed(detail)),
      host.on("pxpo.wait", (detail) => this.#asked(detail)),
      host.on("reconnected", () => this.#restore()),
      () => storage.removeEventListener("state", saving),
      () => rounds.removeEventListener("change", follow),
      () => panel.stage.pointers.detach(),
    ];
    this.stopListening = () => stops.forEach((stop) => stop());
    if (this.unshown) this.#restore();
  }

  detach() {
    this.attached = false;
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
    if (this.attached) this.#restore();
    else this.unshown = true;
  }

  /** What a prompt carries; waits until the files it names are on the server. */
  async serialize() {
    const byPress = this.host.queueMode === "disabled";
    // A host that runs by itself asks after every change, also while a stroke is drawn.
    if (byPress) this.session.endStroke();
    // Two workflows made from one file: from its first run on, this one has an id of its own.
    if (this.host.isInAnotherWorkflow(this.value.node)) this.#takeNewId();
    await this.storage.flush();
    const { autoNext } = this.value;
    const marks = byPress ? this.value.marks : (this.value.used ?? []);
    // Those that were released stay so after a run has learned from them, as they were.
    const learned = this.value.marks.filter((mark) => mark.learned);
    const sent = marks.filter((mark) => !isAmong(learned, mark));
    Object.assign(this.#round, { sent, autoNext });
    return promptValue(this.value, marks);
  }

  /** What runs have done with this node's marks. */
  get #round() {
    return this.rounds.of(this.value.node);
  }

  /** What a run has learned from the marks on the pictures shown, if one has. */
  get #learned() {
    const { learned } = this.#round;
    return learned?.batch === this.value.batch ? learned : null;
  }

  /** A copied node gets an id of its own; its marks stay, as their files are shared. */
  #avoidTwins() {
    if (this.isTaken(this.value.node)) this.#takeNewId();
  }

  #takeNewId() {
    const { node } = this.value;
    this.value = { ...this.value, node: emptyValue().node, copiedFrom: node };
  }

  /**
   * Show what this node showed last: the batch with marks that no run has learned from, as a copy
   * of the workflow may have shown others since, or else the newest.
   */
  async #restore() {
    const { value } = this;
    this.unshown = false;
    this.#round.autoNext = value.autoNext;
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

  #executed({ output }) {
    const shown = output?.pxpo_paint?.find((one) => one.node === this.value.node);
    if (!shown) return;
    this.pictureNode = shown.node;
    this.#show(shown).catch((error) => this.#failed(error));
  }

  /** Something became of a run: no painting on pictures that were learned from. */
  #followRound() {
    const { learned, goesOn } = this.#round;
    if (learned && !learned.noted) {
      learned.noted = true;
      this.value = withLearned(this.value, learned.marks);
      this.note = "";
      this.host.changed(this.node);
    }
    const locked = Boolean(goesOn || this.#learned);
    if (locked !== this.session.locked) this.session.lock(locked);
    this.#update();
  }

  /** A run waits for marks, or does so no longer. */
  #asked(detail) {
    if (detail.node !== this.value.node) return;
    if (detail.over) {
      // Without a reason it was answered, by another page.
      if (this.waiting.end(detail.token) && detail.why) this.note = `${detail.why}.`;
      return;
    }
    if (!this.waiting.hear(detail)) return;
    this.rounds.show({ ...detail.shown, node: detail.node }, detail.prompt_id);
    this.#round.goesOn = null;
    this.pictureNode = detail.node;
    this.note = "";
    this.#followRound();
    this.#show(detail.shown).catch((error) => this.#failed(error));
  }

  /** Let the run that waits go on with the marks there are now. */
  async #goOn() {
    const { token } = this.waiting;
    this.session.endStroke();
    try {
      const { marks } = this.value;
      this.#round.sent = marks;
      await this.storage.answer(token, promptValue(this.value, marks));
      this.waiting.answer();
      this.#round.goesOn = this.waiting.prompt;
      this.#followRound();
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
    // After an undo of the graph the value does not know what was learned.
    const learned = this.#round.learned?.marks ?? [];
    return marksShown(this.value).some(
      (mark) => mark.map && !mark.learned && !isAmong(learned, mark),
    );
  }

  /** @param {{batch: string, images: object[], kept?: number, missing?: number}} shown */
  async #show({ batch, images, kept = 0, missing = 0 }) {
    if (!Array.isArray(images)) return;
    const same = batch === this.value.batch && this.session.pages.length === images.length;
    if (same && this.session.pages.every((page, i) => page.thumb === images[i].thumb)) {
      await this.#loadPages(images); // those that could not be loaded before
      this.#followRound();
      return;
    }
    this.session.endStroke(); // what was drawn belongs to the pictures of before
    const before = JSON.stringify(this.value);
    let { value } = this;
    for (const image of images) {
      if (image.mark) value = moveMark(value, image.mark, image.thumb, batch);
    }
    // What was learned while another workflow was open.
    const learned = this.#round.learned?.marks ?? [];
    if (batch !== value.batch) value = withLearned(value, learned);
    this.value = { ...value, batch };
    // A new batch is looked at from its start; one that was seen before, where it was left.
    const known = images.some((image) => image.mark);
    this.session.show(images, known ? this.session.index : 0);
    this.#followRound();
    const { pages } = this.session;
    const lost = await this.#loadPages(images);
    if (pages !== this.session.pages) return;
    this.note = this.#greeting(kept, missing + lost);
    // Only then: a change after an undo of the graph would leave nothing to redo.
    if (JSON.stringify(this.value) !== before) this.host.changed(this.node);
    this.#update();
  }

  /** @returns {Promise<number>} how many pages' marks are not on this server */
  async #loadPages(images) {
    const { pages } = this.session;
    const lost = await Promise.all(
      pages.map(async (page, i) => {
        try {
          return !page.ready && (await this.#loadPage(page, images[i].start));
        } catch (error) {
          page.problem = error.message; // the other pages are not to wait for this one
          this.#update();
          return false;
        }
      }),
    );
    return lost.filter(Boolean).length;
  }

  /** @returns {Promise<boolean>} whether the page's marks are not on this server */
  async #loadPage(page, start) {
    const mark = this.value.marks.find((one) => one.thumb === page.thumb);
    page.start = start ?? null;
    const name = mark ? mark.map : page.start;
    const map = name ? await this.storage.loadMap(name) : null;
    const fits = map?.width === page.width && map?.height === page.height;
    // Asked for twice, or not shown any more.
    if (page.ready || !this.session.pages.includes(page)) return false;
    const lost = Boolean(mark?.map) && !fits;
    this.session.load(page, fits ? map : null, {
      reviewed: mark ? Boolean(mark.reviewed) && !lost : Boolean(page.start), // masks count
      touched: Boolean(mark) && !lost,
    });
    return lost;
  }

  #greeting(kept, missing) {
    const { learned } = this.#round;
    if (this.#learned) return "";
    if (learned && !learned.greeted) {
      learned.greeted = true;
      return `Round ${learned.round} has learned from your marks. Here are new pictures.`;
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
    const { thumb, width, height, reviewed } = page;
    const owner = `${this.value.node} ${thumb}`;
    const fromMask = Boolean(page.start) && !page.touched;
    const map = page.isBlank || fromMask ? null : contentName(page.map.digestInput(), owner);
    // A mask that was only looked at counts by itself, unless it is said to be left out.
    this.value = fromMask && reviewed
      ? withoutMark(this.value, thumb)
      : withMark(this.value, { thumb, map, width, height, reviewed, batch: this.value.batch });
    this.value.edited = Date.now();
    this.newer = null;
    if (map) this.storage.save(map, page.map, owner);
    this.storage.saveValue(this.value);
    this.note = "";
    this.host.changed(this.node);
  }

  #set(part) {
    this.value = { ...this.value, ...part };
    this.#round.autoNext = this.value.autoNext;
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
    if (this.#round.goesOn) return { ...state, text: "The run goes on with your marks…" };
    if (waiting.isOpen) {
      const text = painted
        ? `${count}. The run waits for you.`
        : `${note ? `${note} ` : ""}The run waits for you: paint, then press Continue.`;
      return { ...state, text, time: waiting.timeLeft(), goOn: true };
    }
    const learned = this.#learned;
    if (learned) {
      const done = `Round ${learned.round} has learned from these marks.`;
      const next = value.autoNext
        ? "The next pictures are on their way…"
        : "Press Run for new pictures.";
      return { ...state, text: note || `${done} ${learned.problem || next}` };
    }
    const use = this.#waitsForRelease();
    if (session.page && !session.page.ready) {
      const { problem } = session.page;
      const text = problem
        ? `The marks on this picture could not be loaded (${problem}). Reload the page to try again.`
        : "Loading the marks on this picture…";
      return { ...state, text, use };
    }
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
