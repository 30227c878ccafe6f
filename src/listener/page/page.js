"use strict";
// The page: shows what GET /api/v1/pdus says, and acts by PUT and POST. All text that comes from
// the daemon goes through textContent.

const POLL = 2000;        // milliseconds between two looks
const REFRESH = 20;       // seconds after which a state is read again while the page is seen
const FOLLOW = 20;        // seconds of one long poll
const byId = (id) => document.getElementById(id);

const make = (tag, className, text) => {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
};
/** Changes only what is different: focus and selection stay. */
const say = (node, text) => { if (node.textContent !== text) node.textContent = text; };
const show = (node, is) => { if (node.hidden === is) node.hidden = !is; };
const style = (node, name) => { if (node.className !== name) node.className = name; };

// ---- the API -----------------------------------------------------------------------------------

class Problem extends Error {
  constructor(status, body) {
    super((body && (body.detail || body.title)) || `the daemon answered ${status}`);
    this.status = status;
  }
}

async function api(method, path, body) {
  const headers = {};
  const token = sessionStorage.getItem("token");
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body) headers["Content-Type"] = "application/json";
  const options = { method, headers, cache: "no-store", body: body && JSON.stringify(body) };
  const response = await fetch(`api/v1/${path}`, options);
  const json = await response.json().catch(() => null);
  if (response.status === 401) {
    const known = token && token === sessionStorage.getItem("token");
    await login(known ? "The daemon does not know this token, or no longer accepts it." : null);
    return api(method, path, body);
  }
  if (!response.ok) throw new Problem(response.status, json);
  return json;
}

let asking = null;
/** Asks for a token, once however many calls want one. */
function login(why) {
  asking ??= new Promise((resolve) => {
    if (why) say(byId("login-text"), why);
    const dialog = byId("login");
    dialog.addEventListener("cancel", (event) => event.preventDefault());
    dialog.addEventListener("close", () => {
      sessionStorage.setItem("token", byId("token").value.trim());
      show(byId("forget"), true);
      byId("token").value = "";
      asking = null;
      resolve();
    }, { once: true });
    dialog.showModal();
  });
  return asking;
}

// ---- PDUs and outlets --------------------------------------------------------------------------

const cards = new Map();

function card(name) {
  let parts = cards.get(name);
  if (parts) return parts;
  const root = make("article");
  const head = make("div", "head");
  const title = make("div", "title");
  parts = {
    root, outlets: new Map(),
    heading: make("h2", "", name), waiting: make("span", "chip busy"), reach: make("span", "chip"),
    about: make("p", "about"), error: make("p", "error"), count: make("p", "about", "outlets: not known yet"), list: make("ul"),
  };
  title.append(parts.heading, parts.waiting, parts.reach);
  head.append(title, parts.about, parts.error);
  root.append(head, parts.count, parts.list);
  root.setAttribute("aria-label", `PDU ${name}`);
  cards.set(name, parts);
  return parts;
}

function row(parts, pdu, outlet) {
  let line = parts.outlets.get(outlet);
  if (line) return line;
  const root = make("li", "outlet");
  const name = make("span", "name");
  const actions = make("span", "actions");
  line = { root, state: make("span", "state"), label: make("span", "label"), result: make("div", "result"), buttons: {}, busy: false };
  name.append(make("span", "id", outlet), line.label);
  for (const [command, text] of [["on", "On"], ["off", "Off"], ["reboot", "Reboot"]]) {
    const button = make("button", "", text);
    button.type = "button";
    button.setAttribute("aria-label", `${text}: ${pdu} outlet ${outlet}`);
    button.addEventListener("click", () => {
      if (!line.busy) ask(line, pdu, outlet, command, button);
    });
    line.buttons[command] = button;
    actions.append(button);
  }
  line.result.setAttribute("aria-live", "polite");
  line.result.hidden = true;
  root.append(line.state, name, actions, line.result);
  parts.outlets.set(outlet, line);
  parts.list.append(root);
  return line;
}

