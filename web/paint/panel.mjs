/** The whole widget: toolbar, canvas, thumbnails and a line of text, in the node or over the page. */

import { el, iconButton } from "./dom.mjs";
import { ICONS } from "./icons.mjs";
import { KEY_LIST, commandFor } from "./keys.mjs";
import { Stage } from "./stage.mjs";
import { Strip } from "./strip.mjs";
import { Toolbar } from "./toolbar.mjs";

const SIZE_STEP = 1.12;
const BIG_SIZE_STEP = 1.6;
const ZOOM_STEP = 1.3;

export class Panel {
  /**
   * @param {import("./session.mjs").PaintSession} session
   * @param {{pictureUrl: (page: object) => string, thumbUrl: (page: object) => string}} urls
   * @param {import("./status.mjs").StatusLine} status
   */
  constructor(session, { pictureUrl, thumbUrl }, status) {
    this.session = session;
    this.helpShown = false;
    this.stage = new Stage(session, pictureUrl);
    this.toolbar = new Toolbar(session, (command) => this.run(command));
    this.strip = new Strip(session, thumbUrl);
    this.help = this.#makeHelp();
    this.body = el(
      "div",
      { class: "pxpo-paint" },
      this.toolbar.element,
      // Asks Vue nodes to leave the wheel here while the focus is in it, as the stage wants it.
      el("div", { class: "pxpo-middle", "data-capture-wheel": "true" }, this.stage.element, this.help),
      this.strip.element,
      status.element,
    );
    this.dialog = el("dialog", { class: "pxpo-dialog", "aria-label": "Paint Pixel Reward" });
    this.dialog.addEventListener("close", () => this.#putBack());
    this.placeholder = el(
      "div", { class: "pxpo-away" }, "Open in the large view. Press Esc there to come back.",
    );
    /** What the host puts into the node; its "widget-expands" lets it take all the height there is. */
    this.element = el("div", { class: "pxpo-root widget-expands" }, this.body);
    this.#listen();
    this.update();
  }

  get expanded() {
    return this.dialog.open;
  }

  dispose() {
    this.stage.dispose();
    this.dialog.remove();
  }

  /** Show the session's state. */
  update() {
    const { session, stage } = this;
    this.toolbar.update({
      showMarks: stage.showMarks, expanded: this.expanded, help: this.helpShown,
    });
    this.strip.update();
    const { page } = session;
    stage.element.classList.toggle("pxpo-locked", session.locked);
    stage.element.setAttribute(
      "aria-label",
      page
        ? `Painting area, picture ${session.index + 1} of ${session.pages.length}`
        : "Painting area, no pictures yet",
    );
    stage.refresh();
  }

  expand() {
    if (this.expanded) return;
    this.element.replaceChildren(this.placeholder);
    this.dialog.replaceChildren(this.body);
    document.body.append(this.dialog);
    this.dialog.showModal();
    this.stage.zoomToFit();
    this.stage.element.focus();
    this.update();
  }

  /** Do what a key or a button asks for. @returns {boolean} whether it was a command */
  run(command) {
    const { session, stage } = this;
    const [verb, number] = command.split(":");
    const resize = (factor) => session.set({ size: session.size * factor });
    const commands = {
      undo: () => session.undo(),
      redo: () => session.redo(),
      copy: () => session.copy(),
      paste: () => session.paste(),
      "paste-all": () => session.applyToAll(),
      swap: () => session.set({ sign: -session.sign }),
      brush: () => session.set({ tool: "brush" }),
      eraser: () => session.set({ tool: "eraser" }),
      fill: () => session.set({ tool: "fill" }),
      invert: () => session.invert(),
      clear: () => session.clear(),
      "whole-like": () => session.whole(1),
      "whole-dislike": () => session.whole(-1),
      smaller: () => resize(1 / SIZE_STEP),
      larger: () => resize(SIZE_STEP),
      "much-smaller": () => resize(1 / BIG_SIZE_STEP),
      "much-larger": () => resize(BIG_SIZE_STEP),
      strength: () => session.set({ strength: Number(number) }),
      previous: () => session.step(-1),
      next: () => session.step(1),
      "zoom-in": () => stage.zoom(ZOOM_STEP),
      "zoom-out": () => stage.zoom(1 / ZOOM_STEP),
      fit: () => stage.zoomToFit(),
      "show-marks": () => {
        stage.showMarks = !stage.showMarks;
        stage.redraw();
      },
      expand: () => (this.expanded ? this.dialog.close() : this.expand()),
      help: () => this.#showHelp(!this.helpShown),
      close: () => (this.helpShown ? this.#showHelp(false) : this.expanded && this.dialog.close()),
    };
    if (!(verb in commands)) return false;
    commands[verb]();
    this.update();
    return true;
  }

  #putBack() {
    this.element.replaceChildren(this.body);
    this.dialog.remove();
    this.stage.zoomToFit();
    this.stage.element.focus({ preventScroll: true });
    this.update();
  }

  #showHelp(shown) {
    this.helpShown = shown;
    this.help.hidden = !shown;
    if (shown) this.help.querySelector("button").focus();
    else this.stage.element.focus({ preventScroll: true });
  }

