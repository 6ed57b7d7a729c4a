/**
 * Ties the painting to the host: the widget's value, the files on the server, and the events of a
 * run. One of these per node; it listens only while its node is in a graph.
 */

import { el } from "./dom.mjs";
import { contentName } from "./identity.mjs";
import { Panel } from "./panel.mjs";
import { PaintSession } from "./session.mjs";
import { PaintStorage } from "./storage.mjs";
import {
  emptyValue, moveMark, promptValue, readValue, sameMarks, withLearned, withMark,
} from "./value.mjs";

export class PaintWidget {
  /**
   * @param {object} node the graph's node
   * @param {import("./host.mjs").Host} host
   * @param {(id: string) => boolean} isTaken whether another node in the graph has this id
   */
  constructor(node, host, isTaken) {
    this.node = node;
    this.host = host;
    this.isTaken = isTaken;
    this.value = emptyValue();
    this.prompt = null; // the run that showed the current pictures
    this.learned = null; // {prompt, round} once a run has trained on the current marks
    this.note = "";
    this.session = new PaintSession();
    this.storage = new PaintStorage(host.api);
    this.panel = new Panel(this.session, {
      pictureUrl: (page) => this.storage.pictureUrl(this.pictureNode, page.picture),
      thumbUrl: (page) => this.storage.thumbUrl(page.thumb),
    });
    this.pictureNode = this.value.node;
    this.session.addEventListener("paint", ({ detail }) => this.panel.stage.repaint(detail));
    this.session.addEventListener("finish", ({ detail }) => this.#keep(detail));
    this.session.addEventListener("view", () => this.#update());
    this.storage.addEventListener("state", () => this.#update());
    this.panel.element.addEventListener("pointerenter", () => this.#update());
    this.stopListening = () => {};
    this.#update();
  }

  /** The node is in a graph now. */
  attach() {
    this.detach();
    this.#avoidTwins();
    const { host } = this;
    const stops = [
      host.on("executed", (detail) => this.#executed(detail)),
      host.on("execution_success", (detail) => this.#ended(detail.prompt_id, true)),
      host.on("execution_error", (detail) => this.#ended(detail.prompt_id, false)),
      host.on("execution_interrupted", (detail) => this.#ended(detail.prompt_id, false)),
      host.on("reconnected", () => this.#restore()),
    ];
    this.stopListening = () => stops.forEach((stop) => stop());
  }

  detach() {
    this.stopListening();
    this.stopListening = () => {};
  }

  dispose() {
    this.detach();
    this.panel.dispose();
    this.storage.dispose();
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
    this.#restore();
  }

  /** What a prompt carries; waits until the files it names are on the server. */
  async serialize() {
    this.session.endStroke();
    await this.storage.flush();
    const byPress = this.host.queueMode === "disabled";
    return promptValue(this.value, byPress ? this.value.marks : (this.value.used ?? []));
  }

  /** A copied node gets an id of its own; its marks stay, as their files are shared. */
  #avoidTwins() {
    if (!this.isTaken(this.value.node)) return;
    const { node } = this.value;
    this.value = { ...this.value, node: emptyValue().node, copiedFrom: node };
  }

  /** Show the newest batch this node has had on the server. */
  async #restore() {
    const { value } = this;
    try {
      for (const node of [value.node, value.copiedFrom]) {
        const [batch] = node ? await this.storage.batches(node) : [];
        if (this.value.node !== value.node) return; // another workflow came in meanwhile
        if (!batch) continue;
        this.pictureNode = node;
        await this.#show(batch);
        return;
      }
    } catch (error) {
      this.note = `The pictures could not be loaded: ${error.message}`;
    }
    this.#update();
  }

  #executed({ output, prompt_id: prompt }) {
    const shown = output?.pxpo_paint?.find((one) => one.node === this.value.node);
    if (shown) {
      this.prompt = prompt;
      this.pictureNode = shown.node;
      this.#show(shown).catch((error) => {
        this.note = `The pictures could not be loaded: ${error.message}`;
        this.#update();
      });
    }
    const update = output?.pxpo_update?.find((one) => one.painted && one.trained);
    // A mask alone trains too, but asking for the next batch then would never end.
    if (update && prompt === this.prompt && this.#isPainted()) {
      this.learned = { prompt, round: update.round };
      this.value = withLearned(this.value, this.value.batch);
      this.session.lock(true);
      this.host.changed(this.node);
    }
  }

  /** Whether a person's marks on the current pictures are in the value. */
  #isPainted() {
    const { marks, batch } = this.value;
    return marks.some((mark) => mark.batch === batch && mark.map && !mark.learned);
  }

  /** A run is over: after training, ask for the next pictures by the same prompt. */
  async #ended(prompt, success) {
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
    let { value } = this;
    for (const image of images) {
      if (image.mark && image.mark !== image.thumb) {
        value = moveMark(value, image.mark, image.thumb, batch);
      }
    }
    this.value = { ...value, batch };
    this.session.show(images);
    const { pages } = this.session;
    const lost = await Promise.all(pages.map((page, i) => this.#loadPage(page, images[i].start)));
    if (pages !== this.session.pages) return;
    this.session.lock(false);
    this.note = this.#greeting(kept, missing + lost.filter(Boolean).length);
    this.learned = null;
    this.host.changed(this.node);
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
    const bytes = page.isBlank ? null : page.map.toBytes();
    const map = bytes && contentName(page.map.digestInput());
    this.value = withMark(this.value, {
      thumb: page.thumb, map, width: page.width, height: page.height, reviewed: page.reviewed,
      batch: this.value.batch,
    });
    if (bytes) this.storage.save(map, page.width, page.height, bytes);
    this.note = "";
    this.host.changed(this.node);
  }

  #setQuietly(part) {
    this.value = { ...this.value, ...part };
  }

  #update() {
    this.panel.update();
    this.panel.say(this.#status(), this.#actions());
  }

  #status() {
    const { session, storage } = this;
    if (storage.failed) return "Not saved yet: the server does not answer. Trying again…";
    if (session.locked && this.learned) {
      const done = `Round ${this.learned.round} has learned from these marks.`;
      return this.value.autoNext
        ? `${done} The next pictures are on their way…`
        : `${done} Press Run for new pictures.`;
    }
    if (this.note) return this.note;
    if (session.pages.length === 0) return "";
    const painted = session.pages.filter((page) => !page.isBlank).length;
    if (painted === 0) return "Paint what you like and dislike, then press Run.";
    const saved = storage.isSaving ? "saving…" : "saved";
    const count = `${painted} of ${session.pages.length}`;
    return this.#waitsForRelease()
      ? `Marks on ${count} pictures, ${saved}. They do not count yet.`
      : `Marks on ${count} pictures, ${saved}. Press Run to learn from them.`;
  }

  #waitsForRelease() {
    const { used = [], marks } = this.value;
    return this.host.queueMode !== "disabled" && !sameMarks(used, marks);
  }

  #actions() {
    const actions = [];
    if (this.#waitsForRelease()) {
      actions.push(button("Use these marks", () => {
        this.#setQuietly({ used: this.value.marks });
        this.host.changed(this.node);
        this.#update();
      }));
    }
    if (this.session.pages.length > 0) {
      const next = el("input", { type: "checkbox", on: { change: () => {
        this.#setQuietly({ autoNext: next.checked });
        this.host.changed(this.node);
      } } });
      next.checked = this.value.autoNext;
      actions.push(el(
        "label",
        { class: "pxpo-auto", title: "Sample the next pictures by itself after learning" },
        next, "Next batch by itself",
      ));
    }
    return actions;
  }
}

function button(text, act) {
  return el(
    "button", { type: "button", class: "pxpo-button pxpo-primary", on: { click: act } }, text,
  );
}
