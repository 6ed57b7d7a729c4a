/**
 * Rectangles of whole pixels, half open: x0 <= x < x1. The empty one unites with anything.
 * @typedef {{x0: number, y0: number, x1: number, y1: number}} Rect
 */

/** @returns {Rect} */
export function emptyRect() {
  return { x0: Infinity, y0: Infinity, x1: -Infinity, y1: -Infinity };
}

/** @param {Rect} r */
export function isEmpty(r) {
  return r.x0 >= r.x1 || r.y0 >= r.y1;
}

/** @param {Rect} a @param {Rect} b @returns {Rect} */
export function unite(a, b) {
  return {
    x0: Math.min(a.x0, b.x0),
    y0: Math.min(a.y0, b.y0),
    x1: Math.max(a.x1, b.x1),
    y1: Math.max(a.y1, b.y1),
  };
}

/** The part of `r`, grown to whole pixels, that lies inside width x height. @returns {Rect} */
export function clip(r, width, height) {
  return {
    x0: Math.max(0, Math.floor(r.x0)),
    y0: Math.max(0, Math.floor(r.y0)),
    x1: Math.min(width, Math.ceil(r.x1)),
    y1: Math.min(height, Math.ceil(r.y1)),
  };
}
