"use strict";
// Connections to Redis: the app's, and those of the client's own in which it waits for entries.

const ANSWERS_WITHIN = 10_000; // ms, above what a command may block
const ENDS_WITHIN = 2_000; // ms, for what is still to be acknowledged at the end
const RETRIES_MOST = 2_000; // ms between two tries to connect

// A read that blocks must have a connection of its own, and must not be sent again by itself: what Redis had
// answered before the connection broke would be passed over. With 0 retries each command fails with its
// connection. Protocol 2 has the replies of ioredis 5 in ioredis 6, too.
const OWN = {
  autoResendUnfulfilledCommands: false,
  blockingTimeout: undefined,
  commandTimeout: undefined,
  enableAutoPipelining: false,
  enableOfflineQueue: true,
  keyPrefix: "",
  lazyConnect: true,
  maxRetriesPerRequest: 0,
  protocol: 2,
  reconnectOnError: null,
  replyMapping: "legacy",
  retryStrategy: (times) => Math.min(RETRIES_MOST, 50 * 2 ** Math.min(times, 10)) * (0.5 + Math.random() / 2),
  socketTimeout: undefined,
  stringNumbers: false,
};

const AWAY = /^(READONLY|LOADING|MASTERDOWN|CLUSTERDOWN|TRYAGAIN)/;
const FATAL = /^(NOAUTH|WRONGPASS|NOPERM|WRONGTYPE|ERR unknown command|ERR AUTH|ERR (invalid )?DB index)/;

/** Whether Redis is there, and takes nothing now: it loads its data, or is a replica since a failover. */
function isAway(error) {
  return error?.name === "ReplyError" && AWAY.test(error.message);
}

/** Whether another try cannot help: a right, a password or the database is missing. */
function isFatal(error) {
  return error?.name === "ReplyError" && FATAL.test(error.message);
}

/** A Redis of ioredis for what an app has given: its own, or one that is made of a URL. Throws: TypeError. */
function redisFor(given) {
  if (typeof given === "string") return openUrl(given);
  if (typeof given?.xadd !== "function" || typeof given?.duplicate !== "function" || given.isCluster) {
    throw new TypeError('`redis` is a URL, such as "redis://127.0.0.1:6379/0", or a Redis of ioredis (no Cluster).');
  }
  return given;
}

function openUrl(url) {
  if (!/^(redis|rediss|unix):\/\//.test(url)) {
    throw new TypeError("The URL of a Redis begins with redis://, rediss:// or unix://; for others, such as Sentinels, give a Redis of ioredis.");
  }
  const database = /^rediss?:\/\/[^/?]*\/([^?]*)/.exec(url)?.[1] ?? "";
  if (!/^\d*$/.test(database)) {
    // It is not told, for it may be a part of the password.
    throw new TypeError("The database in the URL of a Redis is a number, and a / in its password is written as %2F.");
  }
  const Redis = require("ioredis");
  return new Redis(url, { lazyConnect: true }); // it is duplicated, and never connected itself
}

/** A connection of the client's own; within `patience` ms it answers, or is connected to anew. */
class OwnConnection {
  #heard = -Infinity; // when it has answered last
  #lastError = null;
  #opening = null;
  #patience;
  #redis;
  #selected = null;
  #stops = new Map(); // what ends a command -> its name

  constructor(redis, patience = ANSWERS_WITHIN) {
    this.#patience = patience;
    this.#redis = redis.duplicate(OWN);
    this.#redis.on("error", (error) => (this.#lastError = error));
    this.#redis.on("ready", () => (this.#lastError = null));
  }

