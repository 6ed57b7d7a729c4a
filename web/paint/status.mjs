/** The line below the pictures: a sentence, and the buttons that fit it. */

import { el } from "./dom.mjs";

export class StatusLine {
  /** @param {{goOn: () => void, use: () => void, restore: () => void, autoNext: (on: boolean) => void}} act */
  constructor(act) {
    this.message = el("span", { class: "pxpo-message", role: "status", "aria-live": "polite" });
    // Beside the sentence, or a screen reader would read the sentence again every two seconds.
    this.time = el("span", { class: "pxpo-time", "aria-live": "off" });
    // Made once: a button that is replaced loses the focus, and the click that is on its way.
    this.goOn = button("Continue", "The run goes on and learns from these marks", act.goOn);
    this.use = button("Use these marks", "From now on, runs learn from these marks", act.use);
    this.restore = button("Restore newer marks", "Saved after this workflow was", act.restore);
    this.next = el("input", { type: "checkbox",
      on: { change: () => act.autoNext(this.next.checked) } });
    this.autoNext = el(
      "label",
      { class: "pxpo-auto", title: "Sample the next pictures by itself after learning" },
      this.next, "Next batch by itself",
    );
    this.element = el(
      "div",
      { class: "pxpo-status" },
      this.message,
      el("span", { class: "pxpo-actions" }, this.time, this.goOn, this.use, this.restore, this.autoNext),
    );
  }

  /** @param {{text: string, time?: string, goOn?: boolean, use?: boolean, autoNext?: boolean,
   *   restore?: boolean, next: boolean}} shown goOn, use, restore, autoNext: whether these can be
   *   pressed now */
  update({
    text, time = "", goOn = false, use = false, restore = false, autoNext = false, next,
  }) {
    if (this.message.textContent !== text) this.message.textContent = text;
    this.message.title = text;
    this.time.textContent = time;
    this.goOn.hidden = !goOn;
    this.use.hidden = !use;
    this.restore.hidden = !restore;
    this.autoNext.hidden = !autoNext;
    this.next.checked = next;
  }
}

function button(text, title, act) {
  return el(
    "button",
    { type: "button", class: "pxpo-button pxpo-primary", title, on: { click: act } },
    text,
  );
}
