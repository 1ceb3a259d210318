"use strict";
// Listening as a consumer of a group: what one has not acknowledged, another takes over.

const { edgesOf, entriesOf, isAbove, isFatal, pairs } = require("./connection.js");
const { subjectOf } = require("./message.js");
const { backOff, pause } = require("./pause.js");

const COUNT = 100; // entries that are read at once
const MOST_HELD = 1_000; // entries that are read and not acknowledged; then no more are read
const FORGOTTEN_AFTER = 86_400_000; // ms, for a consumer that reads no more and owes nothing

/** Reads messages, and gives each upload's to the handler one after the other. */
class GroupListener {
  #claimAt = 0;
  #connection;
  #delivery;
  #gap = null; // where messages were lost: {isSure}
  #held = new Set(); // IDs of entries that were read and are not acknowledged
  #noticed = null;
  #options;
  #parked = new Map(); // subject -> {queue, tries, at}: a message that waits for another try, and those after it
  #signal;
  #stream;
  #touchAt = 0;

  constructor(connection, stream, delivery, { block, claimAfter, consumer, group, retry, signal }) {
    this.#connection = connection;
    this.#stream = stream;
    this.#delivery = delivery;
    this.#options = { block, claimAfter, consumer, group, retry };
    this.#signal = signal;
  }

