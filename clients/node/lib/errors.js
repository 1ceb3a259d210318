"use strict";

/** What the worker or its HTTP server refuses: `code` for programs, `message` for people. */
class MediaError extends Error {
  constructor(code, message, status = null, options = undefined) {
    super(message, options);
    this.name = "MediaError";
    this.code = code;
    this.status = status; // of HTTP; null: there was no answer, or it was not asked by HTTP
  }
}

/** No answer came in time. */
class MediaTimeout extends MediaError {
  constructor(message, options = undefined) {
    super("timeout", message, null, options);
    this.name = "MediaTimeout";
  }
}

/** Tell an app's `onError`: where that fails itself, also later, nothing else does. */
function report(onError, ...about) {
  new Promise((resolve) => resolve(onError(...about))).catch(() => {});
}

module.exports = { MediaError, MediaTimeout, report };
