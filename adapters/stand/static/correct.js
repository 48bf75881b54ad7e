/* Correcting by hand where systems and measures were found. */

import { cover, make } from "./stand.js";

const NUDGE = 0.002; // of the page, by an arrow key
const NARROWEST = 0.01; // measure, as a fraction of the page
const HEIGHT = 0.07; // of a new system, where the score has none to go by
const ADVICE = "Tap a bar line, a place in a measure, or an empty place on the page.";

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const round = (value) => Math.round(value * 1e5) / 1e5;
const middle = ({ top, bottom }) => (top + bottom) / 2;

/** The measure at new edges; its onsets move with it. */
const stretch = (measure, left, right) => {
  const scale = (right - left) / (measure.right - measure.left);
  const moved = { ...measure, left: round(left), right: round(right) };
  if (measure.onsets) {
    const to = (x) => round(left + (x - measure.left) * scale);
    moved.onsets = measure.onsets.map(([x, beat]) => [to(x), beat]);
  }
  return moved;
};

const AT_BEGINNING = ["segno", "coda"]; // signs that stand where a measure begins

const signsOf = (measure, atBeginning) =>
  (measure.signs ?? []).filter((sign) => AT_BEGINNING.includes(sign) === atBeginning);

/** Without what is known of its notes, which no longer fit. */
const bare = ({ onsets, notes, ...measure }) => measure;

const plain = (left, right) => ({
  number: 0,
  label: null,
  left: round(left),
  right: round(right),
  repeat_start: false,
  repeat_end: false,
  volta: null,
});

const numbered = (layout) => {
  let number = 0;
  for (const page of layout.pages) {
    page.systems.sort((a, b) => middle(a) - middle(b));
    for (const system of page.systems) {
      for (const measure of system.measures) measure.number = number += 1;
    }
  }
  return layout;
};

const systemsOf = (layout, page) => {
  let found = layout.pages.find((one) => one.page === page);
  if (!found) {
    found = { page, systems: [] };
    layout.pages.push(found);
    layout.pages.sort((a, b) => a.page - b.page);
  }
  return found.systems;
};

const barName = (before, after) =>
  before ? `Bar line after measure ${before.number}` : `Left edge of measure ${after.number}`;

export class Correction {
  /** `done(page)` when it is over, `page` where the music has turned to meanwhile; `tell(text)`. */
  constructor(stand, { done, tell }) {
    Object.assign(this, { stand, done, tell });
    this.open = false;
    this.byId = (id) => document.getElementById(id);
    this.byId("undo").onclick = () => this.undo();
    this.byId("leave").onclick = () => this.leave();
    this.byId("save").onclick = () => this.save();
    this.byId("correct-previous").onclick = () => stand.show(stand.beside(-1));
    this.byId("correct-next").onclick = () => stand.show(stand.beside(1));
    stand.stage.addEventListener("click", (event) => this.choosePlace(event));
    addEventListener("keydown", (event) => this.key(event));
  }

  /** With what was corrected last, whether or not it is in use yet. */
  async begin() {
    if (this.open) return;
    this.open = true;
    this.after = null;
    this.leaving = false;
    this.history = [];
    this.draft = { pages: [] };
    this.joined = null;
    try {
      const answer = await fetch("/api/layout", { cache: "no-store" });
      if (!answer.ok) throw new Error(`the server answers ${answer.status}`);
      this.draft = numbered(await answer.json());
    } catch (error) {
      this.tell(`The measures cannot be corrected now: ${error.message}`);
      return this.end();
    }
    if (!this.open) return;
    const read = this.draft.pages.filter(({ systems }) => systems.length);
    this.joined = new Set(read.map(({ page }) => page));
    this.read(this.stand.layout);
    this.byId("correction").hidden = false;
    this.stand.show(this.stand.page);
    this.choose(null);
    this.stand.stage.focus();
  }

  end() {
    this.open = false;
    this.chosen = null;
    this.byId("correction").hidden = true;
    this.draw();
    this.done(this.after);
  }

  leave() {
    if (this.history.length && !this.leaving) {
      this.leaving = true;
      this.tell("What was corrected is not saved. Leave again to forget it.");
      return;
    }
    this.end();
  }

