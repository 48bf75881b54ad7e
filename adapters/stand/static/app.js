/* The stand: what is heard from the follower, and what the player wishes. */

import { Correction } from "./correct.js";
import { Link } from "./link.js";
import { Microphone } from "./sound.js";
import { Stand, make } from "./stand.js";

const AWAKE = 4000; // milliseconds for which the controls stay without a touch
const TOAST = 6000;
const LONG_TOAST = 15000;
const ECHO = 1500; // milliseconds within which a turn by hand comes back from the follower
const SETTLE = 0.25; // seconds of music for which a measure that does not follow must stay
const EDGE = 0.07; // of the stage's width, where a tap turns the page
const SWIPE = 50; // pixels

const byId = (id) => document.getElementById(id);
const audience = new URLSearchParams(location.search).get("view") === "audience";

const known = {
  link: "closed",
  state: "waiting",
  running: false,
  paused: false,
  position: null,
  sound: "computer",
  microphone: "off",
  trouble: false,
};

const stand = new Stand(byId("stage"));

// words

let said = "";
const say = (text) => {
  if (audience || text === said) return;
  said = text;
  byId("say").textContent = text;
};

let toastTimer = 0;
const toast = (text, action = null, time = TOAST) => {
  const [line, button] = byId("toast").children;
  line.textContent = text;
  button.hidden = !action;
  button.textContent = action?.text ?? "";
  button.onclick = () => {
    byId("toast").hidden = true;
    action.run();
  };
  byId("toast").hidden = false;
  say(text);
  const hide = () => {
    if (button.matches(":focus, :hover")) toastTimer = setTimeout(hide, time);
    else byId("toast").hidden = true;
  };
  clearTimeout(toastTimer);
  toastTimer = setTimeout(hide, time);
};

const printed = ({ label, number }) => label ?? String(number);
const measureName = (measure) => `measure ${printed(measure)}`;

/** The follower's state in a few words; `loud` where the player should know. */
const describe = () => {
  if (known.link === "refused") {
    return { text: "this address is no longer right: open the new one", loud: true };
  }
  if (known.link !== "open") return { text: "no connection, trying again", loud: true };
  if (known.trouble) return { text: "no microphone", loud: true };
  if (known.microphone === "asking") return { text: "may the microphone be used?", loud: true };
  if (known.microphone === "waiting") return { text: "not heard, trying again", loud: true };
  if (known.paused) return { text: "paused", loud: true };
  if (known.sound === "browser" && known.microphone === "off" && !known.heard) {
    return { text: "not listening yet", loud: false };
  }
  switch (known.state) {
    case "lost":
      return { text: "lost: tap the measure you are in", loud: true };
    case "unsure":
      return { text: "not sure", loud: true };
    case "ended":
      return { text: "ended", loud: false };
    case "tracking":
      return { text: current?.measure ? measureName(current.measure) : "following", loud: false };
    default:
      return { text: "waiting for the music", loud: false };
  }
};

const refresh = () => {
  const { text, loud } = describe();
  const pages = stand.visible;
  const of = `${pages.length > 1 ? "pages" : "page"} ${pages.join(", ")} of ${stand.pages.length}`;
  byId("page-of").textContent = pages.length ? of : "";
  byId("place").textContent = text;
  byId("word").textContent = text;
  const told = !audience || known.link !== "open";
  byId("word").classList.toggle("on", loud && told);
  const stopped = known.paused || !known.running;
  set("pause", stopped ? "play" : "pause", stopped ? "Go on" : "Pause");
};

const set = (id, icon, label, pressed = null) => {
  const button = byId(id);
  button.querySelector("use").setAttribute("href", `#icon-${icon}`);
  if (button.getAttribute("aria-label") !== label) button.setAttribute("aria-label", label);
  if (pressed !== null) button.setAttribute("aria-pressed", String(pressed));
};

// what the follower says

let current = null; // the place that is marked
let landing = null; // a place that does not follow, and since when
let announced = null;
const turns = []; // pages turned by hand that the follower has not confirmed

const turn = (page, half = false) => {
  if (correction.open) {
    correction.after = page;
    return;
  }
  if (page === stand.page && half === stand.half) return;
  stand.show(page, half);
  if (!half) say(`Page ${stand.visible.join(" and ")}`);
};

const forget = () => {
  current = null;
  landing = null;
  stand.mark(null);
};

const sureness = (confidence) => 0.4 + 0.2 * Math.round(3 * confidence);

