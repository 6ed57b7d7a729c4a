/** Questions in the middle of the page. */

import { el } from "../paint/dom.mjs";

/**
 * @param {object} question
 * @param {string} question.title
 * @param {string} question.text
 * @param {string} question.yes the word on the button that does it
 * @param {boolean} [question.danger] the other button has the focus, and this one is red
 * @param {{label: string, value: string, check: (text: string) => string}} [question.field] a line
 *   to fill in; check gives what is wrong with it, or an empty string
 * @returns {Promise<string | null>} what was filled in (or ""), null when it was called off
 */
export function ask({ title, text, yes, danger = false, field = null }) {
  return new Promise((resolve) => {
    const back = document.activeElement;
    const problem = el("p", { class: "pxpo-run-problem", role: "alert" });
    const input = field
      && el("input", { type: "text", value: field.value, maxlength: 64, spellcheck: "false",
        autocomplete: "off", on: { input: check } });
    const confirm = el(
      "button",
      { type: "submit", class: `pxpo-run-action pxpo-run-${danger ? "danger" : "main"}` },
      yes,
    );
    const cancel = el(
      "button",
      { type: "button", class: "pxpo-run-action", on: { click: () => end(null) } },
      "Cancel",
    );
    const heading = el("h2", { id: "pxpo-run-question" }, title);
    const words = el("p", { id: "pxpo-run-question-text" }, text);
    const form = el(
      "form",
      { method: "dialog" },
      heading,
      words,
      ...(input ? [el("label", {}, field.label, input), problem] : []),
      el("div", { class: "pxpo-run-buttons" }, cancel, confirm),
    );
    const dialog = el(
      "dialog",
      { class: "pxpo-run-dialog", "aria-labelledby": heading.id, "aria-describedby": words.id },
      form,
    );

    function check() {
      if (!input) return true;
      problem.textContent = field.check(input.value);
      confirm.disabled = problem.textContent !== "";
      return !confirm.disabled;
    }

    function end(answer) {
      dialog.close();
      dialog.remove();
      back?.focus?.();
      resolve(answer);
    }

    form.addEventListener("submit", (event) => {
      event.preventDefault();
      if (check()) end(input ? input.value : "");
    });
    dialog.addEventListener("cancel", (event) => {
      event.preventDefault();
      end(null);
    });
    // The host listens to keys on the whole page, and Delete there removes nodes.
    for (const type of ["keydown", "keyup", "keypress", "paste", "copy", "cut"]) {
      dialog.addEventListener(type, (event) => event.stopPropagation());
    }
    document.body.append(dialog);
    dialog.showModal();
    check();
    if (input) {
      input.focus();
      input.select();
    } else {
      (danger ? cancel : confirm).focus();
    }
  });
}