  /** More pages were read meanwhile: they join the draft. */
  read(layout) {
    if (!this.open || !this.joined) return;
    for (const { page, systems } of layout.pages) {
      if (!systems.length || this.joined.has(page)) continue;
      this.joined.add(page);
      for (const draft of [this.draft, ...this.history]) {
        const mine = systemsOf(draft, page);
        if (!mine.length) mine.push(...structuredClone(systems));
        numbered(draft);
      }
    }
    this.draw();
  }

  async save() {
    if (!this.history.length) return this.end();
    const button = this.byId("save");
    button.disabled = true;
    const known = ({ page, systems }) => systems.length || this.joined.has(page);
    const layout = { ...this.draft, pages: this.draft.pages.filter(known) };
    try {
      const answer = await fetch("/api/layout", {
        method: "PUT",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify(layout),
      });
      const told = await answer.json().catch(() => ({}));
      if (!answer.ok) throw new Error(told.error ?? `the server answers ${answer.status}`);
      this.tell(`Saved as ${told.kept}; used ${told.used ?? "next time"}`);
      this.end();
    } catch (error) {
      this.tell(`Not saved: ${error.message}`);
    } finally {
      button.disabled = false;
    }
  }

  // changes

  remember() {
    this.history.push(structuredClone(this.draft));
    this.leaving = false;
  }

  undo() {
    const before = this.history.pop();
    if (!before) return;
    this.draft = before;
    this.choose(null);
  }

  change(act) {
    this.remember();
    act();
    numbered(this.draft);
    this.choose(null);
  }

  systems(page) {
    return systemsOf(this.draft, page);
  }

  /** Moves a bar line; `index` counts from 0, the left edge of the system. */
  moveBar(system, index, x) {
    const { measures } = system;
    const before = measures[index - 1];
    const after = measures[index];
    const low = before ? before.left + NARROWEST : 0;
    const high = after ? after.right - NARROWEST : 1;
    const to = clamp(x, low, high);
    if (!before) system.left = round(to);
    if (!after) system.right = round(to);
    if (before) measures[index - 1] = stretch(before, before.left, to);
    if (after) measures[index] = stretch(after, to, after.right);
  }

  moveEdge(system, edge, y) {
    if (edge === "top") system.top = round(clamp(y, 0, system.bottom - NARROWEST));
    else system.bottom = round(clamp(y, system.top + NARROWEST, 1));
  }

  addBar({ system, measure, x }) {
    const { measures } = system;
    if (!measure) {
      measures.push(plain(system.left, x), plain(x, system.right));
      return;
    }
    const at = measures.indexOf(measure);
    const left = { ...bare(measure), right: round(x), repeat_end: false };
    const right = { ...bare(measure), left: round(x), repeat_start: false, label: null };
    left.signs = signsOf(measure, true);
    right.signs = signsOf(measure, false);
    measures.splice(at, 1, left, right);
  }

  removeBar(system, index) {
    const { measures } = system;
    const before = measures[index - 1];
    const after = measures[index];
    if (!before || !after) measures.splice(before ? index - 1 : 0, 1);
    else {
      const joined = { ...bare(before), right: after.right, repeat_end: after.repeat_end };
      joined.signs = [...signsOf(before, true), ...signsOf(after, false)];
      measures.splice(index - 1, 2, joined);
    }
    if (measures.length) {
      system.left = measures[0].left;
      system.right = measures.at(-1).right;
    }
  }

  addSystem({ page, y }) {
    const all = this.draft.pages.flatMap((one) => one.systems);
    const heights = all.map(({ top, bottom }) => bottom - top).sort((a, b) => a - b);
    const height = heights[heights.length >> 1] ?? HEIGHT;
    const left = all.length ? Math.min(...all.map((one) => one.left)) : 0.08;
    const right = all.length ? Math.max(...all.map((one) => one.right)) : 0.92;
    const top = clamp(y - height / 2, 0, 1 - height);
    this.systems(page).push({
      top: round(top),
      bottom: round(top + height),
      left,
      right,
      measures: [plain(left, right)],
    });
  }

