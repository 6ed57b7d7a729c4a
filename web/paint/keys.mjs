/** Which key does what. Painting programs agree on most of these. */

/** For the list that `?` shows: [keys, what they do]. */
export const KEY_LIST = [
  ["Left button", "Paint"],
  ["Right button, or Alt", "Erase"],
  ["Shift + click", "Straight line from the last point"],
  ["Shift + drag", "Brush size"],
  ["X", "Swap like and dislike"],
  ["B / E / G", "Brush / eraser / fill region"],
  ["[ and ]", "Brush size (with Shift: big steps)"],
  ["1 … 9, 0", "Strength 10 % … 90 %, 100 %"],
  ["Ctrl + Z", "Undo, on this picture"],
  ["Ctrl + Shift + Z, Ctrl + Y", "Redo"],
  ["Ctrl + C / Ctrl + V", "Copy / paste the marks of a picture"],
  ["Ctrl + Shift + V", "These marks on all pictures"],
  ["I", "Invert: likes become dislikes"],
  ["Delete", "Clear this picture"],
  ["← and →", "Previous / next picture"],
  ["Space + drag", "Move the picture"],
  ["Wheel, + and −, Home", "Zoom in and out, whole picture"],
  ["One finger / two fingers", "Paint / move and zoom"],
  ["H", "Show or hide the marks"],
  ["F", "Large view (Esc closes it)"],
  ["?", "This list"],
];

const PLAIN = {
  x: "swap",
  b: "brush",
  e: "eraser",
  g: "fill",
  h: "show-marks",
  i: "invert",
  f: "expand",
  "?": "help",
  "[": "smaller",
  "]": "larger",
  "{": "much-smaller",
  "}": "much-larger",
  "+": "zoom-in",
  "=": "zoom-in",
  "-": "zoom-out",
  home: "fit",
  delete: "clear",
  backspace: "clear",
  arrowleft: "previous",
  arrowright: "next",
  escape: "close",
};

/**
 * @param {{key: string, code?: string, ctrlKey?: boolean, metaKey?: boolean, shiftKey?: boolean,
 *   altKey?: boolean}} event
 * @returns {string | null} a command, "strength:0.5" style for digits, or null if not ours
 */
export function commandFor(event) {
  const key = event.key.toLowerCase();
  if (event.altKey) return null;
  if (event.ctrlKey || event.metaKey) {
    if (key === "z") return event.shiftKey ? "redo" : "undo";
    if (key === "y" && !event.shiftKey) return "redo";
    if (key === "c" && !event.shiftKey) return "copy";
    if (key === "v") return event.shiftKey ? "paste-all" : "paste";
    return null;
  }
  // Brackets move between keyboard layouts and Shift changes them, so the key's place counts too.
  if (event.code === "BracketLeft") return event.shiftKey ? "much-smaller" : "smaller";
  if (event.code === "BracketRight") return event.shiftKey ? "much-larger" : "larger";
  if (/^[0-9]$/.test(key)) return `strength:${key === "0" ? 1 : Number(key) / 10}`;
  return PLAIN[key] ?? null;
}
