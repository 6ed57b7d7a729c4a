/** The history of one run: its strip, the chosen round, and what can be done. */

import { el, icon } from "../paint/dom.mjs";
import { newId } from "../paint/identity.mjs";
import { Details } from "./details.mjs";
import { ask } from "./dialogs.mjs";
import {
  copyName, countText, deleteQuestion, isRunName, key, newest, presses, readOverview, rows,
} from "./overview.mjs";
import { Strip } from "./strip.mjs";

const TRASH = "M3 4.5h10M6.5 4.5v-2h3v2M4.3 4.5l.6 9h6.2l.6-9M6.8 7v4M9.2 7v4";
const EMPTY_HEIGHT = 40;
const HEIGHT = 340;
const BRANCH_HEIGHT = 106; // one more row; others are reached by scrolling
const MESSAGE_HEIGHT = 48;
const LAST_WORDS_HEIGHT = 70; // of a run that is gone

/** Events: "resize" when it needs another height. */
export class HistoryPanel extends EventTarget {
  /** @param {import("./server.mjs").RunServer} server */
  constructor(server) {
    super();
    this.server = server;
    this.run = null;
    this.overview = null;
    this.chosen = null;
    this.busy = false;
    this.said = "";
    this.unread = ""; // what was said when the history could not be read
    this.asked = 0;
    const thumbUrl = (run, entry, index) => server.thumbUrl(run, entry, index);
    this.strip = new Strip((entry) => this.#choose(entry), thumbUrl);
    this.details = new Details(
      { goBack: (entry) => this.#goBack(entry), copy: (entry) => this.#copy(entry) },
      thumbUrl,
    );
    this.title = el("span", { class: "pxpo-run-title" });
    this.trash = el(
      "button",
      { type: "button", class: "pxpo-run-action pxpo-run-quiet", title: "Delete this run…",
        "aria-label": "Delete this run…", on: { click: () => this.#delete() } },
      icon(TRASH),
    );
    this.head = el("div", { class: "pxpo-run-head" }, this.title, this.trash);
    this.message = el("div", { class: "pxpo-run-message", role: "status" });
    this.element = el(
      "section",
      { class: "pxpo-run", "aria-label": "History of the run" },
      this.head, this.strip.element, this.details.element, this.message,
    );
    // Pressing here is not for the node below: it would move, or lose its selection.
    this.element.addEventListener("pointerdown", (event) => event.stopPropagation());
    this.element.addEventListener("keydown", (event) => {
      // To the host these mean: remove the selected nodes.
      if (event.key === "Delete" || event.key === "Backspace") event.stopPropagation();
    });
    this.#draw();
  }

  /** Pixels it needs. */
  get height() {
    if (!this.overview) return EMPTY_HEIGHT + (this.said ? LAST_WORDS_HEIGHT : 0);
    const message = this.said ? MESSAGE_HEIGHT : 0;
    return HEIGHT + message + (this.overview.branches.length > 0 ? BRANCH_HEIGHT : 0);
  }

  /** Show the run of this name, as it is on the server now. */
  async show(run) {
    const name = isRunName(run) ? run : null;
    if (name !== this.run) {
      this.#say("");
      this.chosen = null;
    }
    this.run = name;
    const asked = ++this.asked;
    let overview = null;
    try {
      overview = name === null ? null : readOverview(await this.server.overview(name));
    } catch (error) {
      if (asked !== this.asked) return;
      this.unread = `The history could not be read: ${error.message}`;
      this.#say(this.unread, true);
      return;
    }
    if (asked !== this.asked) return; // another run was asked for meanwhile
    if (this.unread && this.said === this.unread) this.#say("");
    this.unread = "";
    const same = JSON.stringify(overview) === JSON.stringify(this.overview);
    if (same && this.overview !== null) return;
    const wasNewest = this.chosen === null
      || (this.overview !== null && this.chosen === this.#keyOfNewest(this.overview));
    this.overview = overview;
    if (overview && (wasNewest || !this.#find(this.chosen))) {
      this.chosen = this.#keyOfNewest(overview);
    }
    this.#draw();
  }

  #draw() {
    const { overview } = this;
    for (const part of [this.head, this.strip.element, this.details.element]) {
      part.hidden = overview === null;
    }
    this.element.classList.toggle("pxpo-run-empty", overview === null);
    if (overview !== null) {
      this.title.textContent = `${overview.run}: ${countText(overview.rounds.length, "round")}`
        + (overview.branches.length ? `, ${countText(overview.branches.length, "branch")}` : "");
      this.strip.show(overview, this.chosen);
      this.#drawChosen();
    }
    this.#say(this.said, this.message.classList.contains("pxpo-run-error"));
  }

  #drawChosen() {
    const entry = this.#find(this.chosen);
    if (entry) this.details.show(this.overview, entry, this.busy);
    this.trash.disabled = this.busy;
  }

  #choose(entry) {
    this.chosen = key(entry);
    this.strip.mark(this.chosen);
    this.#drawChosen();
  }

  #find(chosen) {
    if (!this.overview) return undefined;
    return rows(this.overview).flatMap((row) => row.rounds).find((entry) => key(entry) === chosen);
  }

  #keyOfNewest(overview) {
    return key(rows(overview)[0].rounds.at(-1));
  }

  async #goBack(entry) {
    await this.#command("PXPO_GoBack", {
      run_name: this.overview.run, round: entry.round, token: newId(),
    });
  }

  async #copy(entry) {
    const { run } = this.overview;
    const where = entry.branch === null ? "" : ` of branch ${entry.branch}`;
    const name = await ask({
      title: `Copy run “${run}”`,
      text: `The rounds up to round ${entry.round}${where} become a run of their own. To train it, `
        + "type its name into run_name.",
      yes: "Copy",
      field: {
        label: "Name of the new run",
        value: copyName(entry, run),
        check: (text) => {
          if (text.toLowerCase() === run.toLowerCase()) return "That is this run’s name.";
          return isRunName(text)
            ? ""
            : "1 to 64 letters, digits, spaces, hyphens and underscores; a letter or digit first.";
        },
      },
    });
    if (name === null) return;
    await this.#command("PXPO_CopyRun", {
      run_name: run, new_name: name, round: entry.round, branch: entry.branch ?? 0,
    });
  }

  async #delete() {
    const { overview } = this;
    try {
      const waiting = presses(await this.server.queue(), overview.run);
      if (waiting > 0) {
        this.#say(
          `${waiting === 1 ? "A press" : `${waiting} presses`} of Run in the queue `
            + `${waiting === 1 ? "trains" : "train"} this run. Wait or cancel first, then delete.`,
          true,
        );
        return;
      }
    } catch (error) {
      this.#say(error.message, true);
      return;
    }
    const answer = await ask({
      title: `Delete run “${overview.run}”?`,
      text: deleteQuestion(overview),
      yes: "Delete run",
      danger: true,
    });
    if (answer === null) return;
    await this.#command("PXPO_DeleteRun", {
      run_name: overview.run, uuid: overview.uuid, rounds: newest(overview),
    });
  }

  async #command(classType, inputs) {
    this.busy = true;
    this.#drawChosen();
    this.#say("Waiting in the queue …");
    try {
      this.#say(await this.server.command(classType, inputs));
    } catch (error) {
      this.#say(error.message, true);
    } finally {
      this.busy = false;
      await this.show(this.run);
      this.#drawChosen();
    }
  }

  #say(text, isError = false) {
    this.said = text;
    const nothing = "The rounds of the run will be shown here, to look at and to go back to.";
    this.message.textContent = text || (this.overview === null ? nothing : "");
    this.message.classList.toggle("pxpo-run-error", isError && text !== "");
    const height = `${this.height}px`;
    if (this.element.style.minHeight === height) return;
    this.element.style.minHeight = height;
    this.dispatchEvent(new Event("resize"));
  }
}
