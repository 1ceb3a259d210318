"use strict";
// The client for apps that share neither a folder nor Redis with the worker: its HTTP server, by fetch.

const { createHmac, randomUUID } = require("node:crypto");
const { readFile } = require("node:fs/promises");
const { MediaError, MediaTimeout } = require("./errors.js");
const { checkId } = require("./ids.js");
const { toMessage, toUpload } = require("./message.js");
const { backOff, pause } = require("./pause.js");

const AGAIN = new Set([408, 429, 502, 503, 504]);
const WAIT_MOST = 30; // seconds, of the server
const SILENT_FOR = 45_000; // ms without a byte of a stream, which has a comment each 15 s

/** `media serve`, with a key or a token. */
class HttpMediaClient {
  #key;
  #secret;
  #timeout;
  #tries;
  #url;

  /**
   * With `secret`, the server's MEDIA_HTTP_SECRET, tokens are signed here, for any owner.
   *
   * `timeout`: ms that an answer may take, beside the seconds that a call waits by itself.
   */
  constructor(url, key = null, { secret = null, timeout = 60_000, tries = 5 } = {}) {
    if (!/^https?:\/\/[^/]/.test(url)) throw new TypeError("The URL of media serve begins with http:// or https://.");
    this.#url = new URL(url).href.replace(/\/+$/, "");
    // At once, for no try would help, and in words without the key, which those of fetch quote.
    if (key !== null && !/^[\x21-\x7e]*$/.test(key)) {
      throw new TypeError("The key has a character that no key has: is it a line break at its end?");
    }
    this.#key = key;
    this.#secret = secret;
    this.#timeout = timeout;
    this.#tries = tries;
  }

