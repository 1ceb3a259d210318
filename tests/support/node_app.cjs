"use strict";
// An app that does what a test says. A line that it reads is {number, code, given}, and one that it writes is
// {number, value} or {number, error}. Code is the body of an async function of `app` and `given`.

const { EventEmitter } = require("node:events");
const { createInterface } = require("node:readline");

const AsyncFunction = (async () => {}).constructor;

/** Where handlers put what they get, and tests wait for it. */
class Box {
  #put = new EventEmitter().setMaxListeners(0);
  items = [];

  put = (item) => {
    this.items.push(item);
    this.#put.emit("put");
  };

  /** What `found` makes of the items, once that is something. */
  until(found) {
    return new Promise((resolve) => {
      const look = () => {
        const value = found(this.items);
        if (!value) return;
        this.#put.off("put", look);
        resolve(value);
      };
      this.#put.on("put", look);
      look();
    });
  }
}

/** Begin, with the names of the package `media-worker-client`. */
module.exports = (client) => {
  const app = { ...client, Box, require };
  const lines = createInterface({ input: process.stdin });
  lines.on("line", async (line) => {
    const { number, code, given } = JSON.parse(line);
    let answer;
    try {
      answer = { number, value: (await new AsyncFunction("app", "given", code)(app, given)) ?? null };
    } catch (error) {
      answer = { number, error: error.stack };
    }
    process.stdout.write(`${JSON.stringify(answer)}\n`);
  });
  lines.on("close", () => process.exit());
};
