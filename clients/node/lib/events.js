"use strict";
// The events that an app sends. The worker checks them; here is only what would surprise whoever waits for an answer.

const { checkId, uploadId } = require("./ids.js");

/** The event that an original is in the storage. Throws: TypeError. */
function uploadEvent(source, { id, recipe, metadata, owner, traceparent, replaces } = {}) {
  if (typeof source !== "string" || !source.startsWith("uploads/")) {
    throw new TypeError(`A source is the original's key, such as "uploads/cat.jpg", not ${JSON.stringify(source)}.`);
  }
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

module.exports = { deleteEvent, uploadEvent };
