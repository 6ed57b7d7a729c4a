/** Turns maps into PNG files, away from the page's own thread: painting goes on meanwhile. */

import { encodeMap } from "./png.mjs";

self.addEventListener("message", async ({ data: { id, width, height, values, owner } }) => {
  try {
    const file = await encodeMap(width, height, values, owner);
    self.postMessage({ id, file }, [file.buffer]);
  } catch (error) {
    self.postMessage({ id, error: String(error) });
  }
});
