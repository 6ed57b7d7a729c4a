/** One picture before and after a round, with a divider that a pointer or the keyboard moves. */

import { el } from "../paint/dom.mjs";
import { fitted, readEffect, shareAfterKey, shareAt, shareText } from "./split.mjs";

const HEIGHT = 260;

export class Slider {
  /**
   * @param {(file: object) => string} urlOf where a preview file of the host is
   * @param {() => void} resized called when it appears or goes
   */
  constructor(urlOf, resized) {
    this.urlOf = urlOf;
    this.resized = resized;
    this.share = 50;
    const picture = (name) => el("img", { alt: name, draggable: "false", on: {
      load: () => this.#draw(),
      error: () => this.show(null), // the host deletes its previews when it starts
    } });
    this.before = picture("Before the round");
    this.after = picture("After the round");
    this.line = el("div", { class: "pxpo-split-line" });
    this.labels = ["Before", "After"].map((text) => el("span", { class: "pxpo-split-label" }, text));
    this.frame = el(
      "div",
      { class: "pxpo-split", role: "slider", tabindex: "0", "aria-valuemin": "0",
        "aria-valuemax": "100", on: {
          pointerdown: (event) => this.#pointer(event),
          pointermove: (event) => {
            if (this.frame.hasPointerCapture(event.pointerId)) this.#pointer(event);
          },
          keydown: (event) => this.#key(event),
          dragstart: (event) => event.preventDefault(),
        } },
      this.after, this.before, this.line, ...this.labels,
    );
    this.title = el("div", { class: "pxpo-split-title" });
    this.element = el("div", { class: "pxpo-effect", hidden: true }, this.title, this.frame);
    this.observer = new ResizeObserver(() => this.#draw());
    this.observer.observe(this.frame);
  }

  get shown() {
    return !this.element.hidden;
  }

  /** Pixels it needs. */
  get height() {
    return this.shown ? HEIGHT : 0;
  }

  /** @param {unknown} stored the node's newest effect; anything unusable hides the slider */
  show(stored) {
    const effect = readEffect(stored);
    const was = this.shown;
    this.element.hidden = !effect;
    if (effect) {
      const name = `Picture ${effect.picture}, before and after round ${effect.round}`;
      this.title.textContent = name;
      this.title.title = "The same noise, sampled before and after the update";
      this.frame.setAttribute("aria-label", name);
      this.before.src = this.urlOf(effect.before);
      this.after.src = this.urlOf(effect.after);
      this.#move(50);
    }
    if (was !== this.shown) this.resized();
  }

  dispose() {
    this.observer.disconnect();
  }

  #pointer(event) {
    if (event.type === "pointerdown") {
      if (event.button !== 0) return;
      this.frame.setPointerCapture(event.pointerId);
      this.frame.focus({ preventScroll: true });
    }
    event.stopPropagation(); // the graph would select or move the node
    const box = this.frame.getBoundingClientRect();
    const scale = box.width / this.frame.clientWidth; // the host scales the node with the graph
    this.#move(shareAt((event.clientX - box.left) / scale, this.#place()));
  }

  #key(event) {
    const share = shareAfterKey(this.share, event.key, event.shiftKey);
    if (share === null) return;
    event.preventDefault();
    event.stopPropagation();
    this.#move(share);
  }

  #move(share) {
    this.share = share;
    this.frame.setAttribute("aria-valuenow", String(Math.round(share)));
    this.frame.setAttribute("aria-valuetext", shareText(share));
    this.#draw();
  }

  #place() {
    const { clientWidth: width, clientHeight: height } = this.frame;
    const { naturalWidth, naturalHeight } = this.before;
    return fitted({ width, height }, { width: naturalWidth, height: naturalHeight });
  }

  #draw() {
    const { left, top, width, height } = this.#place();
    const x = left + (width * this.share) / 100;
    this.before.style.clipPath = `inset(0 ${this.frame.clientWidth - x}px 0 0)`;
    Object.assign(this.line.style, { left: `${x}px`, top: `${top}px`, height: `${height}px` });
    const [before, after] = this.labels;
    Object.assign(before.style, { left: `${left + 6}px`, top: `${top + 6}px` });
    Object.assign(after.style, { right: `${left + 6}px`, top: `${top + 6}px` });
  }
}
