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
  const upload = {
    id: raw.id ?? null,
    source: raw.source ?? null,
    state: raw.state ?? STATES[raw.type] ?? null,
    recipe: raw.recipe ?? null,
    metadata: raw.metadata ?? {},
    attempts: raw.attempts ?? 0,
    error: raw.error ? { code: raw.error.code, message: raw.error.message } : null,
    original: raw.original ?? null,
    thumbhash: raw.thumbhash ?? null,
    blurhash: raw.blurhash ?? null,
    variants: (raw.variants ?? []).map(toVariant),
    srcset: raw.srcset ?? "",
  };
  return Object.defineProperty(upload, "raw", { value: raw });
}

function toVariant({ name, key, url = null, width, height, bytes }) {
  return { name, key, url, width, height, bytes };
}

/** A message about an upload; `entryId` is its ID in the stream, null where it has come another way. */
function toMessage(raw, entryId = null) {
  const upload = toUpload(raw);
  return Object.defineProperty(
    {
      type: raw.type,
      seq: raw.seq ?? 0,
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
 * still on its way, or unknown, is no outcome.
 */
function toHandle(raw, entryId) {
  if (typeof raw.type !== "string" || !raw.type.startsWith("upload.")) return null;
  if (raw.type !== "upload.status") return toMessage(raw, entryId);
  if (!OUTCOMES.includes(raw.state)) return null;
  const told = { ...toMessage(raw, entryId), type: `upload.${raw.state}`, entry: null };
  return Object.defineProperty(told, "raw", { value: raw });
}

/** What a message is about, as the key by which repeated and stale ones are known. */
function subjectOf(message) {
  // A refused event says nothing of the upload that it names.
  return message.entry === null ? message.id : `entry:${message.entry}`;
}

module.exports = { subjectOf, toHandle, toMessage, toUpload };
