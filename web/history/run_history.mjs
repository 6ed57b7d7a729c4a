/** Puts the history on PXPO Training Run and keeps it up to date. */

import { loadStyleSheet } from "../paint/dom.mjs";
import { HistoryPanel } from "./panel.mjs";
import { RunServer } from "./server.mjs";

const NODE_CLASS = "PXPO_Run";
const WIDGET = "run_name";
const PROPERTY = "pxpo_run";
const MARGIN = 10; // what the host leaves free around a widget
const PAUSE_MS = 250;
const OLD_MS = 5000;
const CHANGES = [
  "executed", "execution_success", "execution_error", "execution_interrupted", "reconnected",
];

/** Give it to app.registerExtension. @param {object} api the host's */
export function runHistory(api) {
  const server = new RunServer(api);
  return {
    name: "pxpo.history",
    setup: () => loadStyleSheet(new URL("./history.css", import.meta.url).href),
    nodeCreated(node) {
      if (node.comfyClass === NODE_CLASS && node.addDOMWidget) new RunHistory(node, api, server);
    },
  };
}

class RunHistory {
  constructor(node, api, server) {
    this.node = node;
    this.panel = new HistoryPanel(server);
    this.asked = 0;
    const widget = node.addDOMWidget("pxpo_history", "PXPO_HISTORY", this.panel.element, {
      serialize: false,
      hideOnZoom: false,
      getMinHeight: () => this.panel.height + MARGIN,
    });
    widget.serialize = false; // not a value: saved workflows list values by position
    this.panel.addEventListener("resize", () => this.#fit());
    const changed = ({ type, detail }) => {
      if (type !== "executed" || concernsRuns(detail?.output)) this.#soon();
    };
    // Copies on their way to the clipboard are never added, so never removed either.
    this.attached = false;
    after(node, "onAdded", () => {
      this.attached = true;
      for (const type of CHANGES) api.addEventListener(type, changed);
      this.#soon();
    });
    after(node, "onRemoved", () => {
      this.attached = false;
      clearTimeout(this.timer);
      for (const type of CHANGES) api.removeEventListener(type, changed);
    });
    after(node, "onConfigure", () => this.#soon());
    after(node, "onConnectionsChange", () => this.#soon());
    after(node, "onExecuted", (output) => {
      const run = output?.pxpo_run?.[0]?.run;
      if (typeof run !== "string") return;
      node.properties ??= {};
      node.properties[PROPERTY] = run; // a linked name is known only by what ran
      this.#soon();
    });
    const name = this.#widget();
    if (name) after(name, "callback", () => this.#soon());
    this.panel.element.addEventListener("pointerenter", () => {
      if (this.#runName() !== this.panel.run || Date.now() - this.asked > OLD_MS) this.#refresh();
    });
  }

  #soon() {
    clearTimeout(this.timer);
    if (!this.attached) return;
    this.timer = setTimeout(() => this.#refresh(), PAUSE_MS);
  }

  #refresh() {
    this.asked = Date.now();
    this.panel.show(this.#runName());
  }

  #runName() {
    const linked = this.node.inputs?.some(
      (input) => (input.widget?.name ?? input.name) === WIDGET && input.link != null,
    );
    return linked ? this.node.properties?.[PROPERTY] : this.#widget()?.value;
  }

  #widget() {
    return this.node.widgets?.find((widget) => widget.name === WIDGET);
  }

  /** Make room for what is shown, and give back what is not needed any more. */
  #fit() {
    const { node } = this;
    const [, needed] = node.computeSize();
    const [width, height] = node.size;
    const isOurs = this.needed !== undefined && Math.abs(height - this.needed) < 2;
    node.setSize([width, isOurs ? needed : Math.max(height, needed)]);
    this.needed = needed;
    node.graph?.setDirtyCanvas?.(true, true);
  }
}

function concernsRuns(output) {
  return ["pxpo_run", "pxpo_update", "pxpo_go_back", "pxpo_copy", "pxpo_delete"].some(
    (name) => output?.[name] !== undefined,
  );
}

/** Call `more` after an object's own function of that name, with the same arguments. */
function after(owner, name, more) {
  const before = owner[name];
  owner[name] = function (...rest) {
    const result = before?.apply(this, rest);
    more(...rest);
    return result;
  };
}
