// One stream for all tabs: a browser opens six connections to a server, and ten tabs would take them all.
"use strict";

const ports = new Map(); // whether the tab is visible
let source = null;
let url = "";
let last = ""; // the number of the last message; empty: unknown

function send(message) {
  for (const port of ports.keys()) port.postMessage(message);
}

function open() {
  if (source || !url) return;
  source = new EventSource(last ? `${url}?since=${last}` : url);
  source.onopen = () => send({ type: "open" });
  source.onerror = () => {
    send({ type: "lost" });
    if (source && source.readyState === EventSource.CLOSED) {
      // An answer that was no stream, such as a proxy's: the browser does not try again by itself.
      close();
      setTimeout(update, 2000);
    }
  };
  source.addEventListener("changed", (event) => {
    last = event.lastEventId || last; // some tell of nothing that has a number
    send({ type: "changed", uploads: JSON.parse(event.data).uploads });
  });
}

function close() {
  if (source) source.close();
  source = null;
}

function update() {
  if ([...ports.values()].includes(true)) open();
  else close();
}

onconnect = (event) => {
  const port = event.ports[0];
  port.onmessage = ({ data }) => {
    if (data.url) url = data.url;
    // Others have heard meanwhile what this page is too old for; or nobody has, and the stream begins there.
    if (data.since && Number(last) > Number(data.since)) port.postMessage({ type: "changed", uploads: {} });
    else if (data.since && !source) last = data.since;
    if (data.gone) ports.delete(port);
    else ports.set(port, data.visible);
    if (data.visible && source && source.readyState === EventSource.OPEN) port.postMessage({ type: "open" });
    update();
  };
  port.start();
};
