"use strict";
// The ids of uploads.

const { createHash } = require("node:crypto");

const NAMESPACE_URL = Buffer.from("6ba7b8119dad11d180b400c04fd430c8", "hex");
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/** The id of an upload whose event names none: two events for one source are one upload. */
function uploadId(source) {
  return uuid5(NAMESPACE_URL, `media:${source}`);
}

/** The UUID of version 5 (RFC 9562) of a name; the namespace is 16 bytes. */
function uuid5(namespace, name) {
  const bytes = createHash("sha1").update(namespace).update(name).digest().subarray(0, 16);
  bytes[6] = (bytes[6] & 0x0f) | 0x50;
  bytes[8] = (bytes[8] & 0x3f) | 0x80;
  const hex = bytes.toString("hex");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}

/** The UUID as messages have it. Throws: TypeError. */
function checkId(id) {
  const lower = typeof id === "string" ? id.toLowerCase() : "";
  if (!UUID.test(lower)) throw new TypeError(`An upload's id is a UUID, not ${JSON.stringify(id)}.`);
  return lower;
}

module.exports = { NAMESPACE_URL, checkId, uploadId, uuid5 };
