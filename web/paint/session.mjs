/**
 * What a person does to a batch of pictures, without any drawing on the screen.
 *
 * Events: "paint" (detail: rect, or null for everything) when pixels of the current picture changed;
 * "finish" (detail: page) when a change to a page is complete and worth saving; "view" when
 * anything else that is shown changed.
 */

import { Stroke, StrokeBuffers } from "./brush.mjs";
import { fillRegion, findRegion } from "./fill.mjs";
import { History, exchange } from "./history.mjs";
import { FULL, SignedMap } from "./signed_map.mjs";

const UNDO_BYTES = 48 * 2 ** 20; // for all pictures together
const LEAST_PRESSURE = 0.15;

export const TOOLS = ["brush", "eraser", "fill"];
export const SMALLEST_SIZE = 0.004;
export const LARGEST_SIZE = 0.6;

/** One picture of the batch and its feedback. */
export class Page {
  /** @param {{picture: string, thumb: string, width: number, height: number}} shown */
  constructor({ picture, thumb, width, height }, undoBytes) {
    this.picture = picture;
    this.thumb = thumb;
    this.width = width;
    this.height = height;
    this.reviewed = false;
    this.touched = false; // by a person, in contrast to what a mask gave
    this.ready = false; // until what is saved of it is here: a change would be put over that
    this.opened = false; // by a person, before it was ready
    this.problem = ""; // why it did not become ready
    this.map = null;
    this.history = new History(undoBytes);
    this.lastPoint = null;
  }

  /** Shares of the picture that are liked and disliked. */
  get shares() {
    return this.map?.shares() ?? { liked: 0, disliked: 0 };
  }

  /** The map; made when it is first needed. */
  get marks() {
    this.map ??= new SignedMap(this.width, this.height);
    return this.map;
  }

  get isBlank() {
    return this.shares.liked === 0 && this.shares.disliked === 0;
  }
}

export class PaintSession extends EventTarget {
  constructor() {
    super();
    this.pages = [];
    this.index = 0;
    this.tool = "brush";
    this.sign = -1;
    this.size = 0.08; // diameter, as a share of the picture's longest side
    this.strength = 1;
    this.hardness = 0.8;
    this.tolerance = 0.1;
    this.usePressure = true;
    this.locked = false;
    this.clipboard = null;
    this.stroke = null;
    this.buffers = null;
  }

  get page() {
    return this.pages[this.index] ?? null;
  }

  get canEdit() {
    return Boolean(this.page?.ready) && !this.locked;
  }

  /** Brush radius in pixels of the current picture. */
  get radius() {
    if (!this.page) return 1;
    return Math.max(0.5, (this.size * Math.max(this.page.width, this.page.height)) / 2);
  }

  /** Show other pictures. @param {object[]} shown as Page takes them @param {number} index first */
  show(shown, index = 0) {
    this.cancelStroke(); // the work space of strokes is clean again
    this.pages = shown.map((one) => new Page(one, UNDO_BYTES / shown.length));
    this.index = Math.min(index, Math.max(0, this.pages.length - 1));
    this.#emit("paint", null);
    this.#emit("view");
  }

  /** What is saved or given for a page, put in place without an undo step: from now on it is ready. */
  load(page, map, { reviewed, touched }) {
    Object.assign(page, { map, reviewed, touched, ready: true, problem: "" });
    if (page === this.page) this.#emit("paint", null);
    this.#emit("view");
    if (page.opened && !this.locked) this.#review(page, true);
  }

  /** Change brush settings: tool, sign, size, strength, hardness, ... */
  set(settings) {
    Object.assign(this, settings);
    this.size = Math.min(LARGEST_SIZE, Math.max(SMALLEST_SIZE, this.size));
    this.#emit("view");
  }

  lock(locked) {
    if (locked) this.cancelStroke();
    this.set({ locked });
  }

  select(index) {
    if (index < 0 || index >= this.pages.length || index === this.index) return;
    this.endStroke();
    this.index = index;
    this.#emit("paint", null);
    this.#emit("view");
    // Opening a picture is looking at it: unmarked means "fine" from now on, not "unseen".
    if (this.locked) return;
    if (this.page.ready) this.#review(this.page, true);
    else this.page.opened = true;
  }

  step(by) {
    const count = this.pages.length;
    if (count) this.select((this.index + by + count) % count);
  }

  setReviewed(reviewed) {
    if (this.canEdit) this.#review(this.page, reviewed);
  }

