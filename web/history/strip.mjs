/** The rounds of a run and of its branches, as rows of pictures to choose from. */

import { el } from "../paint/dom.mjs";
import { describe, key, levels, newest, rewardText, rows } from "./overview.mjs";

export class Strip {
  /**
   * @param {(entry: object) => void} choose called with the round a person picks
   * @param {(run: string, entry: object, index: number) => string} thumbUrl
   */
  constructor(choose, thumbUrl) {
    this.choose = choose;
    this.thumbUrl = thumbUrl;
    this.rows = [];
    this.element = el("div", { class: "pxpo-run-rows", on: { keydown: (e) => this.#key(e) } });
  }

  /** @param {object} overview as `readOverview` gives it */
  show(overview, chosen) {
    const focused = this.element.contains(document.activeElement);
    const places = this.rows.map(({ list }) => list.scrollLeft);
    const top = newest(overview);
    const grown = this.rows[0]?.items.length !== overview.rounds.length + 1;
    this.rows = rows(overview).map((row) => this.#row(overview, row, top));
    this.element.replaceChildren(...this.rows.map(({ element }) => element));
    // Places of scrolling count once the new rows are laid out.
    requestAnimationFrame(() => {
      this.rows.forEach(({ list }, i) => {
        list.scrollLeft = i === 0 && grown ? list.scrollWidth : (places[i] ?? list.scrollWidth);
      });
      this.mark(chosen);
    });
    this.mark(chosen);
    if (focused) this.#items().find(({ button }) => button.tabIndex === 0)?.button.focus();
  }

  /** Show which round is chosen; it is the one that Tab reaches. */
  mark(chosen) {
    for (const { element, items, list } of this.rows) {
      const there = items.some(({ entry }) => key(entry) === chosen);
      items.forEach(({ button, entry }, i) => {
        const here = key(entry) === chosen;
        button.setAttribute("aria-pressed", String(here));
        button.tabIndex = here || (!there && i === items.length - 1) ? 0 : -1;
        if (!here) return;
        reveal(list, "Left", "Width", button);
        reveal(this.element, "Top", "Height", element);
      });
    }
  }

  #row(overview, { title, rounds }, top) {
    const heights = levels(overview, rounds);
    const items = rounds.map((entry, i) => this.#item(overview.run, entry, heights[i], top));
    const list = el(
      "div",
      { class: "pxpo-run-list", role: "group", "aria-label": title || `Rounds of ${overview.run}`,
        "data-capture-wheel": "true" }, // asks Vue nodes to leave the wheel here
      ...items.map(({ button }) => button),
    );
    // Most wheels turn one way only; past either end the wheel is the graph's again.
    list.addEventListener("wheel", (event) => {
      if (event.ctrlKey) return;
      const before = list.scrollLeft;
      list.scrollLeft += event.deltaX || event.deltaY;
      if (list.scrollLeft === before) return;
      event.preventDefault();
      event.stopPropagation();
    });
    const heading = title ? [el("span", { class: "pxpo-run-branch" }, title)] : [];
    return { items, list, element: el("div", { class: "pxpo-run-row" }, ...heading, list) };
  }

  #item(run, entry, level, top) {
    const words = describe(entry, top);
    const current = entry.branch === null && entry.round === top;
    const bar = el("span", { class: "pxpo-run-level" });
    if (level !== null) bar.style.setProperty("--level", String(level));
    const button = el(
      "button",
      { type: "button", class: "pxpo-run-round", title: words, "aria-label": words,
        "aria-current": current ? "true" : null, on: { click: () => this.choose(entry) } },
      picture(entry.round === 0 ? null : this.thumbUrl(run, entry, 0)),
      bar,
      el("span", { class: "pxpo-run-number" }, entry.round === 0 ? "Start" : String(entry.round)),
      el("span", { class: "pxpo-run-reward" }, rewardText(entry.reward, 2)),
      ...(entry.partial ? [el("span", { class: "pxpo-run-partial" }, "◐")] : []),
    );
    return { button, entry };
  }

  #items() {
    return this.rows.flatMap(({ items }) => items);
  }

  /** Arrows move between rounds and rows; the host must not see them: they move nodes. */
  #key(event) {
    const row = this.rows.findIndex(({ items }) =>
      items.some(({ button }) => button === event.target),
    );
    if (row < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    const { items } = this.rows[row];
    const at = items.findIndex(({ button }) => button === event.target);
    const there = {
      ArrowLeft: () => items[at - 1],
      ArrowRight: () => items[at + 1],
      Home: () => items[0],
      End: () => items.at(-1),
      ArrowUp: () => this.rows[row - 1]?.items.at(-1),
      ArrowDown: () => this.rows[row + 1]?.items.at(-1),
    }[event.key];
    if (!there) return;
    event.preventDefault();
    event.stopPropagation();
    const next = there();
    if (!next) return;
    next.button.focus();
    this.choose(next.entry);
  }
}

/** Scroll a part of a list into sight, and nothing around the list: that would be the node. */
function reveal(list, side, extent, part) {
  const start = part[`offset${side}`]; // the list is what offsets are measured from
  const end = start + part[`offset${extent}`];
  if (start < list[`scroll${side}`]) list[`scroll${side}`] = start;
  const size = list[`client${extent}`];
  if (end > list[`scroll${side}`] + size) list[`scroll${side}`] = end - size;
}

/** A picture that is left blank when it is not there any more. */
export function picture(url) {
  const frame = el("span", { class: "pxpo-run-picture" });
  if (url) {
    const image = el("img", { src: url, alt: "", loading: "lazy", draggable: "false" });
    image.addEventListener("error", () => image.remove());
    frame.append(image);
  }
  return frame;
}