const ago = (seconds) => {
  if (seconds < 2) return "just now";
  if (seconds < 60) return `${Math.round(seconds)} s ago`;
  if (seconds < 3600) return `${Math.round(seconds / 60)} min ago`;
  if (seconds < 86400) return `${Math.round(seconds / 3600)} h ago`;
  return `${Math.round(seconds / 86400)} days ago`;
};
const lasting = (seconds) => (seconds < 1 ? `${Math.round(seconds * 1000)} ms` : `${seconds.toFixed(1)} s`);
const since = (at) => ago(Math.max(0, (Date.now() - Date.parse(at)) / 1000));

function draw(pdus) {
  const seen = new Set(pdus.map((pdu) => pdu.name));
  for (const [name, parts] of cards) {
    if (!seen.has(name)) { parts.root.remove(); cards.delete(name); }
  }
  let before = null;
  for (const pdu of pdus) {
    const parts = card(pdu.name);
    if (parts.root.parentNode === null) {
      if (before) before.after(parts.root); else byId("pdus").prepend(parts.root);
    }
    before = parts.root;
    say(parts.about, pdu.about ? `${pdu.about} · ${pdu.driver}` : pdu.driver);
    show(parts.waiting, pdu.waiting > 0);
    say(parts.waiting, `${pdu.waiting} waiting`);
    const away = pdu.reachable === false;
    const bad = away || !pdu.served;
    style(parts.reach, `chip ${bad ? "bad" : pdu.reachable ? "good" : ""}`);
    say(parts.reach, !pdu.served ? "not served" : away ? `not reachable${pdu.last_error ? ` (outlet ${pdu.last_error.outlet})` : ""}` : pdu.reachable ? "reachable" : "not asked yet");
    parts.reach.title = pdu.since ? `since ${new Date(pdu.since).toLocaleString()}` : "";
    const recent = pdu.last_error && (away || Date.now() - Date.parse(pdu.last_error.at) < 600000);
    show(parts.error, Boolean(pdu.broken || recent));
    style(parts.error, bad || pdu.broken ? "error" : "error past");
    if (pdu.broken) {
      say(parts.error, `${pdu.served ? "It goes on with the settings that it had; the new ones" : "Its settings"} cannot work: ${pdu.broken}`);
    } else if (recent) say(parts.error, `${pdu.last_error.text} (${since(pdu.last_error.at)})`);
    show(parts.count, pdu.outlet_count === null && pdu.outlets.length === 0);
    parts.words = `${pdu.name} ${pdu.about || ""} ${pdu.driver}`.toLowerCase();
    const outlets = new Set(pdu.outlets.map((outlet) => outlet.outlet));
    for (const [id, line] of parts.outlets) {
      if (!outlets.has(id)) { line.root.remove(); parts.outlets.delete(id); }
    }
    let last = null;
    for (const outlet of pdu.outlets) {
      const line = row(parts, pdu.name, outlet.outlet);
      if (last ? last.nextSibling !== line.root : parts.list.firstChild !== line.root) {
        if (last) last.after(line.root); else parts.list.prepend(line.root);
      }
      last = line.root;
      style(line.state, `state ${outlet.state || "none"}`);
      say(line.state, outlet.state || "not known");
      line.state.title = outlet.state === null ? "not read yet"
        : `${outlet.detail ? `${outlet.detail}; ` : ""}${outlet.source} ${ago(outlet.age)}`;
      say(line.label, outlet.name || "");
      line.words = `${outlet.outlet} ${outlet.name || ""}`.toLowerCase();
    }
  }
  search();
  const count = pdus.length === 1 ? "1 PDU" : `${pdus.length} PDUs`;
  const away = pdus.filter((pdu) => pdu.reachable === false).length;
  const broken = pdus.filter((pdu) => pdu.broken).length;
  const outlets = pdus.flatMap((pdu) => pdu.outlets);
  const on = outlets.filter((outlet) => outlet.state === "on").length;
  const waiting = pdus.reduce((sum, pdu) => sum + pdu.waiting, 0);
  say(byId("summary"), `${count}, ${on} of ${outlets.length} outlets on`
    + (away ? `, ${away} not reachable` : "") + (broken ? `, ${broken} with broken settings` : "") + (waiting ? `, ${waiting} waiting` : ""));
}

