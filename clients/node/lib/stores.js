"use strict";
// What a listener remembers: how far it has read, and the newest message of each upload.

const { readFile, rename, writeFile } = require("node:fs/promises");

/** How far a listener has read, until the process ends; without `start` it begins with what comes next. */
class MemoryCursor {
  #last;

  constructor(start = "$") {
    this.#last = start;
  }

  async load() {
    return this.#last;
  }

  async save(entryId) {
    this.#last = entryId;
  }
}

/** How far a listener has read, in a file; without the file it begins with the oldest message that is kept. */
class FileCursor {
  #path;

  constructor(path) {
    this.#path = path;
  }

  async load() {
    try {
      return (await readFile(this.#path, "utf8")).trim() || null;
    } catch (error) {
      if (error.code === "ENOENT") return null;
      throw error;
    }
  }

  async save(entryId) {
    const aside = `${this.#path}.${process.pid}.part`;
    await writeFile(aside, `${entryId}\n`);
    await rename(aside, this.#path);
  }
}

/** The newest `seq` of each upload, for so many uploads, until the process ends. */
class MemorySeqs {
  #seqs = new Map();
  #most;

  constructor(most = 100_000) {
    this.#most = most;
  }

  async get(subject) {
    return this.#seqs.get(subject);
  }

  async set(subject, seq) {
    this.#seqs.delete(subject); // so that it is the newest again
    this.#seqs.set(subject, seq);
    if (this.#seqs.size > this.#most) this.#seqs.delete(this.#seqs.keys().next().value);
  }
}

module.exports = { FileCursor, MemoryCursor, MemorySeqs };
