import assert from "node:assert/strict";
import test from "node:test";

import { PaintStorage } from "../../web/paint/storage.mjs";
import { SignedMap } from "../../web/paint/signed_map.mjs";

/** A server that notes what it is sent; `during` runs while the first file of a name is on its way. */
function server(during = {}) {
  const files = [];
  return {
    files,
    status: 200,
    apiURL: (path) => path,
    async fetchApi(_path, { body }) {
      const folder = body.get("subfolder").replace("pxpo/", "");
      const file = body.get("image");
      const text = file.type === "application/json" ? await file.text() : "";
      const event = during[file.name];
      delete during[file.name];
      await event?.();
      if (this.status === 200) files.push(`${folder}/${file.name} ${text}`.trim());
      return { status: this.status };
    },
  };
}

const map = () => new SignedMap(2, 2);
const value = (edited) => ({ node: "n", edited });

test("what is painted while the stroke before is saved is saved too", async () => {
  let storage = null;
  const api = server({
    "marks.json": () => {
      storage.save("second", map(), "owner");
      storage.saveValue(value(2));
    },
  });
  storage = new PaintStorage(api);
  storage.encoder.start = null;
  storage.save("first", map(), "owner");
  storage.saveValue(value(1));
  await storage.flush();
  assert.equal(storage.isSaving, false);
  assert.deepEqual(api.files, [
    "maps/first.png",
    'n/marks.json {"node":"n","edited":1}',
    "maps/second.png",
    'n/marks.json {"node":"n","edited":2}',
  ]);
});

test("a stroke right after the last file arrived starts a new upload", async () => {
  const api = server();
  const storage = new PaintStorage(api);
  storage.encoder.start = null;
  storage.saveValue(value(1));
  await new Promise((resolve) => {
    storage.addEventListener("state", function listen() {
      if (storage.isSaving || storage.working) return;
      storage.removeEventListener("state", listen);
      storage.saveValue(value(2));
      resolve();
    });
  });
  await storage.flush();
  assert.deepEqual(api.files, [1, 2].map((n) => `n/marks.json {"node":"n","edited":${n}}`));
});

test("what could not be saved is kept, reported and saved later", async () => {
  const api = server();
  const storage = new PaintStorage(api);
  storage.encoder.start = null;
  api.status = 500;
  storage.save("a", map(), "owner");
  await assert.rejects(storage.flush(), /could not be saved/);
  assert.ok(storage.failed && storage.isSaving);
  clearTimeout(storage.retry);
  api.status = 200;
  await storage.flush();
  assert.ok(!storage.failed && !storage.isSaving);
  assert.deepEqual(api.files, ["maps/a.png"]);
});
