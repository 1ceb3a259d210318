// Sends pictures that are dropped or chosen, several at a time, and shows what becomes of each.
// Without script the form sends one, and the page of its upload shows the rest.
"use strict";

(() => {
  const AT_ONCE = 3; // a browser opens six connections to a server
  const LOOK_MS = 2500; // where no stream tells of changes
  const LEFT_MS = 1000; // without a sign of what is dragged, which comes several times a second
  const TOGETHER_MS = 300;
  const LONGEST_NAME = 200; // characters of a file's name in the metadata of its upload
  const HIDDEN = /[\p{C}\p{Zl}\p{Zp}]/gu;
  const page = document.currentScript.dataset.drop;
  const waiting = []; // to be sent
  const sent = new Map(); // by the id of the upload, until that has settled
  let sending = 0;

  // -- where rows are: on the page for it, or beside any other

  let place = null;

  async function openPlace() {
    if (place && place.isConnected) return place;
    place = document.getElementById("drop");
    if (!place) {
      const answer = await fetch(page, { headers: { Accept: "text/html" } });
      if (!answer.ok) throw new Error(`The server answers ${answer.status}.`);
      const text = await answer.text();
      place = document.importNode(new DOMParser().parseFromString(text, "text/html").getElementById("drop"), true);
      document.body.append(aside(place));
    }
    return place;
  }

  function aside(content) {
    const made = document.createElement("aside");
    made.className = "drop-aside card";
    made.setAttribute("aria-label", "Dropped pictures");
    const header = document.createElement("header");
    const title = document.createElement("h2");
    title.textContent = "Dropped pictures";
    const close = document.createElement("button");
    close.type = "button";
    close.textContent = "Close";
    close.addEventListener("click", () => made.remove());
    header.append(title, close);
    made.append(header, content);
    return made;
  }

  // -- rows

  function visible(name) {
    return name.replace(HIDDEN, (found) => `\\u{${found.codePointAt(0).toString(16)}}`);
  }

  function size(bytes) {
    if (bytes < 1000) return `${bytes} B`;
    return bytes < 999950 ? `${(bytes / 1e3).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
  }

  const news = [];

  function tell(words) {
    news.push(words);
    if (news.length > 1) return;
    // What comes at once is read at once: the next text would cut the last one off.
    setTimeout(() => (document.getElementById("announcement").textContent = news.splice(0).join(" ")), TOGETHER_MS);
  }

  function add(files) {
    for (const file of files) {
      const element = place.querySelector(".drop-row").content.firstElementChild.cloneNode(true);
      const row = { file, element, name: visible(file.name), key: randomKey() };
      element.querySelector(".drop-name").textContent = row.name;
      element.querySelector(".drop-size").textContent = size(file.size);
      row.progress = element.querySelector("progress");
      row.progress.setAttribute("aria-label", `Upload of ${row.name}`);
      row.outcome = element.querySelector(".drop-outcome");
      row.again = element.querySelector(".drop-again");
      row.again.addEventListener("click", () => queue(row));
      place.querySelector(".drop-rows").append(element);
      queue(row);
    }
  }

  function queue(row) {
    const form = place.querySelector("form");
    if (row.file.size > Number(form.dataset.mostBytes)) {
      refuse(row, form.dataset.tooLarge);
      return;
    }
    row.recipe ??= form.elements.recipe ? form.elements.recipe.value : null; // of another try, too
    row.again.hidden = true;
    row.progress.hidden = false;
    row.progress.value = 0;
    say(row, "Waits to be sent.");
    waiting.push(row);
    sendMore();
  }

  function say(row, words) {
    const said = document.createElement("p");
    said.textContent = words;
    row.outcome.replaceChildren(said);
  }

  function refuse(row, words, { again = false } = {}) {
    say(row, words);
    row.outcome.firstChild.className = "drop-refused";
    row.progress.hidden = true;
    row.again.hidden = !again;
    row.element.dataset.state = "refused";
    tell(`${row.name}: ${words}`);
  }

  // -- sending

  function randomKey() {
    // Not randomUUID, which a page over plain HTTP does not have.
    return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
  }

  function sendMore() {
    while (sending < AT_ONCE && waiting.length) send(waiting.shift());
  }

  function send(row) {
    const form = place.querySelector("form");
    const body = new FormData();
    if (row.recipe !== null) body.append("recipe", row.recipe);
    body.append("metadata", JSON.stringify({ filename: Array.from(row.file.name).slice(0, LONGEST_NAME).join("") }));
    body.append("file", row.file);
    const request = new XMLHttpRequest();
    request.open("POST", form.action);
    request.setRequestHeader("Accept", "application/json");
    request.setRequestHeader("Idempotency-Key", row.key); // another try of the same row makes no second upload
    request.upload.onprogress = ({ loaded, total }) => {
      row.progress.value = (100 * loaded) / total;
      say(row, loaded < total ? `Sent: ${Math.floor((100 * loaded) / total)} %` : "Sent. The server stores it.");
    };
    request.onload = () => answered(row, request);
    request.onerror = () => refuse(row, "The connection broke off, or the file cannot be read.", { again: true });
    request.onloadend = () => {
      sending -= 1;
      sendMore();
    };
    sending += 1;
    request.send(body);
  }

  function answered(row, { status, statusText, responseText }) {
    let answer = {};
    try {
      answer = JSON.parse(responseText);
    } catch {
      // A proxy's page.
    }
    if (answer.outcome && (status === 200 || status === 201)) {
      row.progress.hidden = true;
      row.url = answer.outcome;
      sent.set(answer.id, row);
      say(row, "Stored.");
      look(answer.id);
    } else if (status === 401) {
      refuse(row, "The key does not count any more: load this page again.");
    } else if (status < 400) {
      refuse(row, "That was no answer of the console: load this page again, as you may be signed out.", { again: true });
    } else {
      const again = [408, 429, 500, 502, 503, 504].includes(status);
      refuse(row, answer.detail || `Refused: ${status} ${statusText}`, { again });
    }
  }

  // -- what becomes of it

  async function look(id) {
    const row = sent.get(id);
    if (!row) return;
    if (row.looking) {
      row.changed = true;
      return;
    }
    row.looking = true;
    row.changed = false;
    try {
      const answer = await fetch(row.url, { headers: { Accept: "text/html" } });
      if (answer.ok) show(id, row, await answer.text());
      else if (answer.status === 404) {
        sent.delete(id);
        refuse(row, "The upload was deleted.");
      }
    } catch {
      // The server is away: it is asked again.
    } finally {
      row.looking = false;
      if (row.changed) look(id);
    }
  }

  function show(id, row, text) {
    const part = new DOMParser().parseFromString(text, "text/html").querySelector("[data-state]");
    const { state } = part.dataset;
    const picture = part.querySelector(".thumbnail");
    if (picture) row.element.querySelector(".drop-picture").replaceChildren(document.importNode(picture, true));
    if (picture) picture.remove();
    row.outcome.replaceChildren(document.importNode(part, true));
    row.element.dataset.state = state;
    if (state === "ready" || state === "failed" || state === "deleted") {
      sent.delete(id);
      tell(`${row.name}: ${part.dataset.said}`);
    }
  }

  document.addEventListener("console:live", ({ detail }) => {
    if (detail.type === "lost") return;
    const ids = Object.keys(detail.uploads || {});
    for (const id of ids.length ? ids.filter((one) => sent.has(one)) : sent.keys()) look(id);
  });

  setInterval(() => {
    if (!document.hidden) [...sent.keys()].slice(0, AT_ONCE).forEach(look);
  }, LOOK_MS);

  // -- dropping and choosing

  async function filesOf(transfer) {
    const entries = Array.from(transfer.items, (item) => (item.kind === "file" ? item.webkitGetAsEntry() : null));
    const files = Array.from(transfer.files); // before anything is awaited: then the browser forgets them
    if (!entries.some((entry) => entry && entry.isDirectory)) return files;
    const found = await Promise.all(entries.filter(Boolean).map(filesBelow));
    return found.flat();
  }

  async function filesBelow(entry) {
    if (entry.isFile) return [await new Promise((done, failed) => entry.file(done, failed))];
    const reader = entry.createReader();
    const found = [];
    for (;;) {
      const part = await new Promise((done, failed) => reader.readEntries(done, failed));
      if (!part.length) return found;
      for (const one of part) found.push(...(await filesBelow(one)));
    }
  }

  async function take(files) {
    try {
      const [found] = await Promise.all([files, openPlace()]);
      add(found);
    } catch (error) {
      tell(error.message);
    }
  }

  const bringsFiles = ({ dataTransfer }) => Boolean(dataTransfer) && dataTransfer.types.includes("Files");
  const hint = document.createElement("p");
  hint.className = "drop-hint";
  hint.setAttribute("aria-hidden", "true");
  hint.textContent = "Drop pictures to upload them";
  document.body.append(hint);

  let left = null;

  function showHint(is) {
    clearTimeout(left);
    document.body.classList.toggle("dropping", is);
    // Whether something was dropped elsewhere, or nowhere, no event tells for sure.
    if (is) left = setTimeout(showHint, LEFT_MS, false);
  }

  document.addEventListener("dragover", (event) => {
    if (!bringsFiles(event)) return;
    event.preventDefault();
    event.dataTransfer.dropEffect = "copy";
    showHint(true);
  });
  document.addEventListener("drop", (event) => {
    showHint(false);
    if (!bringsFiles(event)) return;
    event.preventDefault();
    take(filesOf(event.dataTransfer));
  });

  const input = document.getElementById("drop-file");
  if (input) {
    input.multiple = true;
    document.querySelector(".drop-several").hidden = false;
    document.querySelector(".drop-send").hidden = true; // what is chosen is sent
    input.addEventListener("change", () => {
      take(Array.from(input.files));
      input.value = "";
    });
  }

  addEventListener("beforeunload", (event) => {
    if (sending || waiting.length) event.preventDefault();
  });
})();
