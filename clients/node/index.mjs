// The names of index.js for `import`: there is one implementation, and one class of each name in a process.
import client from "./index.js";

export const {
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
} = client;
