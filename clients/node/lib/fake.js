"use strict";
// The client in an app's own tests: no Redis and no worker, every picture is ready at once.

const { readFileSync } = require("node:fs");
const { mkdir, writeFile } = require("node:fs/promises");
const { dirname, join } = require("node:path");
const { deleteEvent, uploadEvent } = require("./events.js");
const { checkId, uuid5 } = require("./ids.js");
const { toHandle, toUpload } = require("./message.js");

const PICTURES = join(__dirname, "..", "pictures");
const SIZES = { thumb: [150, 113], medium: [800, 600], large: [1920, 1440] };
const THUMBHASH = "ZOcJBYJ4eHiPiHd8eGh4hhSXfwe3"; // of the bundled picture
const REASONS = {
  corrupt_image: "The file is damaged or incomplete.",
  decode_timeout: "The picture takes too long to decode.",
  internal_error: "An error of the worker itself.",
  source_missing: "There is no such file.",
  source_too_large: "The file is too large.",
  too_many_pixels: "The picture has too many pixels.",
  unknown_recipe: "There is no such recipe.",
  unsupported_format: "The file is not a picture that is accepted.",
};

/** As it comes out of a stream. */
function copy(value) {
  return JSON.parse(JSON.stringify(value));
}

/** The verbs of MediaClient; `deliver()` gives the messages to those that listen. */
class FakeMedia {
  #failures = new Map();
  #handlers = new Set();
  #queue = [];
  #root;
  #seq = 0;
  #uploads = new Map();

  /** The events that were sent, in order. */
  sent = [];

  /** With `root` the variants are files below that folder, of the bundled picture. */
  constructor({ root = null } = {}) {
    this.#root = root;
  }

  /** Have uploads of this source, or with this id, fail from now on; without a code no more. */
  fail(sourceOrId, code = "corrupt_image", message = REASONS[code] ?? code) {
    this.#failures.set(sourceOrId, code === null ? null : { code, message });
  }

  async announce(source, options = {}) {
    const event = uploadEvent(source, options);
    await this.send(event);
    return event.id;
  }

  async replace(oldId, source, options = {}) {
    return this.announce(source, { ...options, replaces: oldId });
  }

  async delete(id, options = {}) {
    await this.send(deleteEvent(id, options));
  }

  async send(given) {
    const event = copy(given);
    this.sent.push(event);
    if (event.status !== undefined) this.#answer(checkId(event.status), `${this.sent.length}-0`);
    else if (event.delete !== undefined) this.#delete(event.delete, { original: event.original ? "trashed" : "kept" });
    else await this.#upload(uploadEvent(event.source, event));
    return `${this.sent.length}-0`;
  }

  async status(id) {
    const raw = this.#uploads.get(checkId(id));
    return raw === undefined ? null : toUpload({ ...copy(raw), type: "upload.status" });
  }

  async limits() {
    const recipes = [{ name: "default", variants: Object.entries(SIZES).map(([name, [box]]) => ({ name, box })) }];
    return { max_bytes: 10_485_760, max_pixels: 100_000_000, formats: ["jpeg", "png", "webp", "gif", "heic"], recipes };
  }

  /** Resolves at `signal`, as that of MediaClient does. */
  async listen(handler, { signal } = {}) {
    if (typeof handler !== "function") throw new TypeError("A handler is a function.");
    if (signal?.aborted) return;
    const listening = { handler };
    this.#handlers.add(listening);
    await new Promise((resolve) => {
      listening.end = resolve;
      signal?.addEventListener("abort", resolve, { once: true });
    });
    this.#handlers.delete(listening);
  }

  /**
   * Give each message that waits to each handler; resolves to those messages.
   *
   * Rejects as a handler does; that message and those after it then wait for the next call.
   */
  async deliver() {
    const given = [];
    while (this.#queue.length > 0) {
      const [raw] = this.#queue;
      const message = () => toHandle(copy(raw), `${raw.seq}-0`); // each handler has one of its own
      for (const { handler } of [...this.#handlers]) await handler(message());
      this.#queue.shift();
      given.push(message());
    }
    return given;
  }

  async close() {
    for (const { end } of this.#handlers) end();
  }

  #answer(id, entry) {
    const known = this.#uploads.get(id);
    const about = known ?? { id, seq: 0, source: null, state: "unknown", metadata: {} };
    this.#queue.push({ ...about, type: "upload.status", time: new Date().toISOString(), entry });
  }

  async #upload({ source, id, recipe = "default", metadata = {}, replaces }) {
    const known = this.#uploads.get(id);
    if (known?.source && known.source !== source) {
      const error = { code: "invalid_event", message: "The id belongs to another source." };
      return this.#tell({ type: "upload.failed", id, source, metadata, attempts: 1, error, entry: `${this.sent.length}-0` });
    }
    const error = this.#failures.get(source) ?? this.#failures.get(id) ?? null;
    const about = { id, source, metadata, recipe };
    if (error !== null) return this.#keep({ type: "upload.failed", state: "failed", ...about, attempts: 1, error });
    this.#keep({ type: "upload.ready", state: "ready", ...about, ...(await this.#variants(id)), ...(replaces && { replaces }) });
    if (replaces) this.#delete(replaces, { original: "kept", replaced_by: id });
  }

  async #variants(id) {
    const variants = [];
    for (const [name, [width, height]] of Object.entries(SIZES)) {
      const uuid = uuid5(Buffer.from(id.replaceAll("-", ""), "hex"), name);
      const key = `variants/${uuid.slice(0, 2)}/${uuid.slice(2, 4)}/${uuid}.jpg`;
      const picture = readFileSync(join(PICTURES, `${name}.jpg`));
      variants.push({ name, key, width, height, bytes: picture.length });
      if (this.#root === null) continue;
      await mkdir(dirname(join(this.#root, key)), { recursive: true });
      await writeFile(join(this.#root, key), picture);
    }
    const [width, height] = SIZES.large;
    return {
      original: { width, height, format: "jpeg", bytes: variants[2].bytes, color: "#8a8578" },
      thumbhash: THUMBHASH,
      blurhash: null,
      variants,
      srcset: variants.map((variant) => `${variant.key} ${variant.width}w`).join(", "),
    };
  }

  #delete(id, more) {
    const { source, metadata } = this.#uploads.get(id) ?? { source: null, metadata: {} };
    const fate = source === null ? { original: "missing" } : {};
    const told = this.#tell({ type: "upload.deleted", state: "deleted", id, source, metadata, ...more, ...fate });
    this.#uploads.set(id, { ...told, metadata: {} }); // which are told once more, and then forgotten
  }

  #keep(raw) {
    this.#uploads.set(raw.id, this.#tell(raw));
  }

  #tell(raw) {
    this.#seq += 1;
    const message = { seq: this.#seq, time: new Date().toISOString(), ...raw };
    this.#queue.push(message);
    return message;
  }
}

module.exports = { FakeMedia };