  /** A command's reply; it may take `blocksFor` ms by itself. What ends sooner, by a `patience` of its own, ends alone. */
  run(command, args, blocksFor = 0, patience = this.#patience) {
    return new Promise((resolve, reject) => {
      const ended = (settle) => (value) => {
        clearTimeout(timer);
        this.#stops.delete(stop);
        settle(value);
      };
      const stop = ended((error) => {
        if (isAway(error)) this.#redis.disconnect(true); // another may be at that address by now
        reject(this.#explained(error));
      });
      const timer = setTimeout(() => {
        const isSlow = performance.now() - this.#heard < this.#patience / 2; // others' answers come: it is not silent
        if (patience >= this.#patience && !isSlow) this.#redis.disconnect(true);
        stop(new Error(`Redis has not answered ${command} in time.`, { cause: this.#lastError ?? undefined }));
      }, blocksFor + patience);
      this.#stops.set(stop, command);
      this.#ready()
        .then(() => this.#select())
        .then(() => (this.#stops.has(stop) ? this.#answered(this.#redis[command](...args)) : undefined))
        .then(ended(resolve), stop);
    });
  }

  async #answered(reply) {
    const value = await reply;
    this.#heard = performance.now();
    return value;
  }

  /** Until it is connected: what ioredis puts into its queue before is sent also after it was given up here. */
  async #ready() {
    while (this.#redis.status !== "ready" && this.#redis.status !== "end") {
      this.#opening ??= this.#opened().finally(() => (this.#opening = null));
      await this.#opening;
    }
  }

  #opened() {
    if (this.#redis.status === "wait") this.#redis.connect().catch(() => {}); // of that "close" tells
    return new Promise((resolve, reject) => {
      const failed = () => settle(() => reject(isFatal(this.#lastError) ? this.#lastError : this.#unreachable()));
      const opened = () => settle(resolve);
      const events = { ready: opened, close: failed, end: failed };
      const settle = (how) => {
        for (const [event, listener] of Object.entries(events)) this.#redis.off(event, listener);
        how();
      };
      for (const [event, listener] of Object.entries(events)) this.#redis.on(event, listener);
    });
  }

  /** ioredis goes on in the database 0 where it may not have the one that it is told. */
  async #select() {
    const { db } = this.#redis.options;
    if (!Number(db)) return;
    this.#selected ??= this.#redis.select(db).catch((error) => {
      this.#selected = null;
      throw error;
    });
    await this.#selected;
  }

  /** ioredis tells that it has tried as often as it may, not why in vain. */
  #explained(error) {
    if (error.name !== "MaxRetriesPerRequestError") return error;
    return this.#unreachable(error);
  }

  #unreachable(error = undefined) {
    return new Error("Redis cannot be reached, or has closed the connection.", { cause: this.#lastError ?? error });
  }

  /** End all that waits for a reply; acknowledgements have a little longer. */
  stopWaiting() {
    this.#patience = ENDS_WITHIN;
    const waiting = [...this.#stops];
    const ended = new Error("It was stopped.");
    for (const [stop, command] of waiting) if (command !== "xack") stop(ended);
    setTimeout(() => waiting.forEach(([stop]) => stop(ended)), ENDS_WITHIN).unref();
  }

  /** End it, and with it each command that has no reply yet. */
  close() {
    this.#redis.disconnect();
    for (const stop of [...this.#stops.keys()]) stop(new Error("The connection was closed."));
  }
}

/** The entries of a reply to XREAD or XREADGROUP: [ID, fields] each; fields are null where it was trimmed. */
function entriesOf(reply) {
  return reply === null ? [] : reply[0][1];
}

/** The JSON in the field `event` of an entry; null where there is none. */
function eventOf(fields) {
  for (let at = 0; at + 1 < fields.length; at += 2) {
    if (fields[at] !== "event") continue;
    try {
      const event = JSON.parse(fields[at + 1]);
      return typeof event === "object" ? event : null;
    } catch {
      return null;
    }
  }
  return null;
}

/** A flat reply of names and values, as an object. */
function pairs(reply) {
  return Object.fromEntries(Array.from({ length: reply.length / 2 }, (_, at) => [reply[2 * at], reply[2 * at + 1]]));
}

/** Whether one entry's ID is above another's. */
function isAbove(one, other) {
  const [[ms, n = "0"], [otherMs, otherN = "0"]] = [one.split("-"), other.split("-")];
  return ms === otherMs ? BigInt(n) > BigInt(otherN) : BigInt(ms) > BigInt(otherMs);
}

/** The IDs of the first entry that a stream has, null for none, and of the last that it ever had. */
async function edgesOf(connection, stream) {
  try {
    const about = pairs(await connection.run("xinfo", ["STREAM", stream]));
    return { first: about["first-entry"]?.[0] ?? null, last: about["last-generated-id"] };
  } catch (error) {
    if (!/no such key/.test(error.message)) throw error;
    return { first: null, last: "0-0" };
  }
}

module.exports = { OwnConnection, edgesOf, entriesOf, eventOf, isAbove, isAway, isFatal, pairs, redisFor };