const locate = (position) => {
  known.position = position;
  known.state = position.state;
  const place = position.state === "tracking" ? stand.find(position) : null;
  if (!place) return forget();
  const number = place.measure?.number;
  const before = current?.measure?.number;
  const goesOn = [before, number].includes(undefined) || [0, 1].includes(number - before);
  if (!goesOn && landing?.number !== number) landing = { number, since: position.time };
  if (!goesOn && position.time - landing.since < SETTLE) return;
  landing = null;
  current = place;
  stand.mark(place, sureness(position.confidence));
  announce(place);
};

/** Once a system, so that it does not chatter. */
const announce = ({ page, system, measure }) => {
  const key = `${page} ${system.top}`;
  if (key === announced) return;
  announced = key;
  if (measure) say(`Measure ${printed(measure)}`);
};

const hear = (message) => {
  switch (message.type) {
    case "hello":
      Object.assign(known, { paused: message.paused, running: message.running });
      known.state = message.state ?? "waiting";
      known.position = null;
      announced = null;
      forget();
      if (!turns.length) turn(message.shown ?? 1);
      if (message.position) locate(message.position);
      if (message.level) level(message.level);
      break;
    case "position":
      known.running = true;
      locate(message);
      break;
    case "page_turn":
      if (!turns.length) turn(message.page, message.half);
      break;
    case "jump":
      landing = null;
      current = null;
      break;
    case "state":
      known.state = message.state;
      if (message.state === "ended") known.running = false;
      if (message.state !== "tracking") forget();
      if (message.state === "lost") say("Lost");
      break;
    case "control":
      obeyed(message);
      break;
    case "level":
      level(message);
      return;
    case "layout":
      stand.read(message.layout);
      correction.read(message.layout);
      break;
    case "error":
      turns.length = 0;
      toast(message.error);
      break;
  }
  refresh();
};

const obeyed = ({ action, page }) => {
  if (action === "pause" || action === "resume") known.paused = action === "pause";
  if (action === "stop") known.running = false;
  if (action === "reset") {
    known.running = true;
    known.state = "waiting";
    announced = null;
  }
  if (action === "reset" || action === "goto") forget();
  if (action === "show") {
    if (turns[0] === page) turns.shift();
    if (!turns.length) turn(page);
  }
};

const level = ({ rms, peak }) => {
  known.heard = peak > 0;
  const decibels = (value) => Math.max(-60, 20 * Math.log10(Math.max(value, 1e-3)));
  const meter = byId("level");
  meter.style.setProperty("--rms", (decibels(rms) + 60) / 60);
  meter.style.setProperty("--peak", (decibels(peak) + 60) / 60);
  meter.classList.toggle("clips", peak >= 0.99);
  meter.setAttribute("aria-valuenow", String(6 * Math.round(decibels(rms) / 6)));
};

// what the player wishes

const link = new Link({
  hear,
  score(score) {
    document.title = score.title;
    byId("title").textContent = score.title;
    known.sound = score.sound;
    byId("listen").hidden = score.sound !== "browser";
    byId("bar").classList.toggle("browser", score.sound === "browser");
    byId("correct").hidden = score.can?.correct === false;
    byId("invite").hidden = !score.address;
    byId("address").textContent = score.address ?? "";
    stand.open(score);
    refresh();
    if (location.hash === "#correct" && !byId("correct").hidden) {
      history.replaceState(null, "", location.pathname + location.search);
      byId("correct").click();
    }
  },
  change(state) {
    if (known.link !== "open" && state === "open" && known.met) say("Connected again");
    if (known.link === "open" && state !== "open") {
      say("The connection is lost; trying again");
      forget();
    }
    known.met = known.met || state === "open";
    known.link = state;
    refresh();
  },
});

const wish = (what) => {
  if (audience) return false;
  const sent = link.send(what);
  if (!sent) toast("There is no connection to the follower; it is tried again.");
  return sent;
};

const turnByHand = (page) => {
  if (audience || page === stand.page && !stand.half) return;
  stand.show(page);
  say(`Page ${stand.visible.join(" and ")}`);
  if (known.running && link.send({ do: "show", page })) {
    turns.push(page);
    setTimeout(() => turns[0] === page && turns.shift(), ECHO);
  }
};

const turnBy = (direction) => turnByHand(stand.beside(direction));

