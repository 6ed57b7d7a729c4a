/** Small helpers to make elements. Text always goes in as text, never as HTML. */

const SVG = "http://www.w3.org/2000/svg";

/**
 * @param {string} tag
 * @param {Record<string, unknown>} [attributes] "on" holds listeners; null and false are left out
 * @param {...(Node | string)} children
 */
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  const { on = {}, ...rest } = attributes;
  for (const [name, value] of Object.entries(rest)) {
    if (value === null || value === undefined || value === false) continue;
    element.setAttribute(name, value === true ? "" : String(value));
  }
  for (const [type, listener] of Object.entries(on)) element.addEventListener(type, listener);
  element.append(...children);
  return element;
}

/** A 16 x 16 line drawing. @param {string} path the d of an SVG path */
export function icon(path) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 16 16");
  svg.setAttribute("aria-hidden", "true");
  const line = document.createElementNS(SVG, "path");
  line.setAttribute("d", path);
  svg.append(line);
  return svg;
}

/** A button that shows a drawing; its name is read out and shown as a tooltip. */
export function iconButton(name, path, act, attributes = {}) {
  return el(
    "button",
    { type: "button", class: "pxpo-button", title: name, "aria-label": name, on: { click: act },
      ...attributes },
    icon(path),
  );
}

/** Load the style sheet beside this module, once per page. */
export function loadStyles() {
  loadStyleSheet(new URL("./paint.css", import.meta.url).href);
}

/** Load a style sheet, once per page. */
export function loadStyleSheet(href) {
  const there = [...document.querySelectorAll("link[rel=stylesheet]")];
  if (!there.some((link) => link.href === href)) {
    document.head.append(el("link", { rel: "stylesheet", href }));
  }
}
