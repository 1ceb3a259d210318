"use strict";
// The client for apps that share Redis with the worker.

const { randomUUID } = require("node:crypto");
const { setMaxListeners } = require("node:events");
const { hostname } = require("node:os");
const { Answers } = require("./answers.js");
const { OwnConnection, redisFor } = require("./connection.js");
const { Delivery } = require("./delivery.js");
const { MediaError } = require("./errors.js");
const { deleteEvent, uploadEvent } = require("./events.js");
const { GroupListener } = require("./group.js");
const { checkId } = require("./ids.js");
const { Sender } = require("./sender.js");
const { MemoryCursor, MemorySeqs } = require("./stores.js");
const { TailListener } = require("./tail.js");

/** Announces uploads on one stream, and listens on the other to what becomes of them. */
class MediaClient {
  #answers;
  #closed = new AbortController();
  #events;
  #limits;
  #listening = new Set();
  #redis; // the app's, or one that is only duplicated
  #sender;
  #stream;

  /** `timeout`: ms that a verb waits for a Redis that is away, 5,000. */
  constructor({ redis = "redis://127.0.0.1:6379/0", stream = "media:uploads", events = "media:events", timeout = 5_000 } = {}) {
    setMaxListeners(0, this.#closed.signal); // one for each that listens
    this.#redis = redisFor(redis);
    this.#sender = new Sender(this.#redis, typeof redis === "string", timeout);
    this.#stream = stream;
    this.#events = events;
    this.#limits = /.:uploads$/.test(stream) ? stream.replace(/uploads$/, "limits") : `${stream}:limits`;
    this.#answers = new Answers(this.#redis, events, (question) => this.#add(question));
  }

  /** Tell the worker that an original is in the storage; resolves to the upload's id. */
  async announce(source, options = {}) {
    const event = uploadEvent(source, options);
    await this.#add(event);
    return event.id;
  }

  /** Announce an original that takes the place of another upload once it is ready; resolves to the new one's id. */
  async replace(oldId, source, options = {}) {
    return this.announce(source, { ...options, replaces: oldId });
  }

  /** Have an upload and its variants deleted, and with `original` its original, too, where the worker may. */
  async delete(id, options = {}) {
    await this.#add(deleteEvent(id, options));
  }

  /** Put an event on the stream as it is, such as one of an outbox; resolves to its ID there. */
  async send(event) {
    return this.#add(event);
  }

  /** An upload as a worker knows it; null: there is none. Rejects: MediaTimeout, after `timeout` ms. */
  async status(id, { timeout = 5_000, signal } = {}) {
    return this.#answers.status(checkId(id), timeout, signal);
  }

  /** What an upload may be: the document of `GET /v1/limits`. Rejects: MediaError, where no worker has told it. */
  async limits() {
    const told = await this.#sender.run("get", this.#limits);
    if (told === null) throw new MediaError("limits_unknown", `There is no ${this.#limits}: no worker of this version has started.`);
    return JSON.parse(told);
  }

  /**
   * Call `handler` with each message, one after the other, until `signal`: then this resolves.
   *
   * Rejects where another try cannot help, such as without the rights on Redis.
   */
  async listen(handler, options = {}) {
    const { group, consumer, cursor, pending, signal, seqs = new MemorySeqs(), onError = tell } = options;
    const { block = 5_000, claimAfter = 30_000, retry = {} } = options;
    if (typeof handler !== "function") throw new TypeError("A handler is a function.");
    if (group !== undefined && (typeof group !== "string" || group === "")) throw new TypeError("A group is a name.");
    if (!(block > 0 && claimAfter > 0)) throw new TypeError("`block` and `claimAfter` are ms, above 0.");
    if (group !== undefined && cursor !== undefined) throw new TypeError("A group has its own cursor: give one of both.");
    const stop = new AbortController();
    const abort = () => stop.abort();
    const ends = [this.#closed.signal, ...(signal ? [signal] : [])];
    if (ends.some(({ aborted }) => aborted)) return;
    const connection = new OwnConnection(this.#redis);
    stop.signal.addEventListener("abort", () => connection.stopWaiting());
    for (const end of ends) end.addEventListener("abort", abort);
    const ask = (id) => this.#add({ status: checkId(id) });
    const delivery = new Delivery(handler, { ask, onError, pending, seqs });
    const common = { block, retry: { first: 1_000, most: 60_000, ...retry }, signal: stop.signal };
    const listener =
      group === undefined
        ? new TailListener(connection, this.#events, delivery, { ...common, cursor: cursor ?? new MemoryCursor() })
        : new GroupListener(connection, this.#events, delivery, {
            ...common,
            claimAfter,
            consumer: consumer ?? `${hostname()}:${process.pid}:${randomUUID().slice(0, 8)}`,
            group,
          });
    const running = listener.run();
    this.#listening.add(running);
    try {
      await running;
    } finally {
      this.#listening.delete(running);
      for (const end of ends) end.removeEventListener("abort", abort);
      connection.close();
    }
  }

  /** End all that listens, and the connections that the client has made. */
  async close() {
    this.#closed.abort();
    this.#answers.close();
    await Promise.allSettled(this.#listening);
    this.#sender.close();
  }

  #add(event) {
    return this.#sender.run("xadd", this.#stream, "*", "event", JSON.stringify(event));
  }
}

function tell(error, message) {
  console.error(`media-worker-client: ${message ? `${message.type} of ${message.id}: ` : ""}`, error);
}

module.exports = { MediaClient };
