/* The pages on the stand: which are shown, how large, and what is marked on them. */

const WIDTHS = [480, 848, 1240, 1754, 2480, 3508];
const SMALLEST_PAIR = 0.74; // of a single page's width, below which two pages are not shown
const LOW = 480; // height in pixels below which a wide screen shows a page in full width
const WIDEST = 900; // of such a page
const PAD = 0.011; // of the page's height, around a measure
const REACH = 0.03; // of the page's height, around a system that is tapped
const AHEAD = 2; // pages loaded before they are needed

const calm = matchMedia("(prefers-reduced-motion: reduce)");

export const make = (tag, properties = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};

/** Puts an element over a box of the page; fractions of it. */
export const cover = (element, { left, right, top, bottom }) => {
  element.style.left = `${100 * left}%`;
  element.style.top = `${100 * top}%`;
  element.style.width = `${100 * (right - left)}%`;
  element.style.height = `${100 * (bottom - top)}%`;
};

export class Stand {
  constructor(stage) {
    this.stage = stage;
    this.pages = [];
    this.systems = new Map();
    this.sheets = new Map();
    this.page = 1;
    this.half = false;
    this.slots = [];
    this.here = null;
    this.hover = make("div", { className: "hover" });
    new ResizeObserver(() => this.arrange()).observe(stage);
    visualViewport?.addEventListener("resize", () => {
      stage.classList.toggle("zoomed", this.zoomed);
      this.sharpen();
    });
  }

  get zoomed() {
    return (visualViewport?.scale ?? 1) > 1.02;
  }

  open({ key, pages, layout }) {
    if (key !== this.key) {
      this.key = key;
      this.pages = pages;
      this.page = Math.min(this.page, pages.length) || 1;
      for (const page of [...this.sheets.keys()]) this.drop(page);
    }
    this.read(layout);
    this.arrange();
    this.sharpen(true);
  }

  /** The systems and measures read so far. */
  read(layout) {
    this.layout = layout;
    this.systems = new Map(layout.pages.map(({ page, systems }) => [page, systems]));
  }

  // which pages

  show(page, half = false) {
    this.page = Math.min(Math.max(page, 1), this.pages.length);
    this.half = half && page > 1;
    this.arrange();
  }

  /** The page to ask for when the player turns ahead (1) or back (-1). */
  beside(direction) {
    const step = this.pair ? 2 : 1;
    const shown = this.pair ? this.first : this.page;
    if (this.half && !this.slots.every(({ half }) => !half)) {
      return direction > 0 ? this.page : this.page - 1;
    }
    const last = this.pair ? this.spread(this.pages.length) : this.pages.length;
    return Math.min(Math.max(shown + direction * step, 1), last);
  }

  get visible() {
    return [...new Set(this.slots.map(({ page }) => page))].sort((a, b) => a - b);
  }

  get pair() {
    const { clientWidth: width, clientHeight: height } = this.stage;
    const full = height * this.aspect(this.page);
    return this.pages.length > 1 && !this.wide && Math.min(width / 2, full) >= SMALLEST_PAIR * full;
  }

  get wide() {
    const { clientWidth: width, clientHeight: height } = this.stage;
    return height < LOW && width > height;
  }

  get first() {
    return this.spread(this.page);
  }

  spread(page) {
    return page - ((page - 1) % 2);
  }

  aspect(page) {
    const { width, height } = this.pages[page - 1];
    return width / height;
  }

  /** Which page stands where: {page, left, top, width, height, half}, in pixels. */
  arrange() {
    if (!this.pages.length) return;
    const { clientWidth: width, clientHeight: height } = this.stage;
    const fit = (page, room, from, half = "") => {
      const aspect = this.aspect(page);
      const wide = this.wide ? Math.min(room, WIDEST) : Math.min(room, height * aspect);
      const top = this.wide ? 0 : (height - wide / aspect) / 2;
      return { page, half, width: wide, height: wide / aspect, left: from(wide), top };
    };
    const middle = (size) => (width - size) / 2;
    const onLeft = (size) => width / 2 - size;
    const onRight = () => width / 2;
    if (!this.pair) {
      this.slots = [fit(this.page, width, middle, this.half ? "upper" : "")];
      if (this.half) this.slots.push(fit(this.page - 1, width, middle, "lower"));
    } else {
      // half a turn of two pages: the next stands left of the last of these
      const early = this.half && this.first === this.page;
      const [left, right] = early ? [this.page, this.page - 1] : [this.first, this.first + 1];
      this.slots =
        right > this.pages.length
          ? [fit(left, width, middle)]
          : [
              fit(left, width / 2, onLeft, early ? "left" : ""),
              fit(right, width / 2, onRight, early ? "right" : ""),
            ];
    }
    this.stage.classList.toggle("scrolls", this.wide);
    this.draw();
  }

  draw() {
    const shown = new Map(this.slots.map((slot) => [slot.page, slot]));
    const last = Math.max(...shown.keys());
    const first = Math.min(...shown.keys());
    for (let page = first - 1; page <= last + AHEAD; page += 1) {
      if (page >= 1 && page <= this.pages.length) this.sheet(page);
    }
    for (const [page, sheet] of this.sheets) {
      const slot = shown.get(page);
      if (page < first - 1 || page > last + AHEAD) {
        this.drop(page);
        continue;
      }
      sheet.element.classList.toggle("shown", Boolean(slot));
      sheet.element.setAttribute("aria-hidden", String(!slot));
      sheet.element.dataset.half = slot ? slot.half : "";
      const { left, top, width, height } = slot ?? this.slots[0];
      Object.assign(sheet.element.style, {
        left: `${left}px`,
        top: `${top}px`,
        width: `${width}px`,
        height: `${height}px`,
      });
      sheet.width = width;
    }
    this.sharpen();
    if (this.wide && this.scrolled !== this.page) {
      this.scrolled = this.page;
      this.stage.scrollTo(0, 0);
    }
    this.onshow?.();
  }