  /** Start a stroke at (x, y), in picture pixels. erase: whatever the tool is. */
  beginStroke(x, y, { pressure = 1, erase = false } = {}) {
    if (!this.canEdit) return false;
    this.endStroke();
    const { page } = this;
    const erasing = erase || this.tool === "eraser";
    this.stroke = new Stroke(page.marks, this.#buffersFor(page), {
      value: erasing ? 0 : Math.round(this.sign * this.strength * FULL),
      radius: this.radius,
      hardness: this.hardness,
    });
    this.extendStroke(x, y, pressure);
    return true;
  }

  extendStroke(x, y, pressure = 1) {
    if (!this.stroke) return;
    const share = this.usePressure ? Math.max(LEAST_PRESSURE, pressure) : 1;
    this.#emit("paint", this.stroke.extendTo(x, y, share));
    this.page.lastPoint = { x, y };
  }

  endStroke() {
    const { stroke, page } = this;
    this.stroke = null;
    const change = stroke?.finish();
    if (change) this.#changed(page, change);
  }

  /** Take back the stroke in progress, such as when a second finger shows it was a pinch. */
  cancelStroke() {
    const { stroke, page } = this;
    this.stroke = null;
    const change = stroke?.finish();
    if (!change) return;
    exchange(page.map, change);
    this.#emit("paint", change.rect);
  }

  /** A straight line from where the last stroke ended. */
  line(x, y, options = {}) {
    const from = this.page?.lastPoint ?? { x, y };
    if (!this.beginStroke(from.x, from.y, options)) return;
    this.extendStroke(x, y);
    this.endStroke();
  }

  /** Fill the region of like colour around (x, y). @param {Uint8ClampedArray} rgba the picture */
  fill(rgba, x, y, { erase = false } = {}) {
    if (!this.canEdit) return;
    const { page } = this;
    const [column, row] = [Math.floor(x), Math.floor(y)];
    if (column < 0 || row < 0 || column >= page.width || row >= page.height) return;
    const region = findRegion(rgba, page.width, page.height, column, row, this.tolerance);
    const value = erase ? 0 : Math.round(this.sign * this.strength * FULL);
    this.#changed(page, fillRegion(page.marks, region, value));
    this.#emit("paint", region.rect);
  }

  /** Like or dislike everything in the picture. @param {1 | -1} sign */
  whole(sign) {
    this.#editAll(this.page, (map) => map.fill(Math.round(sign * this.strength * FULL)));
  }

  clear() {
    if (!this.page?.isBlank) this.#editAll(this.page, (map) => map.fill(0));
  }

  invert() {
    if (!this.page?.isBlank) this.#editAll(this.page, (map) => map.invert());
  }

  copy() {
    if (!this.page?.ready || this.page.isBlank) return;
    this.clipboard = this.page.marks.resized(this.page.width, this.page.height);
    this.#emit("view");
  }

  paste() {
    if (this.clipboard) this.#paste(this.page, this.clipboard);
  }

  /** Put the current picture's marks on every picture; where it has none, those that were copied. */
  applyToAll() {
    const source = this.page?.isBlank ? this.clipboard : this.page?.map;
    if (!source) return;
    for (const page of this.pages) if (page.map !== source) this.#paste(page, source);
  }

  undo() {
    this.#travel("undo");
  }

  redo() {
    this.#travel("redo");
  }

  #paste(page, map) {
    this.#editAll(page, (target) => target.set(map.resized(page.width, page.height)));
  }

  #travel(direction) {
    if (!this.canEdit || this.stroke) return;
    const { page } = this;
    const rect = page.history[direction](page.marks);
    if (!rect) return;
    page.touched = true;
    this.#emit("paint", rect);
    this.#emit("finish", page);
    this.#emit("view");
  }

  #editAll(page, edit) {
    if (!page?.ready || this.locked) return;
    this.endStroke();
    const map = page.marks;
    const { rect } = map;
    const change = { rect, parts: [{ rect, pixels: map.read(rect) }] };
    edit(map);
    this.#changed(page, change);
    if (page === this.page) this.#emit("paint", null);
  }

  #changed(page, change) {
    page.history.push(change);
    page.touched = true;
    page.reviewed = true;
    this.#emit("finish", page);
    this.#emit("view");
  }

  #review(page, reviewed) {
    if (page.reviewed === reviewed) return;
    page.reviewed = reviewed;
    this.#emit("finish", page);
    this.#emit("view");
  }

  #buffersFor(page) {
    if (this.buffers?.cover.length !== page.width * page.height) {
      this.buffers = new StrokeBuffers(page.width, page.height);
    }
    return this.buffers;
  }

  #emit(type, detail) {
    this.dispatchEvent(new CustomEvent(type, { detail }));
  }
}
