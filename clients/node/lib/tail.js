"use strict";
// Listening alone, from a cursor on: each message in the order of the stream.

const { edgesOf, entriesOf, isAbove, isFatal } = require("./connection.js");
const { backOff, pause } = require("./pause.js");

const COUNT = 100; // entries that are read at once

class BadCursor extends TypeError {
  name = "TypeError";
}

/** Reads messages, and moves the cursor behind each that the handler has taken. */
class TailListener {
  #connection;
  #cursor;
  #delivery;
  #gap = false; // whether messages were lost
  #last = null;
  #noticed = null;
  #options;
  #signal;
  #stream;

  constructor(connection, stream, delivery, { block, cursor, retry, signal }) {
    this.#connection = connection;
    this.#stream = stream;
    this.#delivery = delivery;
    this.#cursor = cursor;
    this.#options = { block, retry };
    this.#signal = signal;
  }

  /** Listen until the signal. Rejects where another try cannot help, such as without the rights. */
  async run() {
    for (let failed = 0; !this.#signal.aborted; ) {
      try {
        this.#last ??= await this.#start();
        while (!this.#signal.aborted) {
          await this.#turn();
          this.#delivery.getsOn();
          failed = 0;
        }
      } catch (error) {
        if (this.#signal.aborted) return;
        if (isFatal(error) || error instanceof BadCursor) throw error;
        this.#delivery.reportTrouble(error);
        if (failed > 0) await pause(backOff(failed, 100, 5_000), this.#signal);
        failed += 1;
      }
    }
  }

  async #start() {
    const saved = (await this.#cursor.load()) ?? "0-0";
    if (!/^(\$|\d+(-\d+)?)$/.test(saved)) throw new BadCursor(`A cursor has the ID of an entry, not ${JSON.stringify(saved)}.`);
    return saved === "$" ? (await edgesOf(this.#connection, this.#stream)).last : saved;
  }

  async #turn() {
    await this.#notice();
    if (this.#gap && (await this.#delivery.askPending({ isSure: true }))) this.#gap = false;
    if (this.#signal.aborted) return;
    const { block } = this.#options;
    const words = ["COUNT", COUNT, "BLOCK", block, "STREAMS", this.#stream, this.#last];
    for (const [id, fields] of entriesOf(await this.#connection.run("xread", words, block))) {
      const message = this.#delivery.read(id, fields);
      await this.#insist(message, id);
      if (this.#signal.aborted) return;
    }
  }

  /** Give the message until the handler and the cursor have taken it: later ones wait. */
  async #insist(message, id) {
    const { first, most } = this.#options.retry;
    for (let tries = 1; ; tries++) {
      try {
        if (message !== null) await this.#delivery.give(message);
        await this.#cursor.save(id);
        this.#last = id;
        return;
      } catch (error) {
        this.#delivery.report(error, message);
      }
      await pause(backOff(tries, first, most), this.#signal);
      if (this.#signal.aborted) return;
    }
  }

  /** Notice whether the stream was trimmed beyond the cursor, or begins anew. */
  async #notice() {
    const { first, last } = await edgesOf(this.#connection, this.#stream);
    const isAnew = isAbove(this.#last, last); // the cursor is of another stream
    const isLost = isAbove(this.#last, "0-0") && (isAnew || isAbove(first ?? last, this.#last));
    if (isLost && this.#noticed !== last) this.#gap = true;
    this.#noticed = isLost ? last : null;
    if (isAnew) this.#last = "0-0";
  }
}

module.exports = { TailListener };