  sheet(page) {
    let sheet = this.sheets.get(page);
    if (!sheet) {
      const name = `Page ${page} of ${this.pages.length}`;
      const image = make("img", { alt: name, draggable: false, decoding: "async" });
      const marks = make("div", { className: "marks" });
      const element = make("div", { className: "sheet" }, image, marks);
      element.dataset.page = page;
      sheet = { element, image, marks, asked: 0 };
      image.onerror = () => (sheet.failed = true);
      this.sheets.set(page, sheet);
      this.stage.append(element);
    }
    return sheet;
  }

  drop(page) {
    this.sheets.get(page).element.remove();
    this.sheets.delete(page);
  }

  /** Pictures as wide as the screen shows them; `again` asks anew for those that failed. */
  sharpen(again = false) {
    const scale = devicePixelRatio * (visualViewport?.scale ?? 1);
    for (const [page, sheet] of this.sheets) {
      const wanted = WIDTHS.find((width) => width >= sheet.width * scale) ?? WIDTHS.at(-1);
      if (wanted <= sheet.asked && !(again && sheet.failed)) continue;
      sheet.asked = wanted;
      sheet.failed = false;
      const address = `/pages/${page}.png?width=${wanted}&key=${this.key}`;
      if (!sheet.image.src || again) {
        sheet.image.src = address;
        continue;
      }
      const sharper = new Image();
      sharper.src = address;
      sharper.decode().then(
        () => sheet.asked === wanted && (sheet.image.src = address),
        () => (sheet.asked = 0),
      );
    }
  }

  // what is marked

  /** The system and measure of a position: {page, system, measure}, or null. */
  find({ page, x, y, measure: number }) {
    const systems = this.systems.get(page) ?? [];
    const middle = ({ top, bottom }) => (top + bottom) / 2;
    const system = systems.reduce(
      (best, one) =>
        best && Math.abs(middle(best) - y) <= Math.abs(middle(one) - y) ? best : one,
      null,
    );
    if (!system) return null;
    const { measures } = system;
    const inside = (one) => one.left <= x && x < one.right;
    const named = measures.find((one) => one.number === number);
    const measure = named ?? measures.find(inside) ?? null;
    return { page, system, measure };
  }

  /** Highlights a measure, or its system where it has none; `place` from `find`, or null. */
  mark(place, sureness = 1) {
    const box = place && (place.measure ?? place.system);
    const key = box && `${place.page} ${place.system.top} ${box.left} ${box.right}`;
    const element = this.here?.element;
    if (key === (this.here?.key ?? null) && (!element || element.isConnected)) {
      if (element) element.style.setProperty("--sure", sureness);
      return;
    }
    this.clear();
    const sheet = place && this.sheets.get(place.page);
    if (!sheet) return;
    const { top, bottom } = place.system;
    const mark = make("div", { className: "here" });
    mark.style.setProperty("--sure", sureness);
    cover(mark, { ...box, left: box.left, right: box.right, top: top - PAD, bottom: bottom + PAD });
    sheet.marks.append(mark);
    void mark.offsetWidth; // so that it fades in
    mark.classList.add("on");
    this.here = { key, element: mark };
    this.follow(place);
  }

  clear() {
    const element = this.here?.element;
    this.here = null;
    if (!element) return;
    element.classList.remove("on");
    setTimeout(() => element.remove(), 900);
  }

  /** Where the page is higher than the screen, its system is kept in sight. */
  follow({ page, system }) {
    const slot = this.slots.find((one) => one.page === page);
    if (!this.wide || !slot || this.zoomed) return;
    const top = system.top * slot.height - 0.14 * this.stage.clientHeight;
    this.stage.scrollTo({ top, behavior: calm.matches ? "auto" : "smooth" });
  }

  /** What lies under a point of the window: {page, x, y, system, measure}, or null. */
  hit(clientX, clientY) {
    for (const slot of this.slots) {
      const box = this.sheets.get(slot.page).element.getBoundingClientRect();
      const x = (clientX - box.left) / box.width;
      const y = (clientY - box.top) / box.height;
      if (x < 0 || x > 1 || y < 0 || y > 1) continue;
      if (slot.half === "upper" && y >= 0.5) continue;
      const systems = this.systems.get(slot.page) ?? [];
      const away = ({ top, bottom }) => Math.max(top - y, y - bottom, 0);
      const system = systems
        .filter((one) => away(one) <= REACH)
        .sort((a, b) => away(a) - away(b))[0];
      const measure = system?.measures.find((one) => one.left <= x && x < one.right);
      return { page: slot.page, x, y, system: system ?? null, measure: measure ?? null };
    }
    return null;
  }

  /** Shows what a tap would choose. */
  point(place) {
    if (!place?.measure) return this.hover.remove();
    const { top, bottom } = place.system;
    cover(this.hover, { ...place.measure, top: top - PAD, bottom: bottom + PAD });
    this.sheets.get(place.page).marks.append(this.hover);
  }
}
