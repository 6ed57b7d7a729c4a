/** The few things asked of ComfyUI's frontend, in one place: the rest of the widget knows none. */

const HISTORY_TRIES = 20;
const HISTORY_PAUSE_MS = 250;

export class Host {
  constructor(app, api) {
    this.app = app;
    this.api = api;
  }

  /** Listen to a message of the server. @returns {() => void} stops listening */
  on(type, listener) {
    const wrapped = (event) => listener(event.detail ?? {});
    this.api.addEventListener(type, wrapped);
    return () => this.api.removeEventListener(type, wrapped);
  }

  /** "disabled" (a press is a run), "change" or one that starts with "instant". */
  get queueMode() {
    return this.app.extensionManager?.queueSettings?.mode ?? "disabled";
  }

  /**
   * Whether a node of another open workflow tab has this id: they would get each other's pictures.
   * @param {string} id
   */
  isInAnotherWorkflow(id) {
    const { openWorkflows = [], activeWorkflow } = this.app.extensionManager?.workflow ?? {};
    return openWorkflows.some(
      (one) =>
        one !== activeWorkflow && JSON.stringify(one.changeTracker?.activeState ?? "").includes(id),
    );
  }

  /** The workflow changed in a way the host cannot see: let it draw, and keep the change. */
  changed(node) {
    node.graph?.setDirtyCanvas?.(true, true);
    clearTimeout(this.checking);
    this.checking = setTimeout(() => {
      const workflow = this.app.extensionManager?.workflow?.activeWorkflow;
      workflow?.changeTracker?.checkState?.();
    });
  }

  /**
   * Queue a finished prompt once more, exactly as it was: the open tab may hold another workflow.
   */
  async queueAgain(promptId) {
    const [, , output, extra] = (await this.#finished(promptId)).prompt;
    return this.api.queuePrompt(0, { output, workflow: extra?.extra_pnginfo?.workflow });
  }

  /** A prompt's entry in the history, which the server makes a little after it says "success". */
  async #finished(promptId) {
    for (let tries = HISTORY_TRIES; ; tries--) {
      const response = await this.api.fetchApi(`/history/${encodeURIComponent(promptId)}`);
      if (response.status !== 200) throw new Error(`/history answered ${response.status}`);
      const entry = (await response.json())[promptId];
      if (entry) return entry;
      if (tries === 0) throw new Error("the run is no longer in the history");
      await new Promise((resume) => setTimeout(resume, HISTORY_PAUSE_MS));
    }
  }
}
