"use strict";
// The commands of verbs: each ends in time, also while Redis is away.

const { OwnConnection, isAway } = require("./connection.js");
const { MediaTimeout } = require("./errors.js");
const { backOff, pause } = require("./pause.js");

/** Sends commands by the app's connection, or, where that adds a prefix to keys or is none, by one of its own. */
class Sender {
  #closed = new AbortController();
  #own;
  #redis;
  #timeout;

  constructor(redis, isOwn, timeout) {
    this.#redis = redis;
    this.#own = isOwn || redis.options?.keyPrefix ? new OwnConnection(redis, timeout) : null;
    this.#timeout = timeout;
  }

  /** The reply. Rejects: MediaTimeout, where Redis is away for longer; or with what Redis, or the app's ioredis, refuses. */
  async run(command, ...args) {
    return this.#own === null ? this.#shared(command, args) : this.#persist(command, args);
  }

  close() {
    this.#closed.abort();
    this.#own?.close();
  }

  async #shared(command, args) {
    let timer;
    const late = new Promise((_, reject) => {
      timer = setTimeout(() => reject(this.#late(`its connection is "${this.#redis.status}"`)), this.#timeout);
    });
    try {
      return await Promise.race([this.#redis[command](...args), late]);
    } finally {
      clearTimeout(timer);
    }
  }

  /** Nothing is left in a queue of ioredis: what was not taken in time is not sent later. */
  async #persist(command, args) {
    const until = performance.now() + this.#timeout;
    for (let tries = 1; ; tries++) {
      try {
        return await this.#own.run(command, args, 0, tries === 1 ? this.#timeout : until - performance.now());
      } catch (error) {
        if ((error.name === "ReplyError" && !isAway(error)) || this.#closed.signal.aborted) throw error;
        const left = Math.max(0, until - performance.now());
        await pause(Math.min(left, backOff(tries, 50, 1_000)), this.#closed.signal);
        if (until - performance.now() < 1) throw this.#late(error.cause?.message ?? error.message, error);
      }
    }
  }

  #late(why, cause = undefined) {
    return new MediaTimeout(`Redis has not answered within ${this.#timeout} ms: ${why}`, { cause });
  }
}

module.exports = { Sender };
