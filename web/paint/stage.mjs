/** The canvas: shows the current picture with its marks. */

import { DISLIKE, LIKE, composite, makePattern, patternPeriod } from "./composite.mjs";
import { el } from "./dom.mjs";
import { Pointers } from "./pointers.mjs";
import { emptyRect, isEmpty, unite } from "./rect.mjs";
import { fit, keepInside, toFrame, zoomAt } from "./view.mjs";

const SHARPEST = 3;
const BACKGROUND = "#101113";
const CURSOR_MARGIN = 4; // CSS pixels that the cursor's line reaches beyond its circle

export class Stage {
  /**
   * @param {import("./session.mjs").PaintSession} session
   * @param {(page: object) => string} pictureUrl
   */
  constructor(session, pictureUrl) {
    this.session = session;
    this.pictureUrl = pictureUrl;
    this.view = { scale: 1, x: 0, y: 0 };
    this.fitted = true;
    this.showMarks = true;
    this.panKey = false;
    this.pictures = new Map(); // picture name -> loaded image element
    this.shown = null;
    /** The picture as large as it is shown: scaling it is most of the work of drawing. */
    this.backdrop = { canvas: el("canvas"), key: "" };
    this.overlay = el("canvas");
    this.pattern = makePattern(8);
    this.dirty = emptyRect(); // of the overlay, in picture pixels
    this.damaged = null; // what must be drawn again, in frame pixels; null: everything
    this.cursorBox = emptyRect();
    this.hover = null;
    this.frame = 0;

    this.canvas = el("canvas", { class: "pxpo-canvas" });
    this.hint = el("div", { class: "pxpo-hint" });
    this.element = el(
      "div",
      { class: "pxpo-stage", tabindex: 0, role: "application", "aria-label": "Painting area" },
      this.canvas,
      this.hint,
    );
    this.pointers = new Pointers(this);
    this.resizing = new ResizeObserver(() => this.#refit());
    this.resizing.observe(this.element);
  }

  dispose() {
    this.pointers.detach();
    this.resizing.disconnect();
    cancelAnimationFrame(this.frame);
  }

  /** Marks of the current picture changed inside `rect`; null: everything may differ. */
  repaint(rect) {
    this.dirty = rect ? unite(this.dirty, rect) : this.#everything();
    if (!rect) this.damaged = null;
    this.refresh();
  }

  /** Draw everything again on the next frame. */
  redraw() {
    this.damaged = null;
    this.refresh();
  }

  /** Draw on the next frame what is known to have changed, and the cursor. */
  refresh() {
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      this.#draw();
    });
  }

  zoom(factor, at = null) {
    const { page } = this.session;
    if (!page) return;
    const frame = this.size();
    const { x, y } = at ?? { x: frame.width / 2, y: frame.height / 2 };
    const smallest = fit(page.width, page.height, frame.width, frame.height).scale;
    this.view = this.kept(zoomAt(this.view, factor, x, y, smallest));
    this.fitted = this.view.scale <= smallest;
    this.#viewChanged();
  }

  zoomToFit() {
    this.fitted = true;
    this.#refit();
  }

  #everything() {
    const { page } = this.session;
    return page ? { x0: 0, y0: 0, x1: page.width, y1: page.height } : emptyRect();
  }

  size() {
    return { width: this.element.clientWidth || 1, height: this.element.clientHeight || 1 };
  }

  kept(view) {
    const { page } = this.session;
    const { width, height } = this.size();
    return keepInside(view, page.width, page.height, width, height);
  }

  #refit() {
    const { page } = this.session;
    if (page) {
      const { width, height } = this.size();
      this.view = this.fitted ? fit(page.width, page.height, width, height) : this.kept(this.view);
      this.#viewChanged();
    }
    this.redraw();
  }

  #viewChanged() {
    const period = patternPeriod(this.view.scale);
    if (period !== this.pattern.period) {
      this.pattern = makePattern(period);
      this.dirty = this.#everything();
    }
    this.redraw();
  }

  /** The current picture's image element, once it is loaded. */
  #picture(page) {
    const known = this.pictures.get(page.picture);
    if (known) return known.complete && known.naturalWidth > 0 ? known : null;
    const names = new Set(this.session.pages.map((one) => one.picture));
    for (const name of this.pictures.keys()) if (!names.has(name)) this.pictures.delete(name);
    const image = new Image();
    for (const end of ["load", "error"]) image.addEventListener(end, () => this.redraw());
    image.src = this.pictureUrl(page);
    this.pictures.set(page.picture, image);
    return null;
  }

  /** What to say where no picture is to be seen, else "". */
  #absence(page) {
    if (!page) return "Press Run. The pictures to paint on appear here.";
    if (this.#picture(page)) return "";
    return this.pictures.get(page.picture).complete
      ? "This picture cannot be loaded. Reload the page, or press Run for new ones."
      : "Loading the picture…";
  }

  /** The picture's pixels, for the fill tool; null while it is not loaded. */
  pixels(page) {
    const image = this.#picture(page);
    if (!image) return null;
    const canvas = new OffscreenCanvas(page.width, page.height);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0, page.width, page.height);
    return context.getImageData(0, 0, page.width, page.height).data;
  }

  #draw() {
    const { page } = this.session;
    if (page !== this.shown) {
      const sameSize = page?.width === this.shown?.width && page?.height === this.shown?.height;
      this.shown = page;
      this.hover = page ? this.hover : null;
      if (!sameSize) this.fitted = true;
      this.damaged = null;
      if (page) {
        this.overlay.width = page.width;
        this.overlay.height = page.height;
        this.dirty = this.#everything();
        this.#refit();
      }
    }
    const absence = this.#absence(page);
    if (this.hint.textContent !== absence) this.hint.textContent = absence;
    this.hint.hidden = !absence;
    const frame = this.size();
    const sharpness = this.#sharpness();
    const [width, height] = [frame.width, frame.height].map((n) => Math.round(n * sharpness));
    if (this.canvas.width !== width || this.canvas.height !== height) {
      this.canvas.width = width;
      this.canvas.height = height;
      this.damaged = null;
    }
    const damaged = this.#damage(frame);
    if (isEmpty(damaged)) return;
    const context = this.canvas.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.save();
    clipTo(context, damaged, sharpness);
    if (page) {
      this.#updateOverlay(page);
      context.drawImage(this.#drawBackdrop(page, sharpness), 0, 0);
      context.setTransform(sharpness, 0, 0, sharpness, 0, 0);
      if (this.showMarks && page.map) context.drawImage(this.overlay, ...this.#target(page));
      this.#drawCursor(context);
    } else context.clearRect(0, 0, width, height);
    context.restore();
  }

  /** What has to be drawn now, in frame pixels; nothing is damaged from here on. */
  #damage(frame) {
    const cursorBox = this.#cursorBox();
    let damaged = this.damaged;
    if (damaged) {
      for (const box of [this.cursorBox, cursorBox, this.#onFrame(this.dirty)]) {
        if (!isEmpty(box)) damaged = unite(damaged, box);
      }
    }
    this.cursorBox = cursorBox;
    this.damaged = emptyRect();
    return damaged ?? { x0: 0, y0: 0, x1: frame.width, y1: frame.height };
  }

  /** A rectangle of the picture on the frame, with the pixels that smoothing reaches. */
  #onFrame(rect) {
    if (isEmpty(rect)) return rect;
    const from = toFrame(this.view, rect.x0 - 1, rect.y0 - 1);
    const to = toFrame(this.view, rect.x1 + 1, rect.y1 + 1);
    return { x0: from.x - 1, y0: from.y - 1, x1: to.x + 1, y1: to.y + 1 };
  }

  #target(page) {
    const { scale, x, y } = this.view;
    return [x, y, page.width * scale, page.height * scale];
  }

  /** The picture in its place on a canvas of its own, drawn when anything about that changed. */
  #drawBackdrop(page, sharpness) {
    const { canvas } = this.backdrop;
    const image = this.#picture(page);
    const { width, height } = this.canvas;
    const target = this.#target(page);
    const key = [page.picture, Boolean(image), width, height, sharpness, ...target].join(" ");
    if (key === this.backdrop.key) return canvas;
    this.backdrop.key = key;
    canvas.width = width; // which also clears it
    canvas.height = height;
    const context = canvas.getContext("2d", { alpha: false });
    context.fillStyle = BACKGROUND;
    context.fillRect(0, 0, width, height);
    context.setTransform(sharpness, 0, 0, sharpness, 0, 0);
    context.imageSmoothingEnabled = this.view.scale < 4;
    context.imageSmoothingQuality = "high";
    if (image) context.drawImage(image, ...target);
    return canvas;
  }

  /** Canvas pixels per CSS pixel: the screen's, times the graph's zoom. */
  #sharpness() {
    const zoom = this.element.getBoundingClientRect().width / this.size().width || 1;
    const wanted = (window.devicePixelRatio || 1) * Math.max(1, zoom);
    return Math.min(SHARPEST, Math.ceil(wanted * 2) / 2);
  }

  #updateOverlay(page) {
    if (isEmpty(this.dirty)) return;
    const rect = this.dirty;
    this.dirty = emptyRect();
    if (!page.map) {
      this.overlay.width = page.width; // clears it
      return;
    }
    const pixels = new ImageData(rect.x1 - rect.x0, rect.y1 - rect.y0);
    composite(page.map, rect, this.pattern, pixels.data);
    page.map.sumUp();
    this.overlay.getContext("2d").putImageData(pixels, rect.x0, rect.y0);
  }

  get #cursorRadius() {
    return Math.max(1.5, this.session.radius * this.view.scale);
  }

  get #showsCursor() {
    const { session } = this;
    return this.hover && session.page && !session.locked && !this.panKey && session.tool !== "fill";
  }

  #cursorBox() {
    if (!this.#showsCursor) return emptyRect();
    const { x, y } = toFrame(this.view, this.hover.x, this.hover.y);
    const reach = this.#cursorRadius + CURSOR_MARGIN;
    return { x0: x - reach, y0: y - reach, x1: x + reach, y1: y + reach };
  }

  #drawCursor(context) {
    const { session, hover } = this;
    if (!this.#showsCursor) return;
    const centre = toFrame(this.view, hover.x, hover.y);
    const radius = this.#cursorRadius;
    const erasing = hover.erase || session.tool === "eraser";
    const colour = erasing ? "#fff" : `rgb(${session.sign > 0 ? LIKE : DISLIKE})`;
    context.beginPath();
    context.arc(centre.x, centre.y, radius, 0, 2 * Math.PI);
    context.lineWidth = 3;
    context.strokeStyle = "rgba(0, 0, 0, 0.55)";
    context.stroke();
    context.lineWidth = 1.5;
    context.strokeStyle = colour;
    context.setLineDash(erasing ? [4, 3] : []);
    context.stroke();
    context.setLineDash([]);
  }
}

/** Let a context draw inside a rectangle of the frame only. */
function clipTo(context, { x0, y0, x1, y1 }, sharpness) {
  const [left, top] = [x0, y0].map((n) => Math.floor(n * sharpness));
  const [right, bottom] = [x1, y1].map((n) => Math.ceil(n * sharpness));
  context.beginPath();
  context.rect(left, top, Math.max(0, right - left), Math.max(0, bottom - top));
  context.clip();
}