const goTo = ({ measure }) => {
  const before = known.state === "tracking" ? known.position?.measure : null;
  if (!wish({ do: "goto", measure: measure.number })) return;
  const back = () => wish({ do: "goto", measure: before });
  toast(`Going on from ${measureName(measure)}`, before && { text: "Undo", run: back });
};

const playOrPause = () => {
  if (!known.running) return wish({ do: "start" });
  wish({ do: known.paused ? "resume" : "pause" });
};

const measures = () => [...stand.systems.values()].flat().flatMap((system) => system.measures);

const askMeasure = () => {
  const all = measures();
  if (!all.length) return toast("No measures are read yet.");
  byId("measure").value = printed(current?.measure ?? all[0]);
  byId("ask-help").textContent = all.some(({ label }) => label)
    ? "As it is numbered in the score."
    : `1 to ${all.length}, counted from the first page.`;
  byId("ask").returnValue = "";
  byId("ask").showModal();
  byId("measure").select();
};

/** Of several movements, the measure that is nearest. */
byId("ask").addEventListener("close", () => {
  if (byId("ask").returnValue !== "go") return;
  const name = byId("measure").value.trim();
  const shown = stand.systems.get(stand.page)?.[0]?.measures[0];
  const here = (current?.measure ?? shown ?? measures()[0]).number;
  const away = ({ number }) => Math.abs(number - here);
  const named = measures().filter((one) => printed(one) === name);
  const [measure] = named.sort((a, b) => away(a) - away(b));
  if (measure) goTo({ measure });
  else toast(`There is no measure ${name} on the pages that are read.`);
});

byId("cancel").onclick = () => byId("ask").close();
byId("previous").onclick = () => turnBy(-1);
byId("next").onclick = () => turnBy(1);
byId("pause").onclick = playOrPause;
byId("again").onclick = () => {
  if (wish({ do: known.running ? "reset" : "start" })) toast("Begins again");
};
byId("goto").onclick = askMeasure;

byId("invite").onclick = () => {
  byId("code").src = "/address.svg";
  byId("invitation").showModal();
};
byId("invited").onclick = () => byId("invitation").close();

// the microphone of this device

const microphone = new Microphone((state, reason) => {
  known.microphone = state;
  known.trouble = Boolean(reason);
  if (state === "off") known.heard = false;
  if (reason) toast(reason, null, LONG_TOAST);
  const button = byId("listen");
  button.setAttribute("aria-pressed", String(state !== "off"));
  button.lastElementChild.textContent = state === "off" ? "Listen" : "Listening";
  button.title = state === "off" ? "Listen with this device's microphone" : "Stop the microphone";
  stayOn();
  refresh();
});

byId("listen").onclick = () => (microphone.wanted ? microphone.stop() : microphone.start());

// how it looks

const darkness = matchMedia("(prefers-color-scheme: dark)");
const remembered = () => {
  try {
    return localStorage.getItem("stand-theme");
  } catch {
    return null;
  }
};
const paint = (theme = remembered() ?? (darkness.matches ? "dark" : "light")) => {
  document.documentElement.dataset.theme = theme;
  const dark = theme === "dark";
  set("dark", dark ? "light" : "dark", "Dark pages", dark);
  document.querySelector("meta[name=theme-color]").content = dark ? "#191816" : "#ece6da";
};
const changeTheme = () => {
  const theme = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
  try {
    localStorage.setItem("stand-theme", theme);
  } catch {
    // private windows forget it
  }
  paint(theme);
};
darkness.addEventListener("change", () => paint());
byId("dark").onclick = changeTheme;
paint();

const changeScreen = () => {
  const done = document.fullscreenElement
    ? document.exitFullscreen()
    : document.documentElement.requestFullscreen();
  done?.catch?.(() => toast("The browser does not allow full screen here."));
};
byId("full").hidden = !document.fullscreenEnabled;
byId("full").onclick = changeScreen;
document.addEventListener("fullscreenchange", () => {
  const full = Boolean(document.fullscreenElement);
  set("full", full ? "small" : "full", "Full screen", full);
});

let wakeLock = null;
const stayOn = async () => {
  if (document.hidden || (wakeLock && !wakeLock.released)) return;
  try {
    wakeLock = (await navigator.wakeLock?.request("screen")) ?? null;
  } catch {
    wakeLock = null; // as on a nearly empty battery: the screen may go dark
  }
};
document.addEventListener("visibilitychange", stayOn);
addEventListener("pointerdown", stayOn);
stayOn();

