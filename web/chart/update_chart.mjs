/** The live chart on PXPO Update LoRA: reward per round, and how much of the pictures was marked. */

import { label, nearest, path, plan, usable, words } from "./plot.mjs";

const NODE_CLASS = "PXPO_UpdateLoRA";
const SVG = "http://www.w3.org/2000/svg";
const HEIGHT = 160;
const MARGIN = 24; // what the host leaves free around a widget
const PROPERTY = "pxpo_history";
const KEPT = 200;
const REWARD = "#3b8bff";
const MARKED = "#a1a1aa";

/** Give it to app.registerExtension. */
export const updateChart = {
  name: "pxpo.chart",
  nodeCreated(node) {
    if (node.comfyClass !== NODE_CLASS || !node.addDOMWidget) return;
    const chart = new UpdateChart();
    const widget = node.addDOMWidget("pxpo_chart", "PXPO_CHART", chart.element, {
      serialize: false,
      hideOnZoom: false,
      getMinHeight: () => HEIGHT + MARGIN,
      getMaxHeight: () => 2 * HEIGHT,
    });
    widget.serialize = false; // not a value: saved workflows list values by position
    const show = () => chart.show(node.properties?.[PROPERTY]);
    after(node, "onExecuted", (output) => {
      const history = output?.pxpo_update?.[0]?.history;
      if (!Array.isArray(history)) return;
      node.properties ??= {};
      // kept with the workflow, because the host does not repeat results after a reload
      node.properties[PROPERTY] = history.slice(-KEPT);
      show();
    });
    after(node, "onConfigure", show);
    after(node, "onRemoved", () => chart.dispose());
  },
};

/** The SVG drawing; it follows the size of its place. */
class UpdateChart {
  constructor() {
    this.rounds = [];
    this.hovered = -1;
    this.element = document.createElement("div");
    this.element.style.cssText = `width:100%;height:100%;min-height:${HEIGHT}px;`;
    this.svg = shape("svg", { width: "100%", height: "100%", role: "img" });
    this.svg.style.cssText = "display:block;font:11px Inter,system-ui,sans-serif;overflow:visible";
    this.element.append(this.svg);
    this.svg.addEventListener("pointermove", (event) => this.hover(event));
    this.svg.addEventListener("pointerleave", () => this.hover(null));
    this.observer = new ResizeObserver(() => this.draw());
    this.observer.observe(this.element);
    this.draw();
  }

  show(history) {
    this.rounds = usable(history);
    this.hovered = -1;
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
    const { clientWidth: width, clientHeight: height } = this.element;
    return { left: 44, top: 46, right: Math.max(60, width - 8), bottom: Math.max(80, height - 20) };
  }

  draw() {
    const text = "var(--input-text, #ddd)";
    const faint = "var(--descrip-text, #999)";
    const line = "var(--border-color, #4e4e4e)";
    const area = this.area();
    this.svg.replaceChildren();
    const add = (tag, attributes, content) => {
      const made = shape(tag, attributes);
      if (content !== undefined) made.textContent = content;
      this.svg.append(made);
    };
    if (this.rounds.length === 0) {
      const middle = { x: this.element.clientWidth / 2, y: (area.top + area.bottom) / 2 };
      const place = { ...middle, fill: faint, "text-anchor": "middle" };
      add("text", place, "The chart starts with the first round.");
      this.svg.setAttribute("aria-label", "Reward per round: no round yet.");
      return;
    }
    const { points, band, bars, rows, columns } = plan(this.rounds, area);
    const chosen = this.hovered >= 0 ? this.hovered : this.rounds.length - 1;
    const { reward, marks } = words(this.rounds[chosen]);
    add("circle", { cx: 9, cy: 11, r: 4, fill: REWARD });
    add("text", { x: 20, y: 15, fill: text, "font-weight": 600 }, reward);
    if (marks) {
      add("rect", { x: 5, y: 24, width: 8, height: 8, rx: 2, fill: MARKED });
      add("text", { x: 20, y: 32, fill: faint }, marks);
    }
    this.svg.setAttribute("aria-label", `Reward per round. ${reward}, ${marks}`);

    const step = rows.length > 1 ? rows[1].value - rows[0].value : rows[0].value;
    for (const row of rows) {
      add("line", { x1: area.left, x2: area.right, y1: row.y, y2: row.y, stroke: line,
        "stroke-width": 1, "stroke-opacity": 0.5 });
      add("text", { x: area.left - 6, y: row.y + 4, fill: faint, "text-anchor": "end" },
        label(row.value, step));
    }
    for (const column of columns) {
      add("text", { x: column.x, y: area.bottom + 15, fill: faint, "text-anchor": "middle" },
        String(column.round));
    }
    for (const bar of bars) {
      add("rect", { x: bar.x - bar.width / 2, y: bar.y, width: bar.width,
        height: Math.max(0, area.bottom - bar.y), rx: 2, fill: MARKED, "fill-opacity": 0.25 });
    }
    add("path", { d: `${path(band)}Z`, fill: REWARD, "fill-opacity": 0.18 });
    add("path", { d: path(points), fill: "none", stroke: REWARD, "stroke-width": 2,
      "stroke-linejoin": "round", "stroke-linecap": "round" });
    points.forEach((point, i) => {
      if (i !== chosen && points.length > 40) return;
      add("circle", { cx: point.x, cy: point.y, r: i === chosen ? 4 : 2.5, fill: REWARD,
        stroke: i === chosen ? text : "none", "stroke-width": 1.5 });
    });
  }
}

function shape(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
  return made;
}

/** Call `more` after a node's own callback of that name, with the same arguments. */
function after(node, name, more) {
  const before = node[name];
  node[name] = function (...rest) {
    const result = before?.apply(this, rest);
    more(...rest);
    return result;
  };
}
