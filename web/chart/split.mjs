/** The before / after slider's arithmetic: pure functions, no page needed. */

const STEP = 2;
const BIG_STEP = 10;

/** Where a picture lies in a frame that shows the whole of it. Any unit, as all are the same. */
export function fitted(frame, picture) {
  if (!(picture.width > 0 && picture.height > 0)) return { left: 0, top: 0, width: 0, height: 0 };
  const scale = Math.min(frame.width / picture.width, frame.height / picture.height);
  const width = picture.width * scale;
  const height = picture.height * scale;
  return { left: (frame.width - width) / 2, top: (frame.height - height) / 2, width, height };
}

/** The share, 0 to 100, of a picture left of a pointer; the pointer may be outside. */
export function shareAt(x, { left, width }) {
  return width > 0 ? clamp(((x - left) / width) * 100) : 50;
}

/** Where a key moves the divider to, or null for a key that means nothing here. */
export function shareAfterKey(share, key, shift) {
  const step = shift ? BIG_STEP : STEP;
  const moves = {
    ArrowLeft: share - step,
    ArrowDown: share - step,
    ArrowRight: share + step,
    ArrowUp: share + step,
    PageDown: share - BIG_STEP,
    PageUp: share + BIG_STEP,
    Home: 0,
    End: 100,
  };
  return Object.hasOwn(moves, key) ? clamp(moves[key]) : null;
}

/** The divider's place in words: before is left of it. */
export function shareText(share) {
  if (share <= 0) return "all after";
  if (share >= 100) return "all before";
  return `${Math.round(share)} % before, ${100 - Math.round(share)} % after`;
}

/**
 * The pictures of an effect, or null; a workflow may hold anything.
 * @returns {{picture: number, round: number, before: object, after: object} | null}
 */
export function readEffect(stored) {
  const [before, after] = [stored?.before, stored?.after].map(readFile);
  const [picture, round] = [stored?.picture, stored?.round].map((n) => Number(n) || 0);
  return before && after ? { picture, round, before, after } : null;
}

function readFile(file) {
  const { filename, subfolder = "" } = file ?? {};
  const isText = typeof filename === "string" && typeof subfolder === "string" && filename !== "";
  return isText ? { filename, subfolder, type: "temp" } : null; // only ever the host's previews
}

function clamp(share) {
  return Math.min(100, Math.max(0, share));
}