  #makeHelp() {
    const rows = KEY_LIST.flatMap(([keys, meaning]) => [el("dt", {}, keys), el("dd", {}, meaning)]);
    return el(
      "div",
      { class: "pxpo-help", hidden: true, role: "dialog", "aria-label": "Keys" },
      iconButton("Close (Esc)", ICONS.close, () => this.run("help")),
      el("dl", {}, ...rows),
    );
  }

  #listen() {
    // The graph must not move, select or drop things because of what happens in here.
    for (const type of ["pointerdown", "mousedown", "dblclick", "contextmenu", "dragstart"]) {
      this.body.addEventListener(type, (event) => event.stopPropagation());
    }
    this.body.addEventListener("click", (event) => this.#keepKeys(event));
    this.body.addEventListener("keydown", (event) => this.#keyDown(event));
    this.body.addEventListener("keyup", (event) => {
      if (event.key === " ") this.#pan(false);
    });
    this.body.addEventListener("focusout", () => this.#pan(false));
    this.dialog.addEventListener("keydown", (event) => event.stopPropagation());
    this.dialog.addEventListener("cancel", (event) => {
      if (!this.helpShown) return;
      event.preventDefault();
      this.run("help");
    });
  }

  /**
   * After a click on a button the keys are the canvas's: a button that the click has disabled loses
   * the focus, and Ctrl+Z would undo the graph. Who uses the keyboard stays where they are.
   */
  #keepKeys({ target, detail }) {
    const button = target instanceof Element ? target.closest("button") : null;
    if (!button || this.helpShown || (detail === 0 && !button.disabled)) return;
    this.stage.element.focus({ preventScroll: true });
  }

  #pan(on) {
    this.stage.panKey = on;
    this.stage.element.classList.toggle("pxpo-panning", on);
  }

  #keyDown(event) {
    const { target } = event;
    const onSlider = target instanceof HTMLInputElement;
    if (onSlider && /^(Arrow|Home|End|Page)/.test(event.key)) {
      event.stopPropagation();
      return;
    }
    if (event.key === " " && target === this.stage.element) {
      this.#pan(true);
      keepFromHost(event);
      return;
    }
    const command = commandFor(event);
    if (command === "close" && !this.helpShown && !this.expanded) return;
    if (command && this.run(command)) keepFromHost(event);
  }
}

/**
 * The host undoes the graph on Ctrl+Z from a listener on window that runs before ours and looks at
 * the event a frame later, so stopping the event is not enough: it must also read as another key.
 */
function keepFromHost(event) {
  event.preventDefault();
  event.stopPropagation();
  Object.defineProperty(event, "key", { value: "Unidentified" });
}
