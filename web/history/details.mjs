/** The chosen round: its pictures, its figures, and what can be done with it. */

import { el } from "../paint/dom.mjs";
import { describe, figures, newest, pictureCount } from "./overview.mjs";
import { picture } from "./strip.mjs";

export class Details {
  /**
   * @param {{goBack: Function, copy: Function}} act called with the chosen round
   * @param {(run: string, entry: object, index: number) => string} thumbUrl
   */
  constructor(act, thumbUrl) {
    this.thumbUrl = thumbUrl;
    this.entry = null;
    this.pictures = el("div", { class: "pxpo-run-pictures" });
    this.title = el("strong");
    this.figures = el("span", { class: "pxpo-run-faint" });
    this.back = el(
      "button",
      { type: "button", class: "pxpo-run-action pxpo-run-main",
        title: "The next press goes on from this round. Later rounds become a branch.",
        on: { click: () => act.goBack(this.entry) } },
    );
    this.copy = el(
      "button",
      { type: "button", class: "pxpo-run-action",
        title: "The rounds up to this one, as a run of its own.",
        on: { click: () => act.copy(this.entry) } },
      "Copy as a new run…",
    );
    this.element = el(
      "div",
      { class: "pxpo-run-details", role: "group", "aria-label": "Chosen round" },
      this.pictures,
      el("div", { class: "pxpo-run-words" }, this.title, this.figures),
      el("div", { class: "pxpo-run-buttons" }, this.back, this.copy),
    );
  }

  show(overview, entry, busy) {
    const changed = this.entry !== entry;
    this.entry = entry;
    const top = newest(overview);
    const row = entry.branch === null
      ? overview.rounds
      : overview.branches.find(({ number }) => number === entry.branch).rounds;
    const before = row.find(({ round }) => round === entry.round - 1);
    const [title] = describe(entry, top).split(", mean reward");
    this.title.textContent = title;
    this.figures.textContent = figures(entry, before);
    const canGoBack = entry.branch === null && entry.round < top;
    this.back.hidden = !canGoBack;
    this.back.textContent = entry.round === 0 ? "Go back to the start" : "Go back to this round";
    this.copy.hidden = entry.round === 0;
    this.back.disabled = this.copy.disabled = busy;
    if (!changed) return;
    const count = pictureCount(entry);
    const shown = Array.from({ length: count }, (_, i) => {
      const one = picture(this.thumbUrl(overview.run, entry, i));
      one.firstChild.addEventListener("error", () => one.remove());
      return one;
    });
    this.pictures.replaceChildren(...shown);
    this.pictures.hidden = count === 0;
  }
}
