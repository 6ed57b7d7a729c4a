/** PXPO in ComfyUI's frontend. The only .js file here: the host imports every one it finds. */

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";

import { updateChart } from "./chart/update_chart.mjs";
import { runHistory } from "./history/run_history.mjs";
import { loadStyles } from "./paint/dom.mjs";
import { Host } from "./paint/host.mjs";
import { Rounds } from "./paint/rounds.mjs";
import { PaintStorage } from "./paint/storage.mjs";
import { PaintWidget } from "./paint/widget.mjs";

const NODE_CLASS = "PXPO_PaintReward";
const SMALLEST = { width: 460, height: 440 };
const FIRST_SIZE = [500, 880];

function paintWidgets() {
  const inGraph = new Set();
  const host = new Host(app, api);
  const shared = { host, storage: new PaintStorage(api), rounds: new Rounds(host) };

  return (node, inputName) => {
    const paint = new PaintWidget(node, shared, (id) =>
      [...inGraph].some((other) => other !== paint && other.value.node === id),
    );
    const widget = node.addDOMWidget(inputName, "PXPO_PAINT", paint.panel.element, {
      getValue: () => paint.getValue(),
      setValue: (value) => paint.setValue(value),
      getMinHeight: () => SMALLEST.height,
      hideOnZoom: false,
    });
    widget.serializeValue = () => paint.serialize();
    chain(node, "onAdded", () => {
      inGraph.add(paint);
      paint.attach();
    });
    chain(node, "onRemoved", () => {
      inGraph.delete(paint);
      paint.dispose();
    });
    return { widget, minWidth: SMALLEST.width, minHeight: SMALLEST.height };
  };
}

/** Call `more` after a node's own callback of that name. */
function chain(node, name, more) {
  const before = node[name];
  node[name] = function (...rest) {
    const result = before?.apply(this, rest);
    more();
    return result;
  };
}

app.registerExtension({
  name: "pxpo",
  setup: loadStyles,
  nodeCreated(node) {
    if (node.comfyClass === NODE_CLASS) node.setSize(FIRST_SIZE);
  },
  getCustomWidgets: () => ({ PXPO_PAINT: paintWidgets() }),
});

app.registerExtension(updateChart);
app.registerExtension(runHistory(api));
