/** What PXPO Update LoRA shows: a chart of the rounds, and what the newest one changed. */

import { api } from "../../../scripts/api.js";
import { app } from "../../../scripts/app.js";

import { el, loadStyleSheet } from "../paint/dom.mjs";
import { Chart } from "./drawing.mjs";
import { Slider } from "./slider.mjs";
import { isForTab, tabName } from "./tab.mjs";

const NODE_CLASS = "PXPO_UpdateLoRA";
const MARGIN = 24; // what the host leaves free around a widget
const ROOM_TO_GROW = 400;
// Kept with the workflow, because the host does not repeat results after a reload.
const HISTORY = "pxpo_history";
const EFFECT = "pxpo_effect";
const KEPT = 200;

/** Give it to app.registerExtension. */
export const updateChart = {
  name: "pxpo.chart",
  setup: () => loadStyleSheet(new URL("./chart.css", import.meta.url).href),
  nodeCreated(node) {
    if (node.comfyClass !== NODE_CLASS || !node.addDOMWidget) return;
    const chart = new Chart();
    const slider = new Slider(
      (file) => api.apiURL(`/view?${new URLSearchParams(file)}`),
      () => grow(node),
    );
    const height = () => chart.height + slider.height + MARGIN;
    const element = el("div", { class: "pxpo-report" }, chart.element, slider.element);
    const widget = node.addDOMWidget("pxpo_chart", "PXPO_CHART", element, {
      hideOnZoom: false,
      getMinHeight: height,
      getMaxHeight: () => height() + ROOM_TO_GROW,
    });
    widget.serialize = false; // not a value: saved workflows list values by position
    widget.serializeValue = () => tabName(openWorkflow()); // for the prompt alone
    const show = () => {
      chart.show(node.properties?.[HISTORY]);
      slider.show(node.properties?.[EFFECT]);
      grow(node);
    };
    after(node, "onExecuted", (output) => {
      const update = output?.pxpo_update?.[0];
      if (!Array.isArray(update?.history) || !isForTab(update.tab, openWorkflow())) return;
      node.properties ??= {};
      node.properties[HISTORY] = update.history.slice(-KEPT);
      if (update.trained) {
        node.properties[EFFECT] = update.effect ? { ...update.effect, round: update.round } : null;
      }
      show();
    });
    after(node, "onConfigure", show);
    after(node, "onRemoved", () => {
      chart.dispose();
      slider.dispose();
    });
  },
};

function openWorkflow() {
  return app.extensionManager?.workflow?.activeWorkflow;
}

/** Make a node tall enough for what it shows; never smaller. */
function grow(node) {
  const [, needed] = node.computeSize?.() ?? [0, 0];
  if (node.size[1] < needed) node.setSize([node.size[0], needed]);
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