  removeSystem({ page, system }) {
    const systems = this.systems(page);
    systems.splice(systems.indexOf(system), 1);
  }

  // what is chosen

  choosePlace(event) {
    if (!this.open || event.target.closest("button")) return;
    const { stand } = this;
    const kept = stand.systems;
    stand.systems = new Map(this.draft.pages.map(({ page, systems }) => [page, systems]));
    const place = stand.hit(event.clientX, event.clientY);
    stand.systems = kept;
    this.choose(place && { kind: place.system ? "place" : "empty", ...place });
  }

  choose(chosen) {
    this.chosen = chosen;
    this.draw();
    const actions = [];
    let advice = ADVICE;
    if (chosen?.kind === "bar") {
      const { system, index } = chosen;
      const before = system.measures[index - 1];
      const after = system.measures[index];
      const sign = (measure, name, text) =>
        actions.push({
          text,
          pressed: measure[name],
          run: () => {
            this.remember();
            measure[name] = !measure[name];
            this.choose(chosen);
          },
        });
      advice = barName(before, after);
      if (before) sign(before, "repeat_end", "Repeat ends");
      if (after) sign(after, "repeat_start", "Repeat begins");
      actions.push({ text: "Delete", run: () => this.change(() => this.removeBar(system, index)) });
    } else if (chosen?.kind === "place") {
      const { measure, system } = chosen;
      advice = measure ? `In measure ${measure.number}` : "A system without measures here";
      if (measure || !system.measures.length) {
        actions.push({ text: "Add a bar line", run: () => this.change(() => this.addBar(chosen)) });
      }
      if (measure) {
        for (const volta of ["1", "2"]) {
          actions.push({
            text: `Ending ${volta}`,
            pressed: measure.volta === volta,
            run: () => {
              this.remember();
              measure.volta = measure.volta === volta ? null : volta;
              this.choose(chosen);
            },
          });
        }
      }
      const remove = () => this.change(() => this.removeSystem(chosen));
      actions.push({ text: "Delete the system", run: remove });
    } else if (chosen?.kind === "empty") {
      advice = "No system here";
      actions.push({ text: "Add a system", run: () => this.change(() => this.addSystem(chosen)) });
    }
    this.byId("advice").textContent = advice;
    this.byId("actions").replaceChildren(
      ...actions.map(({ text, pressed, run }) => {
        const button = make("button", { type: "button", className: "wordy", textContent: text });
        button.onclick = run;
        if (pressed !== undefined) button.setAttribute("aria-pressed", String(pressed));
        return button;
      }),
    );
    this.byId("undo").disabled = !this.history.length;
  }

  key(event) {
    if (!this.open || event.target.closest("input, dialog")) return;
    const { key, ctrlKey, metaKey } = event;
    if ((ctrlKey || metaKey) && key === "z") {
      event.preventDefault();
      this.undo();
    } else if (key === "Escape") {
      event.preventDefault();
      if (this.chosen) this.choose(null);
      else this.leave();
    } else if (this.chosen?.kind === "bar" && (key === "Delete" || key === "Backspace")) {
      event.preventDefault();
      const { system, index } = this.chosen;
      this.change(() => this.removeBar(system, index));
    }
  }

  // the drawing

  draw() {
    for (const { marks } of this.stand.sheets.values()) {
      marks.querySelector(".draft")?.remove();
    }
    this.placing = [];
    if (!this.open) return;
    for (const { page, half } of this.stand.slots) {
      if (half === "lower") continue;
      const layer = make("div", { className: "draft" });
      this.stand.sheets.get(page).marks.append(layer);
      for (const system of this.systems(page)) this.drawSystem(layer, page, system);
      if (this.chosen?.page === page && this.chosen.kind !== "bar") this.drawGhost(layer);
    }
  }

  /** Adds an element over a box of the page, a function of what is corrected. */
  put(layer, element, box) {
    const place = () => cover(element, box());
    place();
    this.placing.push(place);
    layer.append(element);
  }

