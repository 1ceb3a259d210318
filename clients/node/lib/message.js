"use strict";
// What an app receives: messages, and the state of an upload, in one shape.

const STATES = {
  "upload.started": "processing",
  "upload.ready": "ready",
  "upload.failed": "failed",
  "upload.deleted": "deleted",
};
const OUTCOMES = ["ready", "failed", "deleted"];

/** An upload as a message, a status or the HTTP server tells it; `raw`, all of it, is left out of its JSON. */
function toUpload(raw) {
  const base = baseOf(raw.srcset ?? "", raw.variants ?? []);
  const upload = {
    id: raw.id ?? null,
    seq: Number.isSafeInteger(raw.seq) && raw.seq >= 0 ? raw.seq : 0, // no other is of a worker, nor may it hide later ones
    source: raw.source ?? null,
    state: raw.state ?? STATES[raw.type] ?? null,
    recipe: raw.recipe ?? null,
    metadata: raw.metadata ?? {},
    attempts: raw.attempts ?? 0,
    error: raw.error ? { code: raw.error.code, message: raw.error.message } : null,
    original: raw.original ?? null,
    thumbhash: raw.thumbhash ?? null,
    blurhash: raw.blurhash ?? null,
    variants: (raw.variants ?? []).map((variant) => toVariant(variant, base)),
    srcset: raw.srcset ?? "",
  };
  return Object.defineProperty(upload, "raw", { value: raw });
}

function toVariant({ name, key, url = null, width, height, bytes }, base) {
  return { name, key, url: url ?? (base && base + key), width, height, bytes };
}

/** What stands before keys in a srcset of links, for messages tell links only there; null: it has keys. */
function baseOf(srcset, variants) {
  const [first] = srcset.split(" ", 1);
  const named = variants.find(({ key }) => key && first.endsWith(key));
  return named === undefined ? null : first.slice(0, -named.key.length) || null;
}

/** A message about an upload; `entryId` is its ID in the stream, null where it has come another way. */
function toMessage(raw, entryId = null) {
  const upload = toUpload(raw);
  return Object.defineProperty(
    {
      type: raw.type,
      time: raw.time ?? null,
      entryId,
      ...upload,
      entry: raw.entry ?? null, // the event's ID in the stream, where the message answers an event and not an upload
      replaces: raw.replaces ?? null,
      replacedBy: raw.replaced_by ?? null,
      waiting: raw.waiting ?? null,
    },
    "raw",
    { value: raw },
  );
}

/**
 * The message that a handler gets for an entry of the stream; null where there is none for it.
 *
 * The answer to a question is the outcome that it tells, so that a handler need not know of questions; what is
 * still on its way is none. That an upload is unknown stays an answer, for its event was lost.
 */
function toHandle(raw, entryId) {
  if (typeof raw.type !== "string" || !raw.type.startsWith("upload.")) return null;
  if (raw.type !== "upload.status") return toMessage(raw, entryId);
  if (!OUTCOMES.includes(raw.state) && raw.state !== "unknown") return null;
  const type = raw.state === "unknown" ? raw.type : `upload.${raw.state}`;
  return Object.defineProperty({ ...toMessage(raw, entryId), type, entry: null }, "raw", { value: raw });
}

/** What a message is about, as the key by which repeated and stale ones are known. */
function subjectOf(message) {
  // A refused event says nothing of the upload that it names.
  return message.entry === null ? message.id : `entry:${message.entry}`;
}

/** Whether a message is repeated or stale where one with the `seq` `seen` was handled (undefined: none). */
function isPast(message, seen = -1) {
  const { type } = message.raw;
  if (type === "upload.started") return message.seq < seen; // its seq is that of the message before it
  return message.seq <= seen && (message.seq > 0 || type === "upload.status");
}

/** The key by which a message that was handled is known; null: it is known by none. */
function keyOf(message) {
  const { state, type } = message.raw;
  if (type === "upload.started" || message.state === "unknown") return null;
  // An answer does not count as the message with its seq, which may be on its way.
  return type === "upload.status" ? `${state}:${message.id}` : subjectOf(message);
}

module.exports = { isPast, keyOf, subjectOf, toHandle, toMessage, toUpload };
