/** The batch as a row of thumbnails, each with what was said about it. */

import { el, icon, iconButton } from "./dom.mjs";
import { ICONS } from "./icons.mjs";

export class Strip {
  /**
   * @param {import("./session.mjs").PaintSession} session
   * @param {(page: object) => string} thumbUrl
   */
  constructor(session, thumbUrl) {
    this.session = session;
    this.thumbUrl = thumbUrl;
    this.pages = null;
    this.items = [];
    this.list = el("div", { class: "pxpo-thumbs", role: "group", "aria-label": "Pictures" });
    this.count = el("span", { class: "pxpo-count" });
    this.seen = el(
      "button",
      { type: "button", class: "pxpo-button pxpo-seen",
        title: "A reviewed picture is fine where nothing is painted on it. "
          + "Pictures that are not reviewed are left out of training.",
        on: { click: () => session.setReviewed(!session.page?.reviewed) } },
      icon(ICONS.seen),
      "Reviewed",
    );
    this.previous = iconButton("Previous picture (←)", ICONS.previous, () => session.step(-1));
    this.next = iconButton("Next picture (→)", ICONS.next, () => session.step(1));
    this.element = el(
      "div", { class: "pxpo-strip" }, this.previous, this.list, this.next, this.count, this.seen,
    );
  }

  update() {
    const { session } = this;
    if (this.pages !== session.pages) this.#build();
    session.pages.forEach((page, i) => this.#updateItem(page, i));
    this.element.hidden = session.pages.length === 0;
    this.previous.disabled = this.next.disabled = session.pages.length < 2;
    this.count.textContent = `${session.index + 1} / ${session.pages.length}`;
    this.seen.setAttribute("aria-pressed", String(session.page?.reviewed ?? false));
    this.seen.disabled = !session.canEdit;
  }

  #build() {
    const { session } = this;
    this.pages = session.pages;
    this.items = session.pages.map((page, i) => {
      const image = el("img", { src: this.thumbUrl(page), alt: "", draggable: "false" });
      const badge = el("span", { class: "pxpo-badge" });
      const button = el(
        "button",
        { type: "button", class: "pxpo-thumb", on: { click: () => session.select(i) } },
        image,
        badge,
      );
      return { button, badge, said: "" };
    });
    this.list.replaceChildren(...this.items.map((item) => item.button));
  }

  #updateItem(page, index) {
    const item = this.items[index];
    const { button, badge } = item;
    const current = index === this.session.index;
    if (current && button.getAttribute("aria-current") !== "true") {
      button.scrollIntoView?.({ block: "nearest", inline: "nearest" });
    }
    button.setAttribute("aria-current", String(current));
    const { liked, disliked } = page.shares;
    const state = [
      liked > 0 && "liked in places",
      disliked > 0 && "disliked in places",
      !liked && !disliked && (page.reviewed ? "looked at, nothing painted" : "not looked at"),
    ].filter(Boolean).join(", ");
    const said = `${state} ${page.reviewed}`;
    if (said === item.said) return;
    item.said = said;
    button.setAttribute("aria-label", `Picture ${index + 1}: ${state}`);
    button.title = `Picture ${index + 1}: ${state}`;
    badge.replaceChildren(
      ...(liked > 0 ? [el("span", { class: "pxpo-chip pxpo-like" }, "+")] : []),
      ...(disliked > 0 ? [el("span", { class: "pxpo-chip pxpo-dislike" }, "−")] : []),
      ...(!liked && !disliked && page.reviewed ? [el("span", { class: "pxpo-chip" }, "✓")] : []),
    );
    button.classList.toggle("pxpo-skipped", !page.reviewed);
  }
}
