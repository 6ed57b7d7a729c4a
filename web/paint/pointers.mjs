/** Turns mice, pens and fingers on the canvas into strokes, zoom and moves of the picture. */

import { pointerInFrame, toPicture } from "./view.mjs";

const WHEEL_STEP = 1.0015;
const DRAG_START = 4; // CSS pixels; less is a click
const SIZE_DRAG = 160; // CSS pixels for a brush e times as large
const PEN_ERASER = 5; // the button that the other end of a pen presses

export class Pointers {
  /** @param {import("./stage.mjs").Stage} stage */
  constructor(stage) {
    this.stage = stage;
    this.session = stage.session;
    this.gesture = null; // what the pointer that went down first does
    this.touches = new Map(); // pointer id -> its place in the frame
    this.#listen();
    this.stopTouches = () => {};
  }

  /** On the page from now on: what listens on the window must not outlive that. */
  attach() {
    this.detach();
    this.stopTouches = keepTouches(this.stage.element);
  }

  detach() {
    this.stopTouches();
    this.stopTouches = () => {};
  }

  #listen() {
    const { stage } = this;
    const on = (type, listener) => {
      stage.element.addEventListener(type, (event) => {
        event.stopPropagation(); // the graph must not move or open its menu
        listener(event);
      });
    };
    on("pointerdown", (event) => this.#down(event));
    on("pointermove", (event) => this.#move(event));
    on("pointerup", (event) => this.#up(event));
    on("pointercancel", (event) => this.#up(event));
    on("lostpointercapture", (event) => this.#up(event));
    on("pointerenter", () => stage.refresh());
    on("pointerleave", () => {
      stage.hover = null;
      stage.refresh();
    });
    on("contextmenu", (event) => event.preventDefault());
    for (const type of ["mousedown", "mouseup", "click", "dblclick"]) on(type, () => {});
    stage.element.addEventListener("wheel", (event) => this.#wheel(event), { passive: false });
  }

  /** The wheel zooms the picture once the node is being worked in; before, it is the graph's. */
  #wheel(event) {
    const isAtWork = this.stage.element.parentElement?.contains(document.activeElement);
    if (!this.session.page || !isAtWork) return;
    event.preventDefault();
    event.stopPropagation();
    this.stage.zoom(WHEEL_STEP ** -event.deltaY, this.#inFrame(event));
  }

  #inFrame(event) {
    const box = this.stage.element.getBoundingClientRect();
    return pointerInFrame(box, this.stage.size(), event.clientX, event.clientY);
  }

  #inPicture(event) {
    const { x, y } = this.#inFrame(event);
    return toPicture(this.stage.view, x, y);
  }

  #down(event) {
    event.preventDefault();
    const { session, stage } = this;
    stage.element.focus({ preventScroll: true });
    if (!session.page) return;
    const pointer = event.pointerId;
    const isTouch = event.pointerType === "touch";
    if (this.#isBusy(pointer, isTouch)) return;
    stage.element.setPointerCapture(pointer);
    if (isTouch) {
      this.touches.set(pointer, this.#inFrame(event));
      if (this.touches.size === 2) {
        session.cancelStroke();
        this.gesture = { kind: "pinch", pointer, from: this.#pinch() };
      }
      if (this.touches.size > 1) return;
    }
    const point = this.#inPicture(event);
    const erase = event.button === 2 || event.button === PEN_ERASER || event.altKey;
    if (event.button === 1 || stage.panKey) {
      this.gesture = { kind: "pan", pointer, x: event.clientX, y: event.clientY };
    } else if (event.shiftKey && event.button === 0) {
      const { clientX: x } = event;
      this.gesture = { kind: "shift", pointer, x, size: session.size, moved: false };
    } else if (session.tool === "fill" && !erase) {
      if (isTouch) this.gesture = { kind: "fill", pointer, point }; // a second finger may come
      else this.#fill(point);
    } else if (session.beginStroke(point.x, point.y, { pressure: pressure(event), erase })) {
      this.gesture = { kind: "stroke", pointer };
    }
    stage.hover = { ...point, erase };
    stage.refresh();
  }

  #move(event) {
    const { session, stage, gesture } = this;
    if (!session.page) return;
    if (this.touches.has(event.pointerId)) {
      this.touches.set(event.pointerId, this.#inFrame(event));
    } else if (gesture && gesture.pointer !== event.pointerId) return;
    const point = this.#inPicture(event);
    stage.hover = { ...point, erase: event.altKey || event.buttons === 2 };
    if (gesture?.kind === "stroke") {
      const steps = event.getCoalescedEvents?.() ?? [];
      for (const step of steps.length ? steps : [event]) {
        const { x, y } = this.#inPicture(step);
        session.extendStroke(x, y, pressure(step));
      }
    } else if (gesture?.kind === "pan") {
      const box = stage.element.getBoundingClientRect();
      const zoom = stage.size().width / box.width;
      const { scale, x, y } = stage.view;
      stage.view = stage.kept({
        scale,
        x: x + (event.clientX - gesture.x) * zoom,
        y: y + (event.clientY - gesture.y) * zoom,
      });
      Object.assign(gesture, { x: event.clientX, y: event.clientY });
      stage.redraw();
    } else if (gesture?.kind === "shift") {
      const distance = event.clientX - gesture.x;
      gesture.moved ||= Math.abs(distance) > DRAG_START;
      if (gesture.moved) session.set({ size: gesture.size * Math.exp(distance / SIZE_DRAG) });
    } else if (gesture?.kind === "pinch" && this.touches.size === 2) {
      const now = this.#pinch();
      const { from } = gesture;
      const { scale, x, y } = stage.view;
      stage.view = { scale, x: x + now.x - from.x, y: y + now.y - from.y };
      stage.zoom(now.distance / from.distance, now);
      gesture.from = now;
    }
    stage.refresh();
  }

  #up(event) {
    const { gesture } = this;
    const wasTouch = this.touches.delete(event.pointerId);
    if (wasTouch) this.stage.hover = null;
    if (gesture?.kind === "pinch" ? this.touches.size > 0 : gesture?.pointer !== event.pointerId) {
      return;
    }
    this.gesture = null;
    if (gesture?.kind === "stroke") this.session.endStroke();
    if (gesture?.kind === "fill" && event.type === "pointerup") this.#fill(gesture.point);
    if (gesture?.kind === "shift" && !gesture.moved) {
      const { x, y } = this.#inPicture(event);
      this.session.line(x, y);
    }
    this.stage.refresh();
  }

  #fill({ x, y }) {
    const { session, stage } = this;
    const pixels = session.page && stage.pixels(session.page);
    if (pixels) session.fill(pixels, x, y);
  }

  /** Whether another pointer is at work: a hand rests on the screen while a pen draws. */
  #isBusy(pointer, isTouch) {
    const { gesture, touches } = this;
    if (!gesture || gesture.pointer === pointer) return false;
    return !(isTouch && touches.has(gesture.pointer));
  }

  #pinch() {
    const [a, b] = [...this.touches.values()];
    return {
      x: (a.x + b.x) / 2,
      y: (a.y + b.y) / 2,
      distance: Math.max(1, Math.hypot(a.x - b.x, a.y - b.y)),
    };
  }
}

/**
 * The host zooms the graph by two fingers from a listener that sees touches before they get here, so
 * they are kept back at the window. All kinds together: the host counts fingers down and up.
 * @returns {() => void} stops that
 */
function keepTouches(element) {
  const keep = (event) => {
    if (event.target instanceof Node && element.contains(event.target)) event.stopPropagation();
  };
  const types = ["touchstart", "touchmove", "touchend", "touchcancel"];
  for (const type of types) window.addEventListener(type, keep, { capture: true, passive: true });
  return () => types.forEach((type) => window.removeEventListener(type, keep, { capture: true }));
}

/** Only pens press; a mouse reports a constant. */
function pressure(event) {
  return event.pointerType === "pen" ? event.pressure : 1;
}
