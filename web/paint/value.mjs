/**
 * The widget's value: what a workflow stores, and what Python reads.
 *
 * A mark belongs to a picture by the picture's thumbnail, so marks of earlier batches can stay: they
 * come back when their pictures do.
 *
 * @typedef {{thumb: string, map: string | null, width: number, height: number, reviewed: boolean,
 *   batch: string, learned?: boolean}} Mark
 * @typedef {{version: 1, node: string, batch: string | null, autoNext: boolean, marks: Mark[],
 *   edited?: number, copiedFrom?: string, used?: Mark[]}} Value edited: when, in ms since 1970
 */

import { newId } from "./identity.mjs";

export const VERSION = 1;
const BATCHES_KEPT = 4;
const ID = /^[0-9a-f]{32}$/;

/** @returns {Value} */
export function emptyValue() {
  return { version: VERSION, node: newId(), batch: null, autoNext: true, marks: [] };
}

/** A stored value, or null when it is not one. @returns {Value | null} */
export function readValue(stored) {
  const good =
    stored !== null &&
    typeof stored === "object" &&
    stored.version === VERSION &&
    ID.test(stored.node) &&
    Array.isArray(stored.marks);
  if (!good) return null;
  const value = { ...emptyValue(), ...structuredClone(stored) };
  value.marks = value.marks.filter(isMark);
  return value;
}

function isMark(mark) {
  return (
    mark !== null &&
    typeof mark === "object" &&
    ID.test(mark.thumb) &&
    (mark.map === null || ID.test(mark.map)) &&
    Number.isInteger(mark.width) &&
    Number.isInteger(mark.height)
  );
}

/** The value with `mark` in place of the one for the same picture. @returns {Value} */
export function withMark(value, mark) {
  const others = value.marks.filter((other) => other.thumb !== mark.thumb);
  const marks = [...others, mark];
  const batches = [...new Set(marks.map((m) => m.batch).reverse())].slice(0, BATCHES_KEPT);
  return { ...value, marks: marks.filter((m) => batches.includes(m.batch)) };
}

/** A picture came back with slightly different bits: its mark now belongs to the new thumbnail. */
export function moveMark(value, from, to, batch) {
  const mark = value.marks.find((m) => m.thumb === from);
  if (!mark || (from === to && mark.batch === batch)) return value;
  // Old batches stay until something is painted: marks still to be moved may be among them.
  const marks = withoutMark(withoutMark(value, from), to).marks;
  return { ...value, marks: [...marks, { ...mark, thumb: to, batch }] };
}

/** The value with nothing said of that picture. @returns {Value} */
export function withoutMark(value, thumb) {
  return { ...value, marks: value.marks.filter((mark) => mark.thumb !== thumb) };
}

/** A run has trained on the marks `trained`; what was painted since waits for another. */
export function withLearned(value, trained) {
  const marks = value.marks.map((m) => (isAmong(trained, m) ? { ...m, learned: true } : m));
  return { ...value, marks };
}

/** Whether `marks` has the map of this mark, whose name no other picture's map has. */
export function isAmong(marks, { map }) {
  return map !== null && marks.some((mark) => mark.map === map);
}

/**
 * What a prompt carries: only what Python reads, so that nothing else makes the host run the node
 * again. marks: those a person has released.
 */
export function promptValue(value, marks = value.marks) {
  return {
    version: VERSION,
    node: value.node,
    marks: marks.map(({ thumb, map, width, height, reviewed }) => ({
      thumb, map, width, height, reviewed,
    })),
  };
}

/** The marks on the pictures that a value shows. */
export function marksShown(value) {
  return value.marks.filter((mark) => mark.batch === value.batch);
}

/** Whether two lists of marks say the same to Python. */
export function sameMarks(a, b) {
  const text = (marks) =>
    JSON.stringify(
      marks
        .filter((m) => m.map !== null || m.reviewed)
        .map((m) => [m.thumb, m.map, m.reviewed])
        .sort(),
    );
  return text(a) === text(b);
}