  drawGhost(layer) {
    const { x, y, system } = this.chosen;
    const { top, bottom } = system ?? { top: y - 0.01, bottom: y + 0.01 };
    const ghost = make("div", { className: "ghost" });
    this.put(layer, ghost, () => ({ left: x, right: x, top, bottom }));
  }

  drawSystem(layer, page, system) {
    this.put(layer, make("div", { className: "frame" }), () => system);
    system.measures.forEach(({ number, volta }, index) => {
      const text = volta ? `${number} · ${volta}.` : `${number}`;
      this.put(layer, make("span", { className: "name", textContent: text }), () => {
        const { left, right } = system.measures[index];
        return { left, right, top: system.top, bottom: system.top };
      });
    });
    for (const edge of ["top", "bottom"]) this.drawEdge(layer, page, system, edge);
    if (!system.measures.length) return;
    for (let index = 0; index <= system.measures.length; index += 1) {
      this.drawBar(layer, page, system, index);
    }
  }

  drawEdge(layer, page, system, edge) {
    const handle = make("button", { type: "button", className: "edge" });
    const name = edge === "top" ? "Upper" : "Lower";
    handle.setAttribute("aria-label", `${name} edge of the system`);
    this.drag(handle, {
      page,
      move: (x, y) => this.moveEdge(system, edge, y),
      nudge: (dx, dy) => this.moveEdge(system, edge, system[edge] + dy),
    });
    this.put(layer, handle, () => ({ ...system, top: system[edge], bottom: system[edge] }));
  }

  drawBar(layer, page, system, index) {
    const before = system.measures[index - 1];
    const after = system.measures[index];
    const { kind, system: one, index: at } = this.chosen ?? {};
    const chosen = kind === "bar" && one === system && at === index;
    const bar = make("button", { type: "button", className: "bar" });
    bar.dataset.ends = String(Boolean(before?.repeat_end));
    bar.dataset.begins = String(Boolean(after?.repeat_start));
    const signs = [before?.repeat_end && "repeat ends", after?.repeat_start && "repeat begins"];
    bar.setAttribute("aria-label", [barName(before, after), ...signs.filter(Boolean)].join(", "));
    bar.setAttribute("aria-pressed", String(chosen));
    const x = () => (after ? system.measures[index].left : system.measures[index - 1].right);
    this.drag(bar, {
      page,
      move: (to) => this.moveBar(system, index, to),
      nudge: (dx) => this.moveBar(system, index, x() + dx),
      tap: () => this.choose({ kind: "bar", page, system, index }),
    });
    this.put(layer, bar, () => ({ ...system, left: x(), right: x() }));
  }

  /** Moves something by pointer or by arrow keys, chooses it by a tap. */
  drag(element, { page, move, nudge, tap = () => {} }) {
    let from = null;
    let dragged = false;
    element.onpointerdown = (event) => {
      if (event.button !== 0) return;
      element.setPointerCapture(event.pointerId);
      from = { x: event.clientX, y: event.clientY };
      dragged = false;
    };
    element.onpointermove = (event) => {
      if (!from) return;
      if (!dragged) {
        if (Math.hypot(event.clientX - from.x, event.clientY - from.y) < 4) return;
        dragged = true;
        this.remember();
      }
      const box = this.stand.sheets.get(page).element.getBoundingClientRect();
      move((event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
      this.placing.forEach((place) => place());
    };
    element.onpointerup = element.onpointercancel = () => {
      from = null;
      if (dragged) this.choose(this.chosen);
    };
    element.onclick = () => {
      if (!dragged) this.keepFocus(element, page, tap);
      dragged = false;
    };
    element.onkeydown = (event) => {
      const steps = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
      const step = steps[event.key];
      if (!step || event.ctrlKey || event.altKey || event.metaKey) return;
      event.preventDefault();
      this.remember();
      nudge(step[0] * NUDGE, step[1] * NUDGE);
      this.keepFocus(element, page, () => this.choose(this.chosen));
    };
  }

  /** Acts, and finds the element again in what is drawn anew. */
  keepFocus(element, page, act) {
    const index = [...element.parentElement.children].indexOf(element);
    act();
    this.stand.sheets.get(page).marks.querySelector(".draft").children[index]?.focus();
  }
}
