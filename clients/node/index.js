"use strict";

const { MediaClient } = require("./lib/client.js");
const { MediaError, MediaTimeout } = require("./lib/errors.js");
const { FakeMedia } = require("./lib/fake.js");
const { HttpMediaClient } = require("./lib/http.js");
const { uploadId } = require("./lib/ids.js");
const { Outbox } = require("./lib/outbox.js");
const { FileCursor, MemoryCursor, MemorySeqs } = require("./lib/stores.js");

module.exports = {
  FakeMedia,
  FileCursor,
  HttpMediaClient,
  MediaClient,
  MediaError,
  MediaTimeout,
  MemoryCursor,
  MemorySeqs,
  Outbox,
  uploadId,
};
