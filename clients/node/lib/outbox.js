"use strict";
// Sends again what has no answer: with it, no upload is lost to a Redis that was away or has lost its data.

const { deleteEvent, uploadEvent } = require("./events.js");
const { report } = require("./errors.js");
const { checkId } = require("./ids.js");
const { pause } = require("./pause.js");

const SELDOM = 16; // times `every`: so long at most until the same event is sent again

/** Puts each event that `pending` names on the stream, every so many ms, until it is stopped. */
class Outbox {
  #client;
  #due = new Map(); // event as JSON -> {at, pause}: when it is to be sent again, and for how long not then
  #every;
  #onError;
  #pending;
  #running = null;
  #stop = null;

  constructor(client, { pending, every = 60_000, onError = (error) => console.error("media-worker-client: outbox: ", error) }) {
    this.#client = client;
    this.#pending = pending;
    this.#every = every;
    this.#onError = onError;
  }

  /** Begin, with one round at once. */
  start() {
    if (this.#running !== null) return this;
    this.#stop = new AbortController();
    this.#running = this.#run(this.#stop.signal);
    return this;
  }

  /** End, after the round that is under way. */
  async stop() {
    this.#stop?.abort();
    await this.#running;
    this.#running = null;
  }

  /**
   * One round; resolves to the number of events that were sent. A source is the event of that source. The more
   * often one was sent, the more seldom it is.
   *
   * What no worker would take goes to `onError`, and holds up nothing. Rejects while Redis is away.
   */
  async send() {
    const [known, now] = [this.#due, performance.now()];
    this.#due = new Map(); // what waits no more is forgotten
    let sent = 0;
    for await (const event of await this.#pending()) {
      const checked = this.#checked(event);
      if (checked === null) continue;
      const key = JSON.stringify(checked);
      const due = known.get(key) ?? { at: now, pause: this.#every };
      this.#due.set(key, due);
      if (due.at > now) continue;
      await this.#client.send(checked);
      this.#due.set(key, { at: now + due.pause, pause: Math.min(2 * due.pause, SELDOM * this.#every) });
      sent += 1;
    }
    return sent;
  }

  /** The event as a worker takes it; null where none would. */
  #checked(event) {
    try {
      if (typeof event === "string") return uploadEvent(event);
      if (event?.status !== undefined) return { status: checkId(event.status) };
      return event?.delete === undefined ? uploadEvent(event?.source, event) : deleteEvent(event.delete, event);
    } catch (error) {
      report(this.#onError, error);
      return null;
    }
  }

  async #run(signal) {
    while (!signal.aborted) {
      await this.send().catch((error) => report(this.#onError, error));
      await pause(this.#every, signal);
    }
  }
}

module.exports = { Outbox };
