// What makes the pages live. They work without it: it only saves reloading them.
"use strict";

const LANGUAGE = document.documentElement.lang || "en";

// -- moments and durations: local time, counted on -------------------------------------------------

const relative = new Intl.RelativeTimeFormat(LANGUAGE, { numeric: "auto", style: "short" });
const two = (number) => String(number).padStart(2, "0");

function showTimes(root) {
  const now = Date.now();
  for (const time of root.querySelectorAll("time[datetime]")) {
    const at = new Date(time.dateTime);
    const local = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${two(at.getHours())}:${two(at.getMinutes())}`;
    const seconds = (at - now) / 1000;
    const text = seconds > 60 || seconds < -86400 ? local
      : seconds < -3600 ? relative.format(Math.round(seconds / 3600), "hour")
      : seconds < -60 ? relative.format(Math.round(seconds / 60), "minute")
      : relative.format(0, "second");
    if (time.textContent !== text) time.textContent = text;
    time.title = `${local}:${two(at.getSeconds())}`;
  }
  for (const time of root.querySelectorAll("time[data-since]")) {
    const seconds = Math.max(0, Math.floor((now - new Date(time.dataset.since)) / 1000));
    const [days, hours, minutes] = [86400, 3600, 60].map((unit) => Math.floor(seconds / unit));
    const clock = `${hours % 24}:${two(minutes % 60)}:${two(seconds % 60)}`;
    time.textContent = days ? `${days} ${time.dataset.day} ${hours % 24}:${two(minutes % 60)}` : clock;
  }
}

showTimes(document);
setInterval(() => document.hidden || showTimes(document), 1000);

// -- fragments: asked for every two seconds while somebody looks --------------------------------------

for (const place of document.querySelectorAll("[data-live]")) keepLive(place);

function keepLive(place) {
  let last = null;
  let timer = null;
  const ask = async () => {
    clearTimeout(timer);
    let pause = 2000;
    try {
      const response = await fetch(place.dataset.live, { cache: "no-cache" });
      const html = response.ok ? await response.text() : null;
      if (html !== null && html !== last && !isSelecting(place)) {
        replace(place, html);
        if (place.dataset.whenEmptyReload && !html.includes('id="welcome"')) location.reload();
        last = html;
      }
    } catch {
      pause = 10000;
    }
    if (!document.hidden) timer = setTimeout(ask, pause);
  };
  document.addEventListener("visibilitychange", () => document.hidden || ask());
  ask();
}

function isSelecting(place) {
  const selection = getSelection();
  return !selection.isCollapsed && place.contains(selection.anchorNode);
}

function replace(place, html) {
  const fresh = document.createElement(place.tagName);
  fresh.innerHTML = html;
  showTimes(fresh);
  const folds = [...place.querySelectorAll("details")].map((fold) => fold.open);
  fresh.querySelectorAll("details").forEach((fold, i) => { fold.open = folds[i] ?? false; });
  patch(place, fresh, true);
  document.dispatchEvent(new Event("change"));
}

// Parts with an id are replaced only if they changed: ticks, focus and open folds stay. A part
// with data-keep is never replaced.
function patch(old, fresh, isRoot) {
  if (old.hasAttribute("data-keep") || (!isRoot && old.isEqualNode(fresh))) return;
  const [now, next] = [[...old.children], [...fresh.children]];
  const isSameShape = next.length > 0 && now.length === next.length
    && next.every((part, i) => part.id && part.id === now[i].id);
  if (isSameShape) {
    now.forEach((part, i) => patch(part, next[i]));
  } else {
    const chosen = new Set([...old.querySelectorAll("input:checked")].map((box) => box.value));
    for (const box of fresh.querySelectorAll('input[name="run"]')) box.checked = chosen.has(box.value);
    const focused = reachable(old).indexOf(document.activeElement);
    old.replaceChildren(...fresh.childNodes);
    reachable(old)[focused]?.focus({ preventScroll: true });
  }
}

const reachable = (part) => [...part.querySelectorAll("a, button, input, select, summary, [tabindex]")];

// -- choosing runs --------------------------------------------------------------------------------

document.addEventListener("change", (event) => {
  const box = event.target;
  if (box.matches?.("[data-choose-all]")) {
    for (const one of box.closest("table").querySelectorAll('input[name="run"]')) one.checked = box.checked;
  }
  if (box.closest?.("[data-submit-on-change]")) box.form.requestSubmit();
  const chosen = document.querySelectorAll('input[name="run"]:checked').length;
  for (const place of document.querySelectorAll("[data-needs-selection]")) {
    for (const button of place.querySelectorAll("button")) button.disabled = !chosen;
    place.querySelector("output").textContent = chosen || "";
  }
});
document.dispatchEvent(new Event("change"));

// -- buttons that take long ------------------------------------------------------------------------

document.addEventListener("submit", ({ submitter }) => {
  if (!submitter?.dataset.busy) return;
  submitter.textContent = submitter.dataset.busy;
  setTimeout(() => { submitter.disabled = true; });  // once it has been sent along
});

// -- charts: the value under the pointer ------------------------------------------------------------

document.addEventListener("pointermove", (event) => {
  const chart = event.target.closest?.(".chart-card")?.querySelector(".chart");
  for (const other of document.querySelectorAll(".chart .cursor, .chart .mark")) {
    if (other.closest(".chart") !== chart) unmark(other.closest(".chart"));
  }
  if (chart) mark(chart, event.clientX);
});

function mark(chart, clientX) {
  const box = chart.querySelector("svg").getBoundingClientRect();
  const [low, high] = chart.dataset.x.split(" ").map(Number);
  const [bottom, top] = chart.dataset.y.split(" ").map(Number);
  const wanted = low + ((clientX - box.left) / box.width) * (high - low);
  let best = null;
  for (const pair of chart.dataset.points.split(" ").filter(Boolean)) {
    const [step, value] = pair.split(":").map(Number);
    if (!best || Math.abs(step - wanted) < Math.abs(best[0] - wanted)) best = [step, value];
  }
  if (!best) return;
  unmark(chart);
  const x = `${((best[0] - low) / (high - low)) * 100}%`;
  const y = `${100 - ((best[1] - bottom) / (top - bottom)) * 100}%`;
  chart.append(
    drawn("line", { class: "cursor", x1: x, x2: x, y1: 0, y2: "100%" }),
    drawn("circle", { class: "mark", cx: x, cy: y, r: 4 }),
  );
  const [value, step] = chart.parentElement.querySelectorAll("figcaption b, .chart-readout");
  chart.readout ??= [value.textContent, step.textContent];
  [value.textContent, step.textContent] = [best[1], step.dataset.text.replace("{}", best[0])];
}

function unmark(chart) {
  for (const old of chart.querySelectorAll(".cursor, .mark")) old.remove();
  const [value, step] = chart.parentElement.querySelectorAll("figcaption b, .chart-readout");
  if (chart.readout) [value.textContent, step.textContent] = chart.readout;
  delete chart.readout;
}

function drawn(name, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

// -- the log, line by line over a WebSocket -----------------------------------------------------------

const MOST_LINES = 10000;
const LONGEST_LINE = 4000;
const COLOURS = /\u001b(\[[0-?]*[ -/]*[@-~]|\][^\u0007\u001b]*(\u0007|\u001b\\))/g;
const PROGRESS_BAR = /\d{1,3}%\||it\/s|it\/sec|ETA|elapsed/i;

for (const log of document.querySelectorAll("[data-log]")) followLog(log);

function followLog(log) {
  const state = document.querySelector("[data-log-state]");
  const follow = document.querySelector("[data-log-follow]");
  const hideProgress = document.querySelector("[data-log-no-progress]");
  let lines = [];
  let waiting = [];
  let failures = 0;
  let isDrawn = true;

  const tell = (name) => {
    state.dataset.state = name;
    state.textContent = state.dataset[`${name}Text`] ?? "";
  };
  const cut = (line) => line.length <= LONGEST_LINE ? line : line.slice(0, LONGEST_LINE)
    + log.dataset.cut.replace("{number}", (line.length - LONGEST_LINE).toLocaleString("en"));
  const isShown = (line) => !(hideProgress.checked && PROGRESS_BAR.test(line));
  const toEnd = () => { if (follow.checked) log.scrollTop = log.scrollHeight; };
  const draw = () => {
    isDrawn = true;
    lines.push(...waiting);
    const text = waiting.filter(isShown).join("\n");
    waiting = [];
    if (lines.length > MOST_LINES * 1.2) {
      lines = lines.slice(-MOST_LINES);
      drawAll();
    } else if (text) {
      log.append((log.textContent ? "\n" : "") + text);
    }
    toEnd();
  };
  const drawAll = () => {
    log.textContent = lines.filter(isShown).join("\n");
    toEnd();
  };
  const connect = () => {
    const address = new URL(log.dataset.log, location.href);
    address.protocol = address.protocol.replace("http", "ws");
    const socket = new WebSocket(address);
    let isFirst = true;
    socket.onopen = () => { failures = 0; tell("live"); };
    socket.onmessage = ({ data }) => {
      if (isFirst) {  // the backlog replaces what the page came with, or what an earlier connection sent
        isFirst = false;
        [lines, waiting] = [[], []];
        log.textContent = "";
      }
      if (data.startsWith("[info] No logs available yet")) return;
      waiting.push(cut(data.replace(COLOURS, "")));
      if (isDrawn) {
        isDrawn = false;
        setTimeout(draw, 30);
      }
    };
    socket.onclose = ({ code }) => {
      if (code === 1000) return tell("over");  // an hour without a line, or the run is gone
      tell("lost");
      setTimeout(connect, Math.min(30000, 1000 * 2 ** failures++));
    };
  };
  hideProgress.addEventListener("change", drawAll);
  follow.addEventListener("change", toEnd);
  log.addEventListener("scroll", () => {
    follow.checked = log.scrollHeight - log.scrollTop - log.clientHeight < 24;
  });
  toEnd();
  connect();
}

// -- copying ----------------------------------------------------------------------------------------

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const source = document.getElementById(button.dataset.copy);
  const text = button.textContent;
  try {
    await navigator.clipboard.writeText(source.textContent);
    button.textContent = button.dataset.done;
    setTimeout(() => { button.textContent = text; }, 2000);
  } catch {  // no clipboard outside a secure context: select it, and the keyboard copies
    getSelection().selectAllChildren(source);
  }
});

// -- a drawing that is wider than its place begins with what it is about ---------------------------

for (const drawing of document.querySelectorAll(".drawing")) {
  const root = drawing.querySelector(".root");
  if (!root) continue;
  const [place, shown] = [root.getBoundingClientRect(), drawing.getBoundingClientRect()];
  drawing.scrollLeft += place.left + place.width / 2 - shown.left - shown.width / 2;
}