  /** Listen until the signal. Rejects where another try cannot help, such as without the rights. */
  async run() {
    for (let failed = 0; !this.#signal.aborted; ) {
      try {
        await this.#begin();
        while (!this.#signal.aborted) {
          await this.#turn();
          this.#delivery.getsOn();
          failed = 0;
        }
      } catch (error) {
        if (this.#signal.aborted) return;
        if (isFatal(error)) throw error;
        // What is not parked is read again, for it is pending.
        this.#held = new Set([...this.#parked.values()].flatMap(({ queue }) => queue.map(({ id }) => id)));
        if (error.message.includes("NOGROUP")) this.#gap = { isSure: true };
        else this.#delivery.reportTrouble(error);
        if (failed > 0) await pause(backOff(failed, 100, 5_000), this.#signal);
        failed += 1;
      }
    }
  }

  /** Make the group where there is none, and begin with what this consumer has left. */
  async #begin() {
    // Whether it is new, or lost with Redis' data, nobody can tell.
    if (await this.#makeGroup()) this.#gap ??= { isSure: false };
    await this.#readOwn();
    this.#claimAt = 0;
    await this.#forgetConsumers();
  }

  /** Read what this consumer has not acknowledged. */
  async #readOwn() {
    for (let last = "0-0"; !this.#signal.aborted; ) {
      const entries = await this.#read(last);
      if (entries.length === 0) break;
      last = entries[entries.length - 1][0];
      await this.#takeAll(entries);
    }
  }

  async #turn() {
    await this.#retryDue();
    if (performance.now() >= this.#claimAt) await this.#claim();
    await this.#touch();
    await this.#notice();
    if (this.#gap !== null && (await this.#delivery.askPending(this.#gap))) this.#gap = null;
    if (this.#signal.aborted) return;
    const wait = this.#waitFor();
    if (this.#held.size >= MOST_HELD) await pause(wait, this.#signal);
    else await this.#takeAll(await this.#read(">", wait));
  }

  /** For how many ms a read may block: until something else is due. */
  #waitFor() {
    const { block, claimAfter } = this.#options;
    const due = [...this.#parked.values()].map(({ at }) => at);
    if (this.#held.size > 0) due.push(this.#touchAt);
    const wait = Math.min(block, claimAfter / 2, Math.min(...due) - performance.now());
    return Math.max(1, Math.round(wait)); // 0 would be for ever
  }

  async #makeGroup() {
    try {
      await this.#run("xgroup", ["CREATE", this.#stream, this.#options.group, "0", "MKSTREAM"]);
      return true;
    } catch (error) {
      if (!error.message.startsWith("BUSYGROUP")) throw error;
      return false;
    }
  }

  async #read(from, block = 0) {
    const { consumer, group } = this.#options;
    const waiting = block > 0 ? ["BLOCK", block] : [];
    const words = ["GROUP", group, consumer, "COUNT", COUNT, ...waiting, "STREAMS", this.#stream, from];
    return entriesOf(await this.#run("xreadgroup", words, block));
  }

  /** Take over what a consumer has held for too long, for it is dead. */
  async #claim() {
    const { claimAfter, consumer, group } = this.#options;
    let from = "0-0";
    do {
      const words = [this.#stream, group, consumer, claimAfter, from, "COUNT", COUNT];
      const [next, entries, removed = []] = await this.#run("xautoclaim", words);
      if (removed.length > 0) this.#gap = { isSure: true };
      from = next;
      if (entries.includes(null)) await this.#readOwn(); // Redis 6.2 does not say which were trimmed
      else await this.#takeAll(entries);
    } while (from !== "0-0" && this.#held.size < MOST_HELD && !this.#signal.aborted);
    this.#claimAt = performance.now() + claimAfter / 2;
  }

  async #takeAll(entries) {
    const fresh = entries.filter(([id]) => !this.#held.has(id));
    for (const [id] of fresh) this.#held.add(id);
    for (const [id, fields] of fresh) {
      if (this.#signal.aborted) return; // the rest stays pending
      await this.#take(id, fields);
      await this.#retryDue();
    }
  }

  async #take(id, fields) {
    if (!fields) this.#gap = { isSure: true }; // it was trimmed before it was acknowledged
    const message = fields ? this.#delivery.read(id, fields) : null;
    if (message === null) return this.#acknowledge(id);
    const subject = subjectOf(message);
    const parked = this.#parked.get(subject);
    if (parked !== undefined) return void parked.queue.push({ id, message });
    if (await this.#give(message)) return this.#acknowledge(id);
    this.#parked.set(subject, { queue: [{ id, message }], tries: 1, at: this.#nextTry(1) });
  }

  /** Whether the handler has taken the message; meanwhile nobody takes over what is held. */
  async #give(message) {
    const beat = setInterval(() => this.#touch().catch(() => {}), this.#options.claimAfter / 3);
    try {
      await this.#delivery.give(message);
      return true;
    } catch (error) {
      this.#delivery.report(error, message);
      return false;
    } finally {
      clearInterval(beat);
    }
  }

  async #acknowledge(id) {
    this.#held.delete(id); // where this fails, it is read again and known by its seq
    await this.#run("xack", [this.#stream, this.#options.group, id]);
  }

  #nextTry(tries) {
    const { first, most } = this.#options.retry;
    return performance.now() + backOff(tries, first, most);
  }

  /** Try what is due again, and then what came after it of the same upload. */
  async #retryDue() {
    for (const [subject, parked] of this.#parked) {
      while (parked.queue.length > 0 && parked.at <= performance.now() && !this.#signal.aborted) {
        const [{ id, message }] = parked.queue;
        if (await this.#give(message)) {
          parked.queue.shift();
          parked.tries = 0;
          await this.#acknowledge(id);
        } else {
          parked.tries += 1;
          parked.at = this.#nextTry(parked.tries);
        }
      }
      if (parked.queue.length === 0) this.#parked.delete(subject);
    }
  }

  /** Keep others from taking over what is held. */
  async #touch() {
    if (this.#held.size === 0 || performance.now() < this.#touchAt) return;
    const { claimAfter, consumer, group } = this.#options;
    this.#touchAt = performance.now() + claimAfter / 3;
    await this.#run("xclaim", [this.#stream, group, consumer, 0, ...this.#held, "JUSTID"]);
  }

  /** Notice whether the stream was trimmed, or lost, beyond what the group has read. */
  async #notice() {
    const { first, last } = await edgesOf(this.#connection, this.#stream);
    const groups = (await this.#run("xinfo", ["GROUPS", this.#stream])).map(pairs);
    const read = groups.find(({ name }) => name === this.#options.group)?.["last-delivered-id"] ?? "0-0";
    const isLost = read !== "0-0" && isAbove(first ?? last, read);
    if (isLost && this.#noticed !== last) this.#gap = { isSure: true };
    this.#noticed = isLost ? last : null;
  }

  /** Forget consumers that have ended, as each process without a name of its own is one. */
  async #forgetConsumers() {
    const { consumer, group } = this.#options;
    const consumers = (await this.#run("xinfo", ["CONSUMERS", this.#stream, group])).map(pairs);
    for (const { name, pending, idle } of consumers) {
      if (pending === 0 && idle > FORGOTTEN_AFTER && name !== consumer) {
        await this.#run("xgroup", ["DELCONSUMER", this.#stream, group, name]);
      }
    }
  }

  #run(command, words, blocks = 0) {
    return this.#connection.run(command, words, blocks);
  }
}

module.exports = { GroupListener };