  /**
   * Upload a picture: its bytes, or the path of its file; resolves to the upload.
   *
   * With `wait` it is answered once the variants are there, after so many seconds at the latest (30 are the most).
   */
  async upload(picture, options = {}) {
    const { contentType, filename, recipe, metadata, owner, idempotencyKey = randomUUID(), wait, signal } = options;
    const body = typeof picture === "string" || picture instanceof URL ? await readFile(picture) : picture;
    if (!(ArrayBuffer.isView(body) || body instanceof ArrayBuffer || body instanceof Blob)) {
      throw new TypeError("A picture is a path, or bytes: another try sends them again, which a stream cannot.");
    }
    const about = filename === undefined ? metadata : { filename, ...metadata };
    const headers = { "Content-Type": contentType ?? (body.type || "application/octet-stream"), "Idempotency-Key": idempotencyKey };
    if (recipe !== undefined) headers["Media-Recipe"] = recipe;
    if (about !== undefined) headers["Media-Metadata"] = asciiJson(about);
    if (wait !== undefined) headers.Prefer = `wait=${seconds(wait)}`;
    if (owner !== undefined) headers.Authorization = `Bearer ${this.#sign({ owner }, 600).token}`;
    return toUpload(await this.#document("/v1/uploads", { method: "POST", headers, body, signal }, wait));
  }

  /** An upload; null: there is none, or it was deleted. With `wait`, once it is ready or failed, as above. */
  async status(id, { wait = 0, signal } = {}) {
    try {
      const query = wait > 0 ? `?wait=${seconds(wait)}` : "";
      return toUpload(await this.#document(`/v1/uploads/${checkId(id)}${query}`, { signal }, wait));
    } catch (error) {
      if (error.code === "not_found") return null;
      throw error;
    }
  }

  /**
   * Have an upload and its variants deleted, and with `original` its original, too, where the worker may.
   *
   * Rejects: MediaError, with the code `not_found` where there is none.
   */
  async delete(id, { original = false, signal } = {}) {
    await this.#document(`/v1/uploads/${checkId(id)}${original ? "?original=1" : ""}`, { method: "DELETE", signal });
  }

  /** A token with which a browser uploads: `{token, expires, url}`. To name an owner takes the `secret`. */
  async token({ maxBytes, expiresIn = 600, recipe, metadata, count, owner, signal } = {}) {
    const limits = { max_bytes: maxBytes, recipe, metadata };
    if (owner !== undefined || this.#secret !== null) return this.#sign({ ...limits, n: count, owner }, expiresIn);
    const body = JSON.stringify({ ...limits, expires_in: expiresIn, count });
    return this.#document("/v1/tokens", { method: "POST", headers: { "Content-Type": "application/json" }, body, signal });
  }

  /** What an upload may be. */
  async limits({ signal } = {}) {
    return this.#document("/v1/limits", { signal });
  }

  /**
   * Messages as they come, for `for await`, until `signal`: those after the message with the `seq` `since`.
   *
   * Connects anew by itself, and goes on where it was. `{type: "gap", from, to}` tells of messages that the
   * server has forgotten. Throws: MediaError where another try cannot help.
   */
  async *events({ since, id, signal } = {}) {
    let last = since ?? (await this.#document("/v1/events", { headers: { Accept: "application/json" }, signal })).last;
    for (let failed = 0; !signal?.aborted; ) {
      try {
        for await (const event of this.#stream(last, id, signal)) {
          failed = 0;
          last = event.id;
          const raw = JSON.parse(event.data);
          yield event.event === "gap" ? { type: "gap", from: raw.from, to: raw.to } : toMessage(raw);
        }
      } catch (error) {
        if (signal?.aborted) return;
        if (error instanceof MediaError && error.status !== null && !AGAIN.has(error.status) && error.status < 500) throw error;
      }
      failed += 1;
      await pause(backOff(failed, 1_000, 30_000), signal);
    }
  }

  async *#stream(last, id, signal) {
    const silence = new AbortController();
    let timer;
    const heard = () => {
      clearTimeout(timer);
      timer = setTimeout(() => silence.abort(), SILENT_FOR);
    };
    const stop = () => silence.abort();
    signal?.addEventListener("abort", stop, { once: true });
    try {
      heard();
      const headers = { Accept: "text/event-stream", "Last-Event-ID": String(last) };
      const path = `/v1/events${id === undefined ? "" : `?id=${checkId(id)}`}`;
      const answer = await fetch(this.#url + path, { redirect: "manual", headers: this.#with(headers), signal: silence.signal });
      if (!answer.ok) throw await problemOf(answer);
      let text = "";
      const decoder = new TextDecoder();
      for await (const bytes of answer.body) {
        heard();
        text += decoder.decode(bytes, { stream: true });
        const blocks = text.split("\n\n");
        text = blocks.pop();
        for (const block of blocks) {
          const event = Object.fromEntries(block.split("\n").map((line) => split(line)));
          if (event.data !== undefined) yield event;
        }
      }
    } finally {
      clearTimeout(timer);
      signal?.removeEventListener("abort", stop);
      silence.abort(); // whoever stops to listen leaves the server
    }
  }

  /** The JSON of an answer; what another try may mend is tried again. */
  async #document(path, { headers = {}, signal, ...request }, wait = 0) {
    for (let tries = 1; ; tries++) {
      const patience = new AbortController();
      const late = new MediaTimeout(`The server has not answered for ${this.#timeout} ms.`);
      const timer = setTimeout(() => patience.abort(late), this.#timeout + seconds(wait ?? 0) * 1000);
      const stop = () => patience.abort(signal.reason);
      if (signal?.aborted) stop();
      signal?.addEventListener("abort", stop, { once: true });
      let failure;
      let after = 0;
      try {
        const how = { ...request, redirect: "manual", headers: this.#with(headers), signal: patience.signal };
        const answer = await fetch(this.#url + path, how);
        const document = answer.ok ? documentOf(await answer.text()) : undefined;
        if (document !== undefined) return document;
        if (request.method === "DELETE" && tries > 1 && answer.status === 404) {
          await answer.body?.cancel();
          return {}; // the try before has deleted it
        }
        failure = answer.ok ? notJson(answer) : await problemOf(answer);
        after = Number(answer.headers.get("retry-after")) * 1000 || 0;
      } catch (error) {
        if (signal?.aborted) throw signal.reason;
        failure = error instanceof MediaError ? error : unreachable(this.#url, error);
      } finally {
        clearTimeout(timer);
        signal?.removeEventListener("abort", stop);
      }
      const mayHelp = failure.status === null || AGAIN.has(failure.status);
      if (tries >= this.#tries || !mayHelp || after > this.#timeout) throw failure;
      await pause(after || backOff(tries, 500, 8_000), signal);
    }
  }

  #sign(claims, expiresIn) {
    if (this.#secret === null) throw new TypeError("To name an owner takes the server's MEDIA_HTTP_SECRET as `secret`.");
    const exp = Math.floor(Date.now() / 1000) + expiresIn;
    const parts = [{ alg: "HS256", typ: "JWT" }, { aud: "media", exp, jti: randomUUID(), ...claims }];
    const signed = parts.map((part) => Buffer.from(JSON.stringify(part)).toString("base64url")).join(".");
    const signature = createHmac("sha256", this.#secret).update(signed).digest("base64url");
    return { token: `${signed}.${signature}`, expires: new Date(exp * 1000).toISOString(), url: `${this.#url}/v1/uploads` };
  }

  #with(headers) {
    return this.#key === null ? headers : { Authorization: `Bearer ${this.#key}`, ...headers };
  }
}

/** Why the server, or a proxy before it, refuses. */
async function problemOf(answer) {
  const text = await answer.text();
  const location = answer.headers.get("location");
  // To follow would turn an upload into a question, or take the key elsewhere.
  if (answer.status < 400 && location !== null) return new MediaError("http_error", `The server is at another URL: ${location}`, answer.status);
  try {
    const { code, detail, title } = JSON.parse(text);
    return new MediaError(code ?? "http_error", detail ?? title ?? text, answer.status);
  } catch {
    return new MediaError("http_error", `The server has answered with ${answer.status}, in other words than its own.`, answer.status);
  }
}

/** A document of JSON; undefined: it is none. */
function documentOf(text) {
  try {
    const document = JSON.parse(text || "{}");
    return typeof document === "object" ? (document ?? undefined) : undefined;
  } catch {
    return undefined;
  }
}

function notJson(answer) {
  return new MediaError("http_error", `The answer of ${answer.url} is no JSON: this is not media serve.`, answer.status);
}

function unreachable(url, error) {
  const why = error.cause?.message || error.cause?.code || error.message;
  return new MediaError("unreachable", `${url} does not answer: ${why}`, null, { cause: error });
}

function split(line) {
  const [name] = line.split(":", 1);
  return [name, line.slice(name.length + 1).replace(/^ /, "")];
}

function seconds(wait) {
  return Math.min(WAIT_MOST, Math.max(0, Math.ceil(wait)));
}

/** JSON that a header may hold. */
function asciiJson(value) {
  return JSON.stringify(value).replace(/[\u007f-\uffff]/g, (letter) => `\\u${letter.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

module.exports = { HttpMediaClient };
