// Keeps a page fresh while it is looked at, and copies. Everything else works without script.
"use strict";

(() => {
  const LEAST_MS = 1000; // between two refreshes
  const RETRY_MS = 2000; // until the server is asked again that has answered with no stream
  const LONGEST_MS = 30000; // after which ages such as "3 min ago" are old
  const script = document.currentScript;
  const content = () => document.getElementById("content");

  // -- refreshing

  let refreshed = Date.now();
  let timer = null;
  let running = false;
  let again = false;

  function wants(uploads) {
    const main = content();
    if (!main || !main.dataset.live) return false;
    const ids = uploads ? Object.keys(uploads) : [];
    return main.dataset.live === "all" || ids.length === 0 || ids.includes(main.dataset.live);
  }

  async function refresh() {
    timer = null;
    const main = content();
    if (!main || !main.dataset.live || main.dataset.live === "listen" || document.hidden) return;
    if (running) {
      again = true;
      return;
    }
    running = true;
    again = false;
    try {
      await htmx.ajax("GET", location.href, { target: main, select: "#content", swap: "outerMorph" });
      refreshed = Date.now();
      document.dispatchEvent(new CustomEvent("console:refreshed"));
    } catch {
      again = true;
    } finally {
      running = false;
      if (again) soon();
    }
  }

  function soon() {
    if (timer === null) timer = setTimeout(refresh, Math.max(0, refreshed + LEAST_MS - Date.now()));
  }

  setInterval(() => {
    if (Date.now() - refreshed > LONGEST_MS) soon();
  }, 5000);

  // -- hearing of changes

  let wasLost = false;

  // The number of the last message that the page knows of: what has come since then it has missed. Empty: unknown.
  const since = () => content().dataset.since;

  function hear(message) {
    document.dispatchEvent(new CustomEvent("console:live", { detail: message }));
    const connection = document.getElementById("connection");
    if (message.type === "lost") {
      wasLost = true;
      connection.textContent = "The server does not answer. Trying again.";
      connection.hidden = false;
    } else if (message.type === "open") {
      connection.hidden = true;
      if (wasLost) soon();
      wasLost = false;
    } else if (wants(message.uploads)) {
      soon();
    }
  }

  function listenByWorker() {
    const worker = new SharedWorker(script.dataset.worker, "media-worker console");
    const tell = () => worker.port.postMessage({ url: script.dataset.live, visible: !document.hidden, since: since() });
    worker.onerror = listenAlone;
    worker.port.onmessage = ({ data }) => hear(data);
    document.addEventListener("visibilitychange", tell);
    window.addEventListener("pagehide", () => worker.port.postMessage({ gone: true }));
    window.addEventListener("pageshow", tell);
    tell();
  }

  function listenAlone() {
    let source = null;
    let last = since();
    const update = () => {
      if (document.hidden) {
        if (source) source.close();
        source = null;
      } else if (!source) {
        const url = script.dataset.live;
        source = new EventSource(last ? `${url}?since=${last}` : url);
        source.onopen = () => hear({ type: "open" });
        source.onerror = () => {
          hear({ type: "lost" });
          if (source && source.readyState === EventSource.CLOSED) {
            source = null;
            setTimeout(update, RETRY_MS);
          }
        };
        source.addEventListener("changed", (event) => {
          last = event.lastEventId;
          hear({ type: "changed", uploads: JSON.parse(event.data).uploads });
        });
      }
    };
    document.addEventListener("visibilitychange", update);
    update();
  }

  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && Date.now() - refreshed > LEAST_MS) soon(); // it has heard nothing meanwhile
  });

  if (content() && content().dataset.live) {
    if (window.SharedWorker) listenByWorker();
    else listenAlone();
  }

  // -- copying, also where the page came over plain HTTP and the browser has no clipboard for it

  async function copy(text) {
    if (navigator.clipboard) {
      await navigator.clipboard.writeText(text);
      return;
    }
    const field = document.createElement("textarea");
    field.value = text;
    field.className = "unseen";
    document.body.append(field);
    field.select();
    const copied = document.execCommand("copy");
    field.remove();
    if (!copied) throw new Error("the browser does not allow it");
  }

  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-copy]");
    if (!button) return;
    let said = "Copied.";
    try {
      await copy(button.dataset.copy);
    } catch {
      said = "The browser did not allow to copy.";
    }
    button.focus();
    document.getElementById("announcement").textContent = said;
    button.dataset.said = said;
    setTimeout(() => delete button.dataset.said, 2000);
  });

  // -- pictures that cannot be shown: CSS puts a tile in their place

  const unshown = new Set(); // their addresses: a refresh takes the class away, and asks for none of them again

  function isBroken(picture) {
    return picture.complete && picture.naturalWidth === 0 && picture.currentSrc !== "";
  }

  function showTiles() {
    for (const picture of document.images) {
      if (unshown.has(picture.src) && isBroken(picture)) picture.classList.add("unshown");
    }
  }

  document.addEventListener(
    "error",
    ({ target }) => {
      if (!(target instanceof HTMLImageElement)) return;
      unshown.add(target.src);
      target.classList.add("unshown");
    },
    true,
  );
  document.addEventListener(
    "load",
    ({ target }) => {
      if (!(target instanceof HTMLImageElement) || !unshown.delete(target.src)) return;
      target.classList.remove("unshown");
    },
    true,
  );
  document.addEventListener("console:refreshed", showTiles);
  for (const picture of document.images) {
    if (isBroken(picture)) unshown.add(picture.src); // before this script ran
  }
  showTiles();

  // -- ticking all of a page, and how many are ticked

  function showTicks() {
    for (const all of document.querySelectorAll("[data-ticks]")) {
      const ticks = [...all.form.querySelectorAll("[name=tick]")];
      const ticked = ticks.filter((tick) => tick.checked).length;
      all.checked = ticked > 0 && ticked === ticks.length;
      all.indeterminate = ticked > 0 && ticked < ticks.length;
      for (const said of all.form.querySelectorAll("[data-ticked]")) {
        said.textContent = ticked > 0 ? ` (${ticked})` : "";
      }
    }
  }

  document.addEventListener("change", ({ target }) => {
    if (target.matches("[data-ticks]")) {
      for (const tick of target.form.querySelectorAll("[name=tick]")) tick.checked = target.checked;
    }
    if (target.matches("[data-ticks], [name=tick]")) showTicks();
  });
  document.addEventListener("console:refreshed", showTicks);
  window.addEventListener("pageshow", showTicks); // also where the browser restores ticks
})();
