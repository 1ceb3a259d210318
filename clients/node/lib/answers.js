"use strict";
// Questions to the worker, and its answers, which come on the stream of messages.

const { OwnConnection, edgesOf, entriesOf, eventOf } = require("./connection.js");
const { MediaTimeout } = require("./errors.js");
const { toUpload } = require("./message.js");
const { pause } = require("./pause.js");

const BLOCK = 2_000; // ms
const EARLY_MOST = 1_000; // answers that are kept until it is known which question they answer

/** Asks for states, any number at a time, with one connection that reads while somebody waits. */
class Answers {
  #ask;
  #asking = 0;
  #closed = new AbortController();
  #connection = null;
  #early = new Map();
  #open;
  #reading = null; // a promise: from its end on the stream is read
  #stream;
  #waiting = new Map();

  /** `ask` puts a question on the stream of events, and returns its ID there. */
  constructor(redis, stream, ask) {
    this.#open = () => new OwnConnection(redis);
    this.#stream = stream;
    this.#ask = ask;
  }

  /** The state of an upload; null: there is no such upload. Rejects: MediaTimeout after `timeout` ms. */
  async status(id, timeout, signal) {
    signal?.throwIfAborted();
    const late = new MediaTimeout(`No worker has told the state of ${id} within ${timeout} ms.`);
    const given = new AbortController();
    const timer = setTimeout(() => given.abort(late), timeout);
    const abort = () => given.abort(signal.reason);
    signal?.addEventListener("abort", abort, { once: true });
    this.#asking += 1;
    try {
      const raw = await this.#answer(id, given.signal);
      return raw.state === "unknown" ? null : toUpload(raw);
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", abort);
      this.#asking -= 1;
      if (this.#asking === 0) this.#early.clear();
    }
  }

  /** Ends it for whoever waits. */
  close() {
    this.#closed.abort();
    this.#connection?.close();
    for (const { reject } of this.#waiting.values()) reject(new Error("The client was closed."));
  }

  #answer(id, signal) {
    return new Promise((resolve, reject) => {
      let entry = null;
      signal.addEventListener("abort", () => {
        this.#waiting.delete(entry);
        reject(signal.reason);
      });
      const ask = async () => {
        this.#reading ??= this.#begin();
        await this.#reading;
        entry = await this.#ask({ status: id });
        const early = this.#early.get(entry);
        if (early !== undefined) resolve(early);
        else if (!signal.aborted) this.#waiting.set(entry, { resolve, reject });
      };
      ask().catch(reject);
    });
  }

  async #begin() {
    try {
      this.#connection ??= this.#open();
      const { last } = await edgesOf(this.#connection, this.#stream);
      this.#read(last);
    } catch (error) {
      this.#reading = null;
      throw error;
    }
  }

  async #read(last) {
    const { signal } = this.#closed;
    while (this.#asking > 0 && !signal.aborted) {
      try {
        const words = ["COUNT", 1000, "BLOCK", BLOCK, "STREAMS", this.#stream, last];
        for (const [id, fields] of entriesOf(await this.#connection.run("xread", words, BLOCK))) {
          last = id;
          this.#take(eventOf(fields));
        }
      } catch {
        await pause(200, signal); // whoever waits hears of it when the time is over
      }
    }
    this.#reading = null;
  }

  #take(raw) {
    if (raw?.type !== "upload.status" || typeof raw.entry !== "string") return;
    const asked = this.#waiting.get(raw.entry);
    this.#waiting.delete(raw.entry);
    if (asked) asked.resolve(raw);
    else if (this.#early.size < EARLY_MOST) this.#early.set(raw.entry, raw);
  }
}

module.exports = { Answers };
