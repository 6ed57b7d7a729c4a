/**
 * Where a picture lies in its frame: frame = picture * scale + (x, y), in CSS pixels of the frame.
 * @typedef {{scale: number, x: number, y: number}} View
 */

export const LARGEST_SCALE = 32;

/** The whole picture, centred, as large as it fits. @returns {View} */
export function fit(width, height, frameWidth, frameHeight) {
  const scale = Math.min(frameWidth / width, frameHeight / height) || 1;
  return {
    scale,
    x: (frameWidth - width * scale) / 2,
    y: (frameHeight - height * scale) / 2,
  };
}

/** @param {View} view @returns {{x: number, y: number}} in picture pixels */
export function toPicture(view, frameX, frameY) {
  return { x: (frameX - view.x) / view.scale, y: (frameY - view.y) / view.scale };
}

/** @param {View} view @returns {{x: number, y: number}} in frame pixels */
export function toFrame(view, x, y) {
  return { x: x * view.scale + view.x, y: y * view.scale + view.y };
}

/**
 * A pointer's place in the frame. The host may scale the whole node (graph zoom), so the frame's
 * own pixels differ from the screen's.
 * @param {{left: number, top: number, width: number, height: number}} box on the screen
 * @param {{width: number, height: number}} frame in its own CSS pixels
 */
export function pointerInFrame(box, frame, clientX, clientY) {
  return {
    x: ((clientX - box.left) / box.width) * frame.width,
    y: ((clientY - box.top) / box.height) * frame.height,
  };
}

/** Zoom by `factor`; what lies under (frameX, frameY) stays there. @returns {View} */
export function zoomAt(view, factor, frameX, frameY, smallest) {
  const scale = Math.min(LARGEST_SCALE, Math.max(smallest, view.scale * factor));
  const point = toPicture(view, frameX, frameY);
  return { scale, x: frameX - point.x * scale, y: frameY - point.y * scale };
}

/** Keep the picture in reach: centred where it is smaller than the frame, else no gap. */
export function keepInside(view, width, height, frameWidth, frameHeight) {
  return {
    scale: view.scale,
    x: keepAxis(view.x, width * view.scale, frameWidth),
    y: keepAxis(view.y, height * view.scale, frameHeight),
  };
}

function keepAxis(offset, size, frame) {
  if (size <= frame) return (frame - size) / 2;
  return Math.min(0, Math.max(frame - size, offset));
}
