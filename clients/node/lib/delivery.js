"use strict";
// One message to the app's handler, unless it is repeated or stale.

const { eventOf } = require("./connection.js");
const { MediaError, report } = require("./errors.js");
const { isPast, keyOf, subjectOf, toHandle } = require("./message.js");

const ASKS_EVERY = 10_000; // ms
const REMOVED =
  "Messages may have been removed before they were read. With `pending`, listen() asks for the state of what waits for one.";

/** What listeners have in common: the handler, what was seen, and questions where messages were lost. */
class Delivery {
  #ask;
  #asked = -Infinity;
  #handler;
  #onError;
  #pending;
  #seqs;
  #told = new Set(); // messages of errors since the listener last got on

  /** `ask` puts a question on the stream of events. */
  constructor(handler, { ask, onError, pending, seqs }) {
    this.#handler = handler;
    this.#ask = ask;
    this.#pending = pending;
    this.#onError = onError;
    this.#seqs = seqs;
  }

  /** The message of an entry; null where a handler gets none. */
  read(entryId, fields) {
    try {
      const raw = eventOf(fields);
      if (raw !== null) return toHandle(raw, entryId);
    } catch {
      // it has the fields of a message, of other types
    }
    this.report(new MediaError("invalid_message", `The entry ${entryId} is no message of a worker.`));
    return null;
  }

  /** Call the handler, unless it has had this message or a later one of the upload. Rejects as it does. */
  async give(message) {
    const key = keyOf(message);
    for (const one of new Set([subjectOf(message), key])) {
      if (one !== null && isPast(message, (await this.#seqs.get(one)) ?? undefined)) return;
    }
    await this.#handler(message);
    if (key !== null) await this.#seqs.set(key, message.seq);
  }

  /** Tell the app of an error that it would not see otherwise. */
  report(error, message = null) {
    report(this.#onError, error, message);
  }

  /** The same of what keeps the listener from reading, once until it reads again. */
  reportTrouble(error) {
    if (!this.#told.has(error?.message)) this.report(error);
    this.#told.add(error?.message);
  }

  getsOn() {
    this.#told.clear();
  }

  /** Ask for the state of all that waits for a message, at most every 10 s; whether it was asked. */
  async askPending({ isSure }) {
    if (performance.now() < this.#asked + ASKS_EVERY) return false;
    this.#asked = performance.now();
    try {
      if (this.#pending !== undefined) for (const id of await this.#pending()) await this.#ask(id);
      else if (isSure) this.report(new MediaError("trimmed", REMOVED));
      return true;
    } catch (error) {
      this.report(error);
      return false;
    }
  }
}

module.exports = { Delivery };
