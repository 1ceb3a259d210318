"use strict";

const { setTimeout: sleep } = require("node:timers/promises");

/** Wait so many ms, or until the signal. */
async function pause(ms, signal) {
  await sleep(ms, undefined, { signal }).catch(() => {});
}

/** The ms before another try, after so many that failed: doubling, with jitter, so that not all come at once. */
function backOff(tries, first, most) {
  const whole = Math.min(most, first * 2 ** Math.min(tries - 1, 30));
  return whole / 2 + (Math.random() * whole) / 2;
}

module.exports = { backOff, pause };
