"use strict";
// Questions to the worker, and its answers, which come on the stream of messages.

const { OwnConnection, edgesOf, entriesOf, eventOf, isFatal } = require("./connection.js");
const { MediaTimeout } = require("./errors.js");
const { toUpload } = require("./message.js");
const { pause } = require("./pause.js");

const BLOCK = 2_000; // ms
const PAUSE = 200; // ms
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
  #trouble = null; // why the stream cannot be read
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
    const given = new AbortController();
    const timer = setTimeout(() => given.abort(this.#late(id, timeout)), timeout);
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
    this.#reject(new Error("The client was closed."));
  }

  #late(id, timeout) {
    const cause = this.#trouble ?? undefined;
    const why = cause === undefined ? "" : ` Redis is away: ${cause.cause?.message ?? cause.message}`;
    return new MediaTimeout(`No worker has told the state of ${id} within ${timeout} ms.${why}`, { cause });
  }

  #reject(error) {
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
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
        if (signal.aborted) return;
        entry = await this.#ask({ status: id });
        const early = this.#early.get(entry);
        if (early !== undefined) resolve(early);
        else if (!signal.aborted) this.#waiting.set(entry, { resolve, reject });
      };
      ask().catch(reject);
    });
  }

  async #begin() {
    for (;;) {
      try {
        this.#connection ??= this.#open();
        const { last } = await edgesOf(this.#connection, this.#stream);
        this.#trouble = null;
        this.#read(last);
        return;
      } catch (error) {
        this.#trouble = error;
        if (isFatal(error) || this.#asking === 0 || this.#closed.signal.aborted) {
          this.#reading = null;
          throw error;
        }
        await pause(PAUSE, this.#closed.signal); // Redis may come back before the time is over
      }
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
        this.#trouble = null;
      } catch (error) {
        this.#trouble = error;
        if (isFatal(error)) this.#reject(error);
        await pause(PAUSE, signal); // whoever waits hears of it when the time is over
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
