/**
 * Names for open workflows. The host gives results to the node of that id in whichever workflow is
 * open, so a prompt carries its workflow's name and the result brings it back.
 */

import { newId } from "../paint/identity.mjs";

const names = new WeakMap();
const given = new Set();

/** @param {object | null | undefined} workflow the host's; the same one has the same name */
export function tabName(workflow) {
  if (!workflow) return "";
  if (!names.has(workflow)) {
    const name = newId();
    names.set(workflow, name);
    given.add(name);
  }
  return names.get(workflow);
}

/** Whether a result may be shown in this workflow; names of other pages say nothing. */
export function isForTab(name, workflow) {
  return !given.has(name) || tabName(workflow) === name;
}