function search() {
  const words = byId("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  let any = words.length === 0;
  for (const parts of cards.values()) {
    let some = parts.outlets.size === 0 && words.every((word) => parts.words.includes(word));
    for (const line of parts.outlets.values()) {
      const matches = words.every((word) => parts.words.includes(word) || line.words.includes(word));
      show(line.root, matches);
      some ||= matches;
    }
    show(parts.root, some || words.length === 0);
    any ||= some;
  }
  show(byId("nothing"), !any);
}

// ---- acting ------------------------------------------------------------------------------------

const PLAIN = { on: "Switch on", off: "Switch off", reboot: "Reboot" };

function ask(line, pdu, outlet, command, button) {
  const dialog = byId("confirm");
  const name = line.label.textContent;
  say(byId("confirm-title"), `${PLAIN[command]} outlet ${outlet} of ${pdu}?`);
  const texts = {
    on: "Power will flow.",
    off: "The device at this outlet loses its power.",
    reboot: "The device at this outlet loses its power for a while.",
  };
  say(byId("confirm-text"), (name ? `This is “${name}”. ` : "") + texts[command]);
  show(byId("delay-row"), command === "reboot");
  byId("delay").value = "5";
  byId("delay").disabled = command !== "reboot";
  const yes = byId("confirm-yes");
  say(yes, PLAIN[command]);
  style(yes, command === "on" ? "primary" : "primary danger");
  dialog.returnValue = "no";
  dialog.onclose = () => {
    button.focus();
    if (dialog.returnValue === "yes") act(line, pdu, outlet, command, byId("delay").valueAsNumber);
  };
  dialog.showModal();
  yes.focus();
}

async function act(line, pdu, outlet, command, delay) {
  const path = `pdus/${encodeURIComponent(pdu)}/outlets/${encodeURIComponent(outlet)}`;
  const began = Date.now();
  const pause = Number.isFinite(delay) ? delay : 5;
  // Not `disabled`: the button that was pressed would lose the focus.
  const setBusy = (is) => {
    line.busy = is;
    for (const button of Object.values(line.buttons)) button.setAttribute("aria-disabled", is);
  };
  setBusy(true);
  const bar = make("progress");
  const text = make("span");
  line.result.replaceChildren(text, bar);
  line.result.className = "result busy";
  line.result.hidden = false;
  let progress = "waiting";
  const tick = () => {
    const took = (Date.now() - began) / 1000;
    const doing = { on: "switching on", off: "switching off", reboot: "rebooting" }[command];
    say(text, `${progress === "waiting" ? "waiting" : doing}, ${Math.floor(took)} s`);
    if (command === "reboot" && progress === "running" && took < pause) {
      bar.max = pause;
      bar.value = took;
    } else {
      bar.removeAttribute("value");
    }
  };
  tick();
  const ticking = setInterval(tick, 250);
  try {
    let request = command === "reboot"
      ? await api("POST", `${path}/reboot?wait=false`, { delay: pause })
      : await api("PUT", `${path}/state?wait=false`, { state: command });
    // The first looks are short: they tell waiting from running.
    for (let wait = 0; request.progress !== "ended"; wait = Math.min(wait * 2 || 1, FOLLOW)) {
      request = await api("GET", `requests/${request.id}?wait=${wait}`);
      progress = request.progress;
    }
    const done = { on: "switched on", off: "switched off", reboot: "rebooted" }[command];
    if (request.ok) {
      const doubt = request.unconfirmed ? ", unconfirmed" : "";
      finish(line, "good", `✓ ${done}${doubt} in ${lasting(request.took)}`);
    } else {
      // The row says which outlet it is.
      const about = `PDU ${pdu}, outlet ${outlet}: ${command}: `;
      const why = request.problem ? request.problem.detail : "failed";
      finish(line, "bad", `✗ ${why.startsWith(about) ? why.slice(about.length) : why}`);
    }
  } catch (error) {
    finish(line, "bad", `✗ ${error.message}`);
  } finally {
    clearInterval(ticking);
    setBusy(false);
    look();
  }
}

function finish(line, kind, text) {
  line.result.replaceChildren(document.createTextNode(text));
  line.result.className = `result ${kind}`;
}

// ---- requests ----------------------------------------------------------------------------------

function drawRequests(requests) {
  show(byId("no-requests"), requests.length === 0);
  byId("requests").replaceChildren(...requests.map((request) => {
    const { pdu, outlet, alias } = request.target;
    const item = make("li");
    const line = make("div", "line");
    const mark = request.progress !== "ended" ? ["busy", request.progress]
      : request.ok ? ["good", request.state || "done"] : ["bad", "failed"];
    line.append(make("span", "", `${alias ?? `${pdu} ${outlet}`} ${request.command}`), make("span", `mark ${mark[0]}`, mark[1]));
    item.append(line);
    const took = request.took === undefined ? "" : `, took ${lasting(request.took)}`;
    item.append(make("div", "quiet", `${new Date(request.submitted).toLocaleTimeString()} by ${request.client}${took}`));
    if (request.problem) item.append(make("div", "error", request.problem.detail));
    if (request.progress === "waiting") {
      const button = make("button", "", "Cancel");
      button.type = "button";
      button.setAttribute("aria-label", `Cancel request ${request.id}`);
      button.addEventListener("click", async () => {
        button.disabled = true;
        await api("DELETE", `requests/${request.id}`).catch((error) => notice(error.message));
        look();
      });
      item.append(button);
    }
    return item;
  }));
}

// ---- looking -----------------------------------------------------------------------------------

function notice(text) {
  say(byId("notice"), text || "");
  show(byId("notice"), Boolean(text));
}

let timer = null;
let looking = false;
let lastRequests = "";

async function look() {
  clearTimeout(timer);
  if (looking) return;
  looking = true;
  try {
    const [{ pdus }, { requests }] = await Promise.all([
      api("GET", `pdus?refresh=${REFRESH}`),
      api("GET", "requests?limit=20"),
    ]);
    draw(pdus);
    const text = JSON.stringify(requests);
    // Left alone while nothing changes, or a key is on one of its buttons.
    if (text !== lastRequests && !byId("requests").contains(document.activeElement)) {
      drawRequests(requests);
      lastRequests = text;
    }
    notice(null);
  } catch (error) {
    notice(error instanceof Problem ? error.message : "The daemon does not answer. The page may show old states.");
  } finally {
    looking = false;
    if (!document.hidden) timer = setTimeout(look, POLL);
  }
}

document.addEventListener("visibilitychange", () => { if (!document.hidden) look(); });
byId("search").addEventListener("input", search);
// No submit button: Enter in the field beside it would press the first of those.
byId("confirm-no").addEventListener("click", () => byId("confirm").close("no"));
show(byId("forget"), sessionStorage.getItem("token") !== null);
byId("forget").addEventListener("click", () => {
  sessionStorage.removeItem("token");
  location.reload();
});
document.addEventListener("keydown", (event) => {
  const busy = event.target.closest && event.target.closest("input, dialog");
  if (event.key === "/" && !busy && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    byId("search").focus();
  } else if (event.key === "Escape" && event.target === byId("search")) {
    byId("search").value = "";
    search();
  }
});
look();
