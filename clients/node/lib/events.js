"use strict";
// The events that an app sends. What a worker refuses for its form is refused here: its answer would be about the
// event alone, and the upload would wait for ever.

const { checkId, uploadId } = require("./ids.js");

const SOURCE_MOST = 1_024; // bytes
const NAME_MOST = 255; // bytes, of each part of a source
const METADATA_MOST = 4_096; // bytes as JSON
const OWNER_MOST = 64; // characters
const UNREADABLE = /[\p{Cc}\p{Cs}]/u; // control characters, and halves of a character, as `slice()` leaves them

/** The event that an original is in the storage. Throws: TypeError. */
function uploadEvent(source, { id, recipe, metadata, owner, traceparent, replaces } = {}) {
  checkSource(source);
  if (metadata != null) checkMetadata(metadata);
  if (owner != null && !(isText(owner) && [...owner].length <= OWNER_MOST)) {
    throw new TypeError(`An owner is a text of 1 to ${OWNER_MOST} characters, not ${JSON.stringify(owner)}.`);
  }
  if (recipe != null && typeof recipe !== "string") throw new TypeError("A recipe is the name of one.");
  const event = { source, id: id == null ? uploadId(source) : checkId(id), recipe, metadata, owner, traceparent };
  // The same upload with other bytes replaces its own variants.
  if (replaces != null && checkId(replaces) !== event.id) event.replaces = checkId(replaces);
  return Object.fromEntries(Object.entries(event).filter(([, value]) => value != null));
}

/** The event that an upload is to be deleted. Throws: TypeError. */
function deleteEvent(id, { original = false, traceparent } = {}) {
  const event = { delete: checkId(id) };
  if (original) event.original = true;
  if (traceparent != null) event.traceparent = traceparent;
  return event;
}

function checkSource(source) {
  if (!isText(source) || !source.startsWith("uploads/")) {
    throw new TypeError(`A source is the original's key, such as "uploads/cat.jpg", not ${JSON.stringify(source)}.`);
  }
  const names = source.split("/");
  if (names.some((name) => name === "" || name === "." || name === "..")) {
    throw new TypeError(`A source has no empty, "." or ".." part: ${JSON.stringify(source)}.`);
  }
  if (Buffer.byteLength(source) > SOURCE_MOST || names.some((name) => Buffer.byteLength(name) > NAME_MOST)) {
    throw new TypeError(`A source has at most ${SOURCE_MOST} bytes, and each part of it ${NAME_MOST}: ${source}.`);
  }
}

function checkMetadata(metadata) {
  const json = JSON.stringify(metadata);
  if (json?.[0] !== "{") throw new TypeError(`Metadata is an object, not ${json}.`);
  const size = Buffer.byteLength(json);
  if (size > METADATA_MOST) throw new TypeError(`Metadata has at most ${METADATA_MOST} bytes as JSON, not ${size}.`);
  // JSON writes half a character as \udc00, which a backslash of the text itself must not be taken for.
  if (/\\ud[89a-f]/.test(json.replaceAll("\\\\", ""))) throw new TypeError("Metadata has half a character, as slice() leaves it.");
}

function isText(value) {
  return typeof value === "string" && value !== "" && !UNREADABLE.test(value);
}

module.exports = { deleteEvent, uploadEvent };
