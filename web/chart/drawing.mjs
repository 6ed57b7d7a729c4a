/** The chart as SVG: rewards above, and below them what changed, if that was measured. */

import { changePlan, changeWords, isMeasured } from "./change.mjs";
import { label, nearest, path, plan, usable, words } from "./plot.mjs";

const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 160;
const CHANGE_HEIGHT = 84;
const REWARD = "#3b8bff";
const MARKED = "#a1a1aa";
const CHANGED = "#2bb8a3";
const TEXT = "var(--input-text, #ddd)";
const FAINT = "var(--descrip-text, #999)";
const LINE = "var(--border-color, #4e4e4e)";

/** Follows the size of its place. */
export class Chart {
  constructor() {
    this.rounds = [];
    this.hovered = -1;
    this.element = document.createElement("div");
    this.element.className = "pxpo-chart";
    this.svg = shape("svg", { width: "100%", height: "100%", role: "img" });
    this.element.append(this.svg);
    this.svg.addEventListener("pointermove", (event) => this.hover(event));
    this.svg.addEventListener("pointerleave", () => this.hover(null));
    this.observer = new ResizeObserver(() => this.draw());
    this.observer.observe(this.element);
    this.show([]);
  }

  /** Pixels it needs. */
  get height() {
    return HEIGHT + (this.measured ? CHANGE_HEIGHT : 0);
  }

  show(history) {
    this.rounds = usable(history);
    this.measured = isMeasured(this.rounds);
    this.hovered = -1;
    this.element.style.minHeight = `${this.height}px`;
    this.draw();
  }

  dispose() {
    this.observer.disconnect();
  }

  hover(event) {
    if (this.rounds.length === 0) return;
    let index = -1;
    if (event) {
      // the host scales the node with the graph
      const box = this.svg.getBoundingClientRect();
      const x = ((event.clientX - box.left) / box.width) * this.element.clientWidth;
      index = nearest(plan(this.rounds, this.area()).points, x);
    }
    if (index === this.hovered) return;
    this.hovered = index;
    this.draw();
  }

  area() {
    const { clientWidth: width, clientHeight: whole } = this.element;
    const height = whole - (this.measured ? CHANGE_HEIGHT : 0);
    return { left: 44, top: 46, right: Math.max(60, width - 8), bottom: Math.max(80, height - 20) };
  }

  draw() {
    const area = this.area();
    this.svg.replaceChildren();
    if (this.rounds.length === 0) {
      const middle = { x: this.element.clientWidth / 2, y: (area.top + area.bottom) / 2 };
      const place = { ...middle, fill: FAINT, "text-anchor": "middle" };
      this.add("text", place, "The chart starts with the first round.");
      this.svg.setAttribute("aria-label", "Reward per round: no round yet.");
      return;
    }
    const chosen = this.hovered >= 0 ? this.hovered : this.rounds.length - 1;
    const round = this.rounds[chosen];
    const { reward, marks } = words(round);
    const change = changeWords(round);
    this.add("circle", { cx: 9, cy: 11, r: 4, fill: REWARD });
    this.add("text", { x: 20, y: 15, fill: TEXT, "font-weight": 600 }, reward);
    if (marks) {
      this.add("rect", { x: 5, y: 24, width: 8, height: 8, rx: 2, fill: MARKED });
      this.add("text", { x: 20, y: 32, fill: FAINT }, marks);
    }
    const said = [reward, marks, change].filter(Boolean).join(", ");
    this.svg.setAttribute("aria-label", `Reward per round. ${said}`);
    const points = this.drawRewards(area, chosen);
    if (this.measured) this.drawChanges(area, points, chosen, change);
  }

  drawRewards(area, chosen) {
    const { points, band, bars, rows, columns } = plan(this.rounds, area);
    const step = rows.length > 1 ? rows[1].value - rows[0].value : rows[0].value;
    for (const row of rows) this.drawRow(area, row.y, label(row.value, step));
    for (const column of columns) {
      this.add("text", { x: column.x, y: area.bottom + 15, fill: FAINT, "text-anchor": "middle" },
        String(column.round));
    }
    for (const bar of bars) {
      this.add("rect", { x: bar.x - bar.width / 2, y: bar.y, width: bar.width,
        height: Math.max(0, area.bottom - bar.y), rx: 2, fill: MARKED, "fill-opacity": 0.25 });
    }
    this.add("path", { d: `${path(band)}Z`, fill: REWARD, "fill-opacity": 0.18 });
    this.drawLine(points, REWARD);
    points.forEach((point, i) => this.drawDot(point, REWARD, i === chosen));
    return points;
  }

  drawChanges(above, points, chosen, text) {
    const area = { ...above, top: above.bottom + 46, bottom: above.bottom + 20 + CHANGE_HEIGHT - 10 };
    const { top, inside, outside } = changePlan(this.rounds, points, area);
    const y = area.top - 12;
    this.add("circle", { cx: 9, cy: y - 4, r: 4, fill: CHANGED });
    this.add("text", { x: 20, y, fill: FAINT }, text || "Change: not measured in this round");
    this.drawRow(area, area.bottom, "0");
    this.drawRow(area, area.top, `${(100 * top).toFixed(top < 0.1 ? 1 : 0)} %`);
    for (const piece of outside) this.drawLine(piece, CHANGED, "4 4");
    for (const piece of inside) this.drawLine(piece, CHANGED);
    for (const point of outside.flat()) {
      this.drawDot(point, CHANGED, point.round === chosen, "var(--comfy-menu-bg, #353535)");
    }
    for (const point of inside.flat()) this.drawDot(point, CHANGED, point.round === chosen);
  }

  drawRow(area, y, text) {
    this.add("line", { x1: area.left, x2: area.right, y1: y, y2: y, stroke: LINE,
      "stroke-width": 1, "stroke-opacity": 0.5 });
    this.add("text", { x: area.left - 6, y: y + 4, fill: FAINT, "text-anchor": "end" }, text);
  }

  drawLine(points, colour, dashes = "none") {
    this.add("path", { d: path(points), fill: "none", stroke: colour, "stroke-width": 2,
      "stroke-linejoin": "round", "stroke-linecap": "round", "stroke-dasharray": dashes });
  }

  /** fill: of a hollow dot, which keeps its colour as its rim. */
  drawDot({ x, y }, colour, isChosen, fill = null) {
    if (!isChosen && this.rounds.length > 40) return;
    const rim = fill ? colour : "none";
    this.add("circle", { cx: x, cy: y, r: isChosen ? 4 : 2.5, fill: fill ?? colour,
      stroke: isChosen ? TEXT : rim, "stroke-width": 1.5 });
  }

  add(tag, attributes, content) {
    const made = shape(tag, attributes);
    if (content !== undefined) made.textContent = content;
    this.svg.append(made);
  }
}

function shape(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
  return made;
}
