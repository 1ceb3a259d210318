"use strict";
// Sends again what has no answer: with it, no upload is lost to a Redis that was away or has lost its data.

const { uploadEvent } = require("./events.js");
const { pause } = require("./pause.js");

/** Puts each event that `pending` names on the stream, every so many ms, until it is stopped. */
class Outbox {
  #client;
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

  /** One round; resolves to the number of events that were sent. A source is the event of that source. */
  async send() {
    let sent = 0;
    for await (const event of await this.#pending()) {
      if (typeof event === "string") await this.#client.announce(event);
      else if (event.source === undefined) await this.#client.send(event);
      else await this.#client.send(uploadEvent(event.source, event));
      sent += 1;
    }
    return sent;
  }

  async #run(signal) {
    while (!signal.aborted) {
      await this.send().catch(this.#onError);
      await pause(this.#every, signal);
    }
  }
}

module.exports = { Outbox };
