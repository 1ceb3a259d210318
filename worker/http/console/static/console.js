// Keeps a page fresh while it is looked at, and copies. Everything else works without script.
"use strict";

(() => {
  const LEAST_MS = 1000; // between two refreshes
  const RETRY_MS = 2000; // until the server is asked again that has answered with no stream
  const AGAIN_MS = 3000; // until it is asked again that has answered with no page
  const LONGEST_MS = 30000; // after which ages such as "3 min ago" are old
  const DEAF_MS = 10000; // the same while no stream tells of changes
  const PATIENCE_MS = 20000; // with an answer
  const script = document.currentScript;
  const content = () => document.getElementById("content");

  // -- refreshing

  let refreshed = Date.now();
  let asked = 0;
  let timer = null;
  let running = false;
  let again = false;
  let isLost = false; // the stream of changes
  let problem = null; // why there is no newer page, whether one may come soon, and whether it takes a person
  let stopListening = () => {};

  function wants(uploads) {
    const main = content();
    if (!main || !main.dataset.live) return false;
    const ids = uploads ? Object.keys(uploads) : [];
    return main.dataset.live === "all" || ids.length === 0 || ids.includes(main.dataset.live);
  }

  // The page as it is now; else why there is none.
  async function fetchPage() {
    let response;
    let text;
    try {
      response = await fetch(location.href, {
        headers: { Accept: "text/html, application/json", "HX-Request": "true" },
        redirect: "manual", // to where people sign in
        signal: AbortSignal.timeout(PATIENCE_MS),
      });
      text = await response.text();
    } catch {
      return { says: "The server does not answer.", isPassing: true };
    }
    if (response.ok && text.includes('id="content"')) return { text };
    if (response.ok || response.type === "opaqueredirect") {
      return { says: "You are signed in no more.", takesPerson: true };
    }
    if (response.status === 401) return { says: "Your key counts no more.", takesPerson: true };
    const isPassing = response.status >= 500 || [408, 425, 429].includes(response.status);
    const says = sentenceOf(text) || `The server answers ${response.status} ${response.statusText}`.trim() + ".";
    return { says, isPassing, takesPerson: response.status === 403 };
  }

  // What an answer in JSON says is wrong, the server's or a proxy's.
  function sentenceOf(text) {
    try {
      return JSON.parse(text).detail || "";
    } catch {
      return "";
    }
  }

  async function refresh() {
    timer = null;
    const main = content();
    if (!main || !main.dataset.live || document.hidden || (problem && problem.takesPerson)) return;
    const onlyListens = main.dataset.live === "listen";
    if (onlyListens && !isLost && !problem) return;
    if (running) {
      again = true;
      return;
    }
    running = true;
    again = false;
    asked = Date.now();
    try {
      const page = await fetchPage();
      problem = page.text ? null : page;
      if (page.text && !onlyListens) {
        await htmx.swap({ text: page.text, sourceElement: document.body, target: main, select: "#content", swap: "outerMorph" });
        document.dispatchEvent(new CustomEvent("console:refreshed"));
      }
      if (page.text) refreshed = Date.now();
      showProblem();
      if (problem && problem.takesPerson) stopListening();
    } finally {
      running = false;
      if (again || (problem && problem.isPassing)) soon();
    }
  }

  function showProblem() {
    const connection = document.getElementById("connection");
    connection.hidden = !problem;
    if (!problem) {
      connection.textContent = "";
      return;
    }
    const said = [problem.says.replace(" Try again soon.", ""), `What is shown is of ${clock(refreshed)}.`];
    if (problem.isPassing) said.push("Trying again.");
    if (connection.textContent.startsWith(said.join(" "))) return; // nobody is to hear it twice
    connection.textContent = said.join(" ");
    if (problem.takesPerson) {
      const link = document.createElement("a");
      link.href = location.href;
      link.textContent = "Load the page again.";
      connection.append(" ", link);
    }
  }

  const clock = (ms) => `${new Date(ms).toISOString().slice(11, 19)} UTC`;

  function soon() {
    const next = Math.max(refreshed + LEAST_MS, problem ? asked + AGAIN_MS : 0);
    if (timer === null) timer = setTimeout(refresh, Math.max(0, next - Date.now()));
  }

  function now() {
    clearTimeout(timer);
    timer = null;
    asked = 0;
    soon();
  }

  setInterval(() => {
    if (Date.now() - refreshed > (isLost ? DEAF_MS : LONGEST_MS)) soon();
  }, 5000);

  // -- hearing of changes

  // The number of the last message that the page knows of: what has come since then it has missed. Empty: unknown.
  const since = () => content().dataset.since;

  function hear(message) {
    document.dispatchEvent(new CustomEvent("console:live", { detail: message }));
    if (message.type === "lost") {
      isLost = true;
      soon(); // no browser says why: the answer to a refresh does
    } else if (message.type === "open") {
      if (isLost || problem) now();
      isLost = false;
    } else if (wants(message.uploads)) {
      soon();
    }
  }

  function listenByWorker() {
    const worker = new SharedWorker(script.dataset.worker, "media-worker console");
    const tell = () => worker.port.postMessage({ url: script.dataset.live, visible: !document.hidden, since: since() });
    worker.onerror = listenAlone;
    worker.port.onmessage = ({ data }) => hear(data);
    stopListening = () => worker.port.postMessage({ gone: true });
    document.addEventListener("visibilitychange", tell);
    window.addEventListener("pagehide", () => stopListening());
    window.addEventListener("pageshow", tell);
    tell();
  }

  function listenAlone() {
    let source = null;
    let last = since();
    stopListening = () => {
      if (source) source.close();
      source = null;
    };
    const update = () => {
      if (document.hidden || (problem && problem.takesPerson)) {
        stopListening();
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
          last = event.lastEventId || last;
          hear({ type: "changed", uploads: JSON.parse(event.data).uploads });
        });
      }
    };
    document.addEventListener("visibilitychange", update);
    update();
  }

  document.addEventListener("visibilitychange", () => {
    if (document.hidden) return;
    problem = null; // whoever comes back may have signed in elsewhere
    if (Date.now() - refreshed > LEAST_MS) now(); // it has heard nothing meanwhile
  });
  for (const failed of ["htmx:response:error", "htmx:error"]) document.addEventListener(failed, now); // says why

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

  // -- going back, where the browser keeps what was ticked and typed

  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-back]");
    if (!link || link.href !== document.referrer || history.length < 2) return;
    if (event.button || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    history.back();
  });

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