/** Browsers keep the screen on for pages over https only. */
const mayGoDark = () => !isSecureContext && matchMedia("(pointer: coarse)").matches;

// the controls go to sleep while music is followed

let sleepTimer = 0;
const wake = () => {
  if (audience) return;
  document.body.classList.add("awake");
  clearTimeout(sleepTimer);
  sleepTimer = setTimeout(sleep, AWAKE);
};
const sleep = () => {
  const busy = correction.open || byId("ask").open || byId("bar").querySelector(":focus-visible");
  const playing = known.link === "open" && known.running && !known.paused;
  if (playing && !busy && ["tracking", "unsure", "lost"].includes(known.state)) {
    document.body.classList.remove("awake");
    stand.point(null);
  } else {
    sleepTimer = setTimeout(sleep, AWAKE);
  }
};
document.body.classList.toggle("awake", !audience);
document.body.classList.toggle("audience", audience);
for (const kind of ["pointermove", "focusin"]) addEventListener(kind, wake);

// touch, mouse and keys

const correction = new Correction(stand, {
  tell: toast,
  done(page) {
    document.body.classList.remove("correcting");
    stand.show(page ?? stand.page);
    wake();
    byId("correct").focus();
    refresh();
  },
});
stand.onshow = () => {
  correction.draw();
  refresh();
};
byId("correct").onclick = () => {
  byId("toast").hidden = true;
  document.body.classList.add("correcting");
  correction.begin();
};

const stage = byId("stage");
let press = null;
stage.addEventListener("pointerdown", (event) => {
  const { clientX: x, clientY: y, timeStamp: time } = event;
  press = event.isPrimary && event.button === 0 ? { x, y, time } : null;
});
stage.addEventListener("pointercancel", () => (press = null));
stage.addEventListener("pointerup", (event) => {
  if (!press || !event.isPrimary || correction.open || audience) return;
  const { x, y, time } = press;
  press = null;
  const across = event.clientX - x;
  const down = event.clientY - y;
  if (Math.hypot(across, down) < 10) {
    if (event.timeStamp - time < 600) tap(event);
    return;
  }
  const flat = Math.abs(across) > Math.max(SWIPE, 1.5 * Math.abs(down));
  if (flat && !stand.zoomed && event.pointerType !== "mouse") turnBy(across < 0 ? 1 : -1);
});
stage.addEventListener("pointermove", (event) => {
  if (event.pointerType === "mouse" && !correction.open && !audience) {
    stand.point(isEdge(event) ? null : stand.hit(event.clientX, event.clientY));
  }
});
stage.addEventListener("pointerleave", () => stand.point(null));

const isEdge = ({ clientX }) => {
  const edge = EDGE * stage.clientWidth;
  return !stand.zoomed && (clientX < edge || clientX > stage.clientWidth - edge);
};

const tap = (event) => {
  const awake = document.body.classList.contains("awake");
  wake();
  if (isEdge(event)) return turnBy(event.clientX < stage.clientWidth / 2 ? -1 : 1);
  const place = stand.hit(event.clientX, event.clientY);
  if (place?.measure) return goTo(place);
  if (awake && event.pointerType !== "mouse") sleep();
};

const KEYS = {
  ArrowRight: () => turnBy(1),
  PageDown: () => turnBy(1),
  " ": (event) => turnBy(event.shiftKey ? -1 : 1),
  ArrowLeft: () => turnBy(-1),
  PageUp: () => turnBy(-1),
  Home: () => turnByHand(1),
  End: () => turnByHand(stand.pages.length),
  p: playOrPause,
  g: askMeasure,
  d: changeTheme,
  f: () => document.fullscreenEnabled && changeScreen(),
};
addEventListener("keydown", (event) => {
  const { target, key } = event;
  if (event.ctrlKey || event.altKey || event.metaKey || event.defaultPrevented) return;
  if (audience && !["d", "f"].includes(key)) return;
  if (target.closest("input, dialog") || (key === " " && target.closest("button"))) return;
  const act = KEYS[key];
  if (!act || (correction.open && !/^(Arrow|Page)/.test(key))) return;
  event.preventDefault();
  if (correction.open) stand.show(stand.beside(/Right|Down/.test(key) ? 1 : -1));
  else act(event);
});

wake();
link.connect();
if (mayGoDark() && !audience) {
  toast(
    "The screen may go dark while you play: have the device keep it on, or start the stand " +
      "with --tls.",
    null,
    LONG_TOAST,
  );
}
