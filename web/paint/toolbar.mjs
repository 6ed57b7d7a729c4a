/** The controls above the canvas. */

import { el, icon, iconButton } from "./dom.mjs";
import { ICONS } from "./icons.mjs";
import { LARGEST_SIZE, SMALLEST_SIZE } from "./session.mjs";

const TOOL_NAMES = { brush: "Brush (B)", eraser: "Eraser (E)", fill: "Fill region (G)" };

export class Toolbar {
  /**
   * @param {import("./session.mjs").PaintSession} session
   * @param {(command: string) => void} run does what a key of that command does
   */
  constructor(session, run) {
    this.session = session;
    this.run = run;
    const act = (command) => () => run(command);
    this.like = signButton("Like", "pxpo-like", "M8 3v10M3 8h10", () => session.set({ sign: 1 }));
    this.dislike = signButton("Dislike", "pxpo-dislike", "M3 8h10", () => session.set({ sign: -1 }));
    this.tools = Object.entries(TOOL_NAMES).map(([tool, label]) => {
      return [tool, iconButton(label, ICONS[tool], () => session.set({ tool }))];
    });
    this.undo = iconButton("Undo (Ctrl+Z)", ICONS.undo, act("undo"));
    this.redo = iconButton("Redo (Ctrl+Shift+Z)", ICONS.redo, act("redo"));
    this.expand = iconButton("Large view (F)", ICONS.expand, act("expand"));
    this.help = iconButton("All keys (?)", ICONS.help, act("help"), { "aria-expanded": "false" });

    this.sliders = [
      slider("Size", session, {
        read: () => Math.log(session.size / SMALLEST_SIZE) / Math.log(LARGEST_SIZE / SMALLEST_SIZE),
        write: (t) => ({ size: SMALLEST_SIZE * (LARGEST_SIZE / SMALLEST_SIZE) ** t }),
        show: () => (session.page ? `${Math.round(session.radius * 2)} px` : "–"),
      }),
      slider("Strength", session, {
        read: () => session.strength,
        write: (t) => ({ strength: Math.max(0.05, t) }),
        show: () => `${Math.round(session.strength * 100)} %`,
      }),
      slider("Hardness", session, {
        read: () => session.hardness,
        write: (t) => ({ hardness: t }),
        show: () => `${Math.round(session.hardness * 100)} %`,
      }),
    ];
    this.tolerance = slider("Tolerance", session, {
      read: () => session.tolerance,
      write: (t) => ({ tolerance: t }),
      show: () => `${Math.round(session.tolerance * 100)} %`,
    });
    this.pressure = iconButton(
      "Pen pressure sets the width",
      "M3 13.5 5 9l6.5-6.5 2 2L7 11ZM9.5 13.5h4",
      () => session.set({ usePressure: !session.usePressure }),
    );

    this.wholeLike = iconButton("Like the whole picture", ICONS.wholeLike, act("whole-like"));
    this.wholeDislike = iconButton(
      "Dislike the whole picture", ICONS.wholeDislike, act("whole-dislike"),
    );
    this.invert = iconButton("Invert this picture's marks (I)", ICONS.invert, act("invert"));
    this.clear = iconButton("Clear this picture (Delete)", ICONS.clear, act("clear"));
    this.copy = iconButton("Copy marks (Ctrl+C)", ICONS.copy, act("copy"));
    this.paste = iconButton("Paste marks (Ctrl+V)", ICONS.paste, act("paste"));
    this.all = iconButton("These marks on all pictures (Ctrl+Shift+V)", ICONS.all, act("paste-all"));
    this.marks = iconButton("Show marks (H)", ICONS.eye, act("show-marks"));

    this.element = el(
      "div",
      { class: "pxpo-toolbar", role: "group", "aria-label": "Painting tools" },
      el(
        "div",
        { class: "pxpo-rows" },
        el(
          "div",
          { class: "pxpo-row" },
          group("Paint as", this.like, this.dislike),
          group("Tool", ...this.tools.map(([, button]) => button)),
          group("History", this.undo, this.redo),
          el("span", { class: "pxpo-space" }),
          el("div", { class: "pxpo-group pxpo-view" }, this.help, this.expand),
        ),
        el(
          "div",
          { class: "pxpo-row" },
          group("Whole picture", this.wholeLike, this.wholeDislike, this.invert, this.clear),
          group("Copy marks", this.copy, this.paste, this.all),
          el("span", { class: "pxpo-space" }),
          group("Settings", this.marks, this.pressure),
        ),
      ),
      el(
        "div",
        { class: "pxpo-row pxpo-sliders" },
        ...this.sliders.map((s) => s.element),
        this.tolerance.element,
      ),
    );
  }

  /** Show the session's state. @param {{showMarks: boolean, expanded: boolean, help: boolean}} ui */
  update({ showMarks, expanded, help }) {
    const { session } = this;
    const { page, canEdit } = session;
    press(this.like, session.sign > 0);
    press(this.dislike, session.sign < 0);
    for (const [tool, button] of this.tools) press(button, session.tool === tool);
    press(this.pressure, session.usePressure);
    press(this.marks, showMarks);
    this.help.setAttribute("aria-expanded", String(help));
    this.expand.replaceChildren(icon(expanded ? ICONS.close : ICONS.expand));
    name(this.expand, expanded ? "Close the large view (Esc)" : "Large view (F)");
    const blank = !page || page.isBlank;
    this.undo.disabled = !canEdit || !page.history.canUndo;
    this.redo.disabled = !canEdit || !page.history.canRedo;
    for (const button of [this.wholeLike, this.wholeDislike]) button.disabled = !canEdit;
    for (const button of [this.invert, this.clear]) button.disabled = !canEdit || blank;
    this.copy.disabled = blank;
    this.all.disabled = !canEdit || (blank && !session.clipboard) || session.pages.length < 2;
    this.paste.disabled = !canEdit || !session.clipboard;
    for (const one of [...this.sliders, this.tolerance]) one.update();
    const filling = session.tool === "fill";
    this.tolerance.element.hidden = !filling;
    for (const one of [this.sliders[0], this.sliders[2]]) one.element.hidden = filling;
  }
}

function signButton(text, kind, path, act) {
  return el(
    "button",
    { type: "button", class: `pxpo-button pxpo-sign ${kind}`, title: `${text} (X swaps)`,
      on: { click: act } },
    icon(path),
    el("span", {}, text),
  );
}

function group(label, ...buttons) {
  return el("div", { class: "pxpo-group", role: "group", "aria-label": label }, ...buttons);
}

function press(button, pressed) {
  button.setAttribute("aria-pressed", String(pressed));
}

function name(button, text) {
  button.title = text;
  button.setAttribute("aria-label", text);
}

/** A labelled slider from 0 to 1. */
function slider(label, session, { read, write, show }) {
  const value = el("output", { class: "pxpo-value" });
  const input = el("input", {
    type: "range", min: 0, max: 1, step: 0.01, "aria-label": label,
    on: { input: () => session.set(write(Number(input.value))) },
  });
  const element = el(
    "label", { class: "pxpo-slider" }, el("span", {}, label), input, value,
  );
  return {
    element,
    update() {
      input.value = String(read());
      input.style.setProperty("--filled", `${read() * 100}%`);
      input.setAttribute("aria-valuetext", show());
      value.textContent = show();
    },
  };
}
